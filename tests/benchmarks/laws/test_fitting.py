"""A fit with what is said of it: what is not known is not printed as known, and what lies far away is refused."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED, planted
from twinscale.benchmarks.laws import fitting
from twinscale.benchmarks.laws.fitting import Asked, fit_table, form_named
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.losses import RobustLoss
from twinscale.benchmarks.laws.table import Table
from twinscale.common.errors import BadInput


def table_of(columns, y):
    return Table(columns, y, np.arange(len(y)).astype(str), {}, "results.csv")


def asked(name="chinchilla", **more):
    return Asked(FORMS[name], RobustLoss(), **({"boots": 60} | more))


def test_a_planted_law_is_fitted_and_advises():
    columns, y = planted("chinchilla", noise=0.003)
    largest = columns["C"].max()
    found = fit_table(table_of(columns, y), asked(budgets=(largest * 5, largest * 50)))
    result = found.result
    assert [row["known"] for row in result["parameters"]] == [True] * 5 and not result["warnings"]
    for row, true in zip(result["parameters"], PLANTED["chinchilla"], strict=True):
        assert row["interval"][0] < row["value"] < row["interval"][1]
        assert abs(row["value"] - true) < 6 * row["deviation"]
    near, far = result["optima"]
    assert not near["far"] and far["far"] and "50 times the largest" in result["sentence"]
    assert near["intervals"]["loss_of_a_run"][0] < near["intervals"]["loss"][0]
    assert result["certificate"]["converged"] and {row["axis"] for row in result["held_out"]} == {"N", "D", "C"}
    assert [row["approach"] for row in result["approaches"]] == ["1", "2", "3"]


def test_a_budget_far_beyond_the_runs_is_refused_unless_said():
    columns, y = planted("chinchilla", noise=0.003)
    budget = columns["C"].max() * 1000
    with pytest.raises(BadInput, match="is 1,000 times the largest compute.*--far"):
        fit_table(table_of(columns, y), asked(budgets=(budget,)))
    assert fit_table(table_of(columns, y), asked(budgets=(budget,), far=True, boots=0)).result["optima"][0]["far"]
    with pytest.raises(BadInput, match="advises none"):
        fit_table(table_of(columns, columns["D"] ** 0.5), asked("batch-size", budgets=(1e20,)))


def test_a_term_that_vanishes_is_on_its_boundary_and_not_known():
    columns, _ = planted("chinchilla")
    y = 400 / columns["N"]**0.34 + 500 / columns["D"]**0.3  # nothing irreducible
    y *= np.exp(0.002 * np.random.default_rng(0).standard_normal(len(y)))
    result = fit_table(table_of(columns, y), asked(boots=0)).result
    unsure = [row["name"] for row in result["parameters"] if not row["known"]]
    value = next(row["value"] for row in result["parameters"] if row["name"] == "E")
    assert unsure == ["E"] and any("E is on its boundary" in words for words in result["warnings"]) or value < 0.1
    assert "E not known" in result["sentence"] or value < 0.1


def test_what_the_rows_cannot_tell_apart_is_named(monkeypatch):
    monkeypatch.setattr(fitting, "SPLIT", 1e4)
    columns, _ = planted("chinchilla")
    tied = columns | {"D": 20 * columns["N"]}
    y = 1.8 + 400 / tied["N"]**0.3 + 500 / tied["D"]**0.31
    y *= np.exp(0.001 * np.random.default_rng(0).standard_normal(len(y)))
    result = fit_table(table_of(tied, y), asked(boots=0)).result
    assert not all(row["known"] for row in result["parameters"]) and result["warnings"]


def test_approaches_that_part_beyond_their_intervals_are_told():
    rows = [{"approach": "1", "found": True, "a": 0.4, "interval": [0.39, 0.41]},
            {"approach": "2", "found": False, "a": None, "interval": None},
            {"approach": "3", "found": True, "a": 0.5, "interval": [0.48, 0.52]}]
    assert "1 and 3 disagree beyond" in fitting.disagreement(rows)
    rows[0]["interval"] = [0.39, 0.49]
    assert "within each other's" in fitting.disagreement(rows) and fitting.disagreement(rows[:2]) == ""


def test_a_law_is_of_a_known_name():
    with pytest.raises(BadInput, match="--law chinchila: is none of .*chinchilla"):
        form_named("chinchila")
