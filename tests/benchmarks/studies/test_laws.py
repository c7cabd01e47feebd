"""Laws of two backends are held to one another by pairs: what a draw of recipes does to both is no difference."""

import numpy as np
import pytest

from twinscale.benchmarks.studies import laws
from twinscale.common.errors import BadInput

WANTED = laws.Wanted(40, 42, 0.9)
BACKENDS = ("jax", "keras")


def rows_of(backend, shift=0.0, tilt=0.0, sizes=4, noise=0.01):
    """Finished runs of a planted law with a scatter that both backends share."""
    scatter, rows = np.random.default_rng(5), []
    for n in np.geomspace(2e4, 1e6, sizes):
        for d in np.geomspace(3e4, 5e5, 4):
            loss = (1.5 + 30 / n**0.4 + (60 + tilt) / d**0.35) * np.exp(noise * scatter.standard_normal()) + shift
            rows.append({"backend": backend, "recipe": f"{n:.0f}-{d:.0f}", "state": "finished", "N": int(n),
                         "D": int(d), "C": 6.3 * n * d, "C_6ND": 6 * n * d, "loss": loss})
    return rows


def parity_of(one, other, ready=None):
    pairs = laws.paired([*one, *other], BACKENDS)
    return laws.parity(pairs, BACKENDS, WANTED, "results.parquet", ready or {})


def test_twins_agree_and_the_difference_is_told_far_better_than_either_law(monkeypatch):
    """Of fits that are there: all runs are paired, so these are the pairs' own."""
    one, other = rows_of("jax"), rows_of("keras", shift=1e-6)
    at = laws.budgets([*one, *other])
    ready = {"jax": laws.law_of(one, WANTED, at, "x")[0], "keras": laws.law_of(other, WANTED, at, "x")[0]}
    monkeypatch.setattr(laws, "law_of", None)
    found = parity_of(one, other, ready)
    assert found["agree"] and found["pairs"] == 16 and found["largest"]["difference"] == pytest.approx(1e-6)
    assert "agree within their intervals" in found["sentence"]
    size = next(row for row in found["rows"] if row["figure"].startswith("N* at"))
    width = size["jax"]["interval"][1] - size["jax"]["interval"][0]
    assert size["interval"][1] - size["interval"][0] < 0.05 * width


def test_a_backend_that_learns_worse_from_tokens_lies_apart_and_where_is_said():
    found = parity_of(rows_of("jax", noise=0.002), rows_of("keras", tilt=40, noise=0.002))
    assert not found["agree"] and "lie apart in" in found["sentence"]
    apart = {row["figure"].split(" at")[0] for row in found["rows"] if not (row["within"] or row["zero"])}
    assert "loss" in apart and found["largest"]["D"] == 30_000


def test_an_end_at_zero_that_the_rows_do_not_tell_is_no_difference():
    """Its value of all rows, 1e-16, may lie outside of what resamples come to."""
    names = ("jax", "keras")
    row = laws.compared("E", np.array([1e-16, 2e-16, 3e-16]), np.array([1e-16, 2e-16, 3e-16]), names, 0.9)
    assert not row["within"] and row["zero"]


def test_only_finished_runs_of_one_recipe_are_pairs():
    one, other = rows_of("jax"), rows_of("keras")
    one[0]["state"], other[5]["recipe"] = "failed", "another"
    pairs = laws.paired([*one, *other], BACKENDS)
    assert len(pairs) == 14 and all(a["recipe"] == b["recipe"] for a, b in pairs)
    with pytest.raises(BadInput, match="3 finished runs: a law of 5 parameters wants 8"):
        laws.law_of(one[:3], WANTED, (), "x")
