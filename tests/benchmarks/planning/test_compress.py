"""Plans of what is served: the best is better than its neighbours, and moves where it should."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.kept import Kept, read_fit
from twinscale.benchmarks.planning.compress import Wanted, check, dense, plan_serving, serving, worth
from twinscale.benchmarks.planning.laws import LAWS
from twinscale.benchmarks.planning.serving_words import sentence
from twinscale.common.errors import BadInput

LAW = LAWS["besiroglu2024"]
BASE = read_fit("besiroglu2024")
SPANS = {"N": [1e8, 1e10], "D": [1e9, 1e12], "C": [1e18, 6e22]}


def fitted(name, boots=200, spans=SPANS):
    """A planted law as a fit would leave it."""
    public = np.array(PLANTED[name])
    spread = public * np.exp(0.001 * np.random.default_rng(0).standard_normal((boots, len(public))))
    return Kept(FORMS[name], public, spread, np.array([-0.003, 0.0, 0.003]), spans, 0.9, (), f"build/{name}")


def best(wanted, base=BASE, others=None):
    return serving(base, others or {}, wanted)["rows"][0]


def test_sixteen_bits_and_no_zeros_are_the_plain_law():
    row = best(Wanted(memory=4e9, tokens=1e11, bits=(16.0,), sparsity=(0.0,)))
    assert row["parameters"] == pytest.approx(2e9) and row["limited_by"] == "memory"
    assert row["loss"] == pytest.approx(LAW.loss(2e9, 1e11))
    free = best(Wanted(memory=1e15, flops=1e21, bits=(16.0,), sparsity=(0.0,)))
    assert (free["parameters"], free["tokens"]) == pytest.approx(LAW.best(1e21), rel=1e-3)
    assert free["limited_by"] == "training"


@pytest.mark.parametrize("wanted", [
    Wanted(memory=4e9, flops=1e22), Wanted(per_token=4e9, flops=1e22, served=1e12), Wanted(memory=1e12, flops=1e21),
    Wanted(memory=1e9, flops=1e21, teacher=(7e9, 140e9))])
def test_no_smaller_model_and_no_other_candidate_is_better(wanted):
    rows = serving(BASE, {}, wanted)["rows"]
    first = rows[0]
    assert len(rows) == 20 * (1 + bool(wanted.teacher)) and first["loss"] == min(row["loss"] for row in rows)
    assert all(row["memory"] <= (wanted.memory or np.inf) * 1.001 for row in rows)
    for factor in (0.5, 0.95):
        small = best(wanted._replace(memory=first["memory"] * factor, bits=(first["bits"],),
                                     sparsity=(first["sparsity"],)))
        assert small["loss"] > first["loss"]


def test_served_tokens_move_the_best_to_smaller_models():
    plain = Wanted(memory=1e15, flops=1e22, bits=(16.0,), sparsity=(0.0,))
    sizes = [best(plain._replace(served=served))["parameters"] for served in (0.0, 1e12, 1e13)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1.5 * sizes[-1]


def test_little_memory_asks_for_few_bits_and_few_operations_for_zeros():
    """Where a byte is dear fewer bits let more weights in; where an operation is, zeros cost none."""
    assert best(Wanted(memory=1e8, tokens=1e12))["bits"] < 16
    assert best(Wanted(per_token=1e8, tokens=1e12))["sparsity"] > 0
    assert best(Wanted(per_token=1e8, tokens=1e12))["bits"] == 16


def test_a_teacher_is_taken_where_tokens_are_few_and_never_where_it_knows_less():
    assert best(Wanted(memory=4e8, tokens=4e9, teacher=(7.75e9, 155e9)))["distilled"]
    assert not best(Wanted(memory=2e10, tokens=1e12, teacher=(1.5e8, 3e9)))["distilled"]
    rows = serving(BASE, {}, Wanted(memory=4e8, tokens=4e9))
    assert not any(row["distilled"] for row in rows["rows"]) and "not planned" in " ".join(rows["rests_on"])


@pytest.mark.parametrize("name", ["precision", "sparsity"])
def test_a_fit_of_bits_or_zeros_says_what_they_cost_in_place_of_the_literature(name):
    base, share = fitted(name), np.array([0.5])
    own = {"precision": {"bits": 4.0, "sparsity": 0.0}, "sparsity": {"bits": 16.0, "sparsity": 0.5}}[name]
    costs = worth(base, {})
    share = costs.bits(own["bits"]) * costs.kept(own["sparsity"]) * (1 - own["sparsity"])
    plain, size, tokens = dense(base), 1e9, 1e11
    columns = {"N": np.array([size * (1 - own["sparsity"])]), "D": np.array([tokens]), "bits": np.array([own["bits"]]),
               "sparsity": np.array([own["sparsity"]])}
    from twinscale.benchmarks.laws.curves import predicted
    assert plain.loss(size * share, tokens)[0] == pytest.approx(predicted(base.form, base.public[None], columns)[0, 0])
    words = " ".join(costs.notes)
    assert f"build/{name}" in words and words.count("literature") == 1


def test_resamples_give_intervals_and_say_how_often_a_candidate_is_the_best():
    base = fitted("chinchilla")
    others = {"precision": fitted("precision", 150), "sparsity": fitted("sparsity", 170)}
    result = serving(base, others, Wanted(memory=4e9, flops=1e22))
    first = result["rows"][0]
    assert result["resamples"] == 150 and first["interval"][0] < first["loss"] < first["interval"][1]
    assert first["loss_of_a_run"][0] < first["interval"][0]
    assert sum(row["best_of_resamples"] for row in result["rows"]) == pytest.approx(1)
    assert serving(BASE, others, Wanted(memory=4e9, flops=1e22))["resamples"] == 0
    assert "the best in" in sentence(result) and "90% of the law" in sentence(result)


def test_what_lies_far_beyond_the_laws_rows_is_warned_of_and_refused():
    base = fitted("chinchilla")
    warned = serving(base, {}, Wanted(memory=1e12, tokens=1e11, bits=(16.0,), sparsity=(0.0,)))
    assert "N = 5e+11 is 50 times above" in warned["warnings"][0]
    with pytest.raises(BadInput, match="--far"):
        serving(base, {}, Wanted(memory=1e13, tokens=1e11))
    two = serving(BASE, {}, Wanted(memory=1e9, tokens=1e11, bits=(2.0,), sparsity=(0.0,)))
    assert two["warnings"] == ["bits = 2 lies outside of the rows' 3 to 16"]


@pytest.mark.parametrize("more, words", [
    ({}, "--memory BYTES"), ({"memory": 1e9}, "either --flops"), 
    ({"memory": 1e9, "flops": 1e20, "tokens": 1e9}, "either"),
    ({"memory": float("nan"), "tokens": 1e9}, "--memory nan"),
    ({"memory": 1e9, "tokens": 1e9, "served": 1e9}, "--serve"),
    ({"memory": 1e9, "tokens": 1e9, "bits": (0.0,)}, "--bits 0"),
    ({"memory": 1e9, "tokens": 1e9, "sparsity": (1.0,)}, "--sparsity 1"),
    ({"memory": 1e9, "tokens": 1e9, "teacher": (-1.0, 1e9)}, "--teacher -1")])
def test_what_cannot_be_planned_is_said(more, words):
    with pytest.raises(BadInput, match=words):
        check(Wanted(**more))


def test_the_table_names_the_literature(capsys):
    assert plan_serving("besiroglu2024", {"memory": 4e9, "flops": 1e22}) == 0
    said = capsys.readouterr().out
    assert "literature: Kumar et al. 2024, table 2, not your runs" in said and "Frantar et al. 2023" in said
    assert "Serve 5.3" in said and "no interval" in said
    with pytest.raises(BadInput, match="chinchilla, but a fit of --law precision is wanted"):
        plan_serving("besiroglu2024", {"memory": 4e9, "flops": 1e22}, bits_law="hoffmann2022")
