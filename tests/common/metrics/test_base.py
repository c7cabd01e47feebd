"""Metrics against counts by hand, and as sums that add up."""

import math
from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.rungs.ladder import added_bounds
from twinscale.common.errors import BadInput
from twinscale.common.metrics import METRICS, finish, finished, higher_is_better, judge_apart, statistics, statistics_of
from twinscale.common.recipe.file import load


def example(shape=(6, 4), classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((*shape, classes)), rng.integers(0, classes, shape),
            rng.integers(0, 3, shape).astype(np.float64))


def test_what_a_person_reads():
    sums = {"loss": 6.0 * math.log(2), "correct": 1.0, "weight": 3.0}
    assert finish(sums) == {"loss": pytest.approx(2 * math.log(2)), "accuracy": pytest.approx(1 / 3)}
    text = finish(sums, label_bytes=2)
    assert text["perplexity"] == pytest.approx(4) and text["bits_per_byte"] == pytest.approx(3)
    assert finish({"loss": 1e6, "correct": 0, "weight": 1}, 1)["perplexity"] == math.exp(700)
    assert finish({"loss": 6.0, "weight": 3.0}, 2) == {"loss": 2.0}  # of no classes: neither hits nor a perplexity


@pytest.mark.parametrize("name", METRICS.builtin)
def test_metrics_that_judge_each_position_by_itself_add_up_over_parts_of_a_row(name):
    """And those that do not have others: an entity goes over several."""
    logits, labels, weights = example(classes=5)
    whole = statistics_of([name], np, logits, labels, weights)
    parts = [statistics_of([name], np, *(x[:, i::2] for x in (logits, labels, weights))) for i in range(2)]
    same = all(np.allclose(sum(part[key] for part in parts), x, rtol=1e-12) for key, x in whole.items())
    assert same == judge_apart([name]) == (name != "entities") and not judge_apart(["report", "entities"])


# ---- what somebody else measures

pytestmark = pytest.mark.usefixtures("trusting")
THEIRS = f"{Path(__file__).parents[3] / 'docs' / 'plugins' / 'theirs.py'}:BRIER"


def test_an_added_metric_is_made_of_its_own_sums_over_any_parting():
    logits, labels, weights = example()
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = (weights * ((shares - np.eye(5)[labels]) ** 2).sum(-1)).sum() / weights.sum()

    def sums(rows):
        judged = np, logits[rows], labels[rows], weights[rows]
        return statistics(*judged) | statistics_of([THEIRS], *judged)

    one, other = sums(slice(0, 2)), sums(slice(2, None))
    added_up = {key: one[key] + other[key] for key in one}
    assert finished([THEIRS], added_up) == {"brier": pytest.approx(wanted, rel=1e-13)}
    assert finished([], added_up) == {} and statistics_of([], np, logits, labels, weights) == {}
    assert finish(added_up) == pytest.approx(finish(statistics(np, logits, labels, weights)), rel=1e-13)


def test_two_metrics_of_one_name_are_refused(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from twinscale.common.metrics import Metric\nMINE = Metric('mine', None, lambda sums: {'loss': 0.0})\n")
    mine = f"{tmp_path}/mine.py:MINE"
    for names, said in (([THEIRS, THEIRS], "brier: brier is what"), ([mine], "mine: loss is what")):
        with pytest.raises(BadInput, match=said):
            finished(names, {"weight": 1.0, "brier.squares": 1.0, "brier.right": 0.5})


def test_metrics_are_tried_where_a_recipe_is_read(tmp_path):
    """What an evaluation could not use is found before the first compile, and names the metric."""
    (tmp_path / "mine.py").write_text(
        "from twinscale.common.metrics import Metric\n"
        "LOSS = Metric('mine', lambda xp, logits, labels, weights: {}, lambda sums: {'loss': 0.0})\n"
        "FLAT = Metric('flat', lambda xp, logits, labels, weights: {'hits': xp.sum(logits[labels])}, dict)\n"
        "WORDS = Metric('words', lambda *of: {}, lambda sums: {'grade': 'good'})\n")
    for name, said in ((f"{tmp_path}/mine.py:LOSS", "mine: loss is what another"),
                       ("classification", "classification: .* is what another"),
                       (f"{tmp_path}/mine.py:WORDS", "words: breaks on logits .*could not convert string to float"),
                       (f"{tmp_path}/mine.py:FLAT", "flat: breaks on logits of shape .2, 3, 5.: IndexError")):
        with pytest.raises(BadInput, match=said):
            load("mlp-digits", [f'train.metrics=["{name}"]'])


def ladder_runs(keras, jax, twin):
    """Evaluations of 100 positions whose Brier scores are given, as `compare.trainings` has them."""
    told = {"keras": keras, "keras-twin": twin, "jax": jax, "jax-twin": jax}
    return {"metrics": (THEIRS,)} | {run: {"held_out": {"brier": value}, "sums": {
        "weight": 100.0, "brier.squares": 100.0 * value, "brier.right": 50.0}} for run, value in told.items()}


def test_an_added_metric_may_differ_by_what_its_twins_do_and_by_no_more():
    bound, source = added_bounds("float32", ladder_runs(0.5, 0.5, 0.503), 4, 1e-9)["brier"]
    assert bound == pytest.approx(4 * 0.003) and "twin" in source
    still = added_bounds("float32", ladder_runs(0.5, 0.5, 0.5), 4, 1e-9)["brier"][0]
    assert 2.0**-24 < still < 1e-5  # what a mean of a hundred float32 values resolves


def test_a_metrics_own_bound_goes_before_its_twins(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from twinscale.common.metrics import Metric\n"
        "MINE = Metric('mine', None, lambda sums: {'brier': 0.0}, lambda sums, loss: {'brier': 7 * loss})\n")
    runs = ladder_runs(0.5, 0.5, 0.6) | {"metrics": (f"{tmp_path}/mine.py:MINE",)}
    assert added_bounds("float32", runs, 4, 0.25)["brier"] == (1.75, "mine's own, by the loss's bound")


@pytest.mark.parametrize("names, value, way", [
    ((), "loss", False), ((), "accuracy", True), ((), "entity_f1", None), (("entities",), "entity_f1", True),
    (("entities",), "bits_per_byte", False), (("entities",), "", None)])
def test_whether_more_of_a_value_is_better_is_said_by_its_metric(names, value, way):
    assert higher_is_better(names, value) is way
