"""F1 of entities over sentences: counts of each are those of the metric, and the interval covers as it says."""

from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks.report.task import paired_words
from twinscale.benchmarks.rungs.sentences import counts_of, entities_of, f1_of, paired, paired_of
from twinscale.common.metrics import entities


def drawn(seed, rows=40, length=12, types=3):
    """(labels, predictions that are right more often than not, weights) of drawn sentences."""
    random = np.random.default_rng(seed)
    labels, others = random.integers(0, 2 * types + 1, (2, rows, length))
    best = np.where(random.random(labels.shape) < 0.8, labels, others)
    return labels, best, (random.random(labels.shape) < 0.8).astype(float)


def test_entities_begin_and_end_as_in_seqeval():
    assert entities_of([1, 2, 2, 0, 3, 1]) == {(1, 0, 3), (2, 4, 5), (1, 5, 6)}
    assert entities_of([2, 2, 4, 1, 1]) == {(1, 0, 2), (2, 2, 3), (1, 3, 4), (1, 4, 5)}  # an I- that continues nothing
    assert entities_of([]) == entities_of([0, 0]) == set()


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_of_all_sentences_are_the_sums_of_the_metric(seed):
    labels, best, weights = drawn(seed)
    sums = entities.statistics(np, np.eye(7)[best], labels, weights)
    counts = counts_of(labels, best, weights)
    assert counts.sum(0).tolist() == [sums[name].sum() for name in ("right", "predicted", "labelled")]
    f1, influence = f1_of(counts)
    assert f1 == pytest.approx(entities.finish(sums, ())["entity_f1"]) and influence.mean() == pytest.approx(0)


def test_the_influence_of_a_sentence_is_what_a_little_more_of_it_does_to_f1():
    counts = counts_of(*drawn(7))
    _, influence = f1_of(counts)
    for i in (0, 5, 11):
        weights = np.ones(len(counts))
        weights[i] += 1e-6
        moved = 2 * weights @ counts[:, 0] / (weights @ (counts[:, 1] + counts[:, 2]))
        assert (moved - f1_of(counts)[0]) * len(counts) / 1e-6 == pytest.approx(influence[i], rel=1e-3, abs=1e-5)


def test_equal_models_are_equivalent_and_a_worse_one_is_different():
    labels, best, weights = drawn(1, rows=400)
    same = counts_of(labels, best, weights)
    found = paired(same, same, 0.01)
    assert found["answer"] == "equivalent" and found["mean"] == 0.0 and found["interval"] == [0.0, 0.0]
    worse = counts_of(labels, np.where(np.random.default_rng(3).random(best.shape) < 0.5, best, 0), weights)
    assert paired(same, worse, 0.01)["answer"] == "different" and paired(same, worse, 0.01)["mean"] > 0.1


def test_the_interval_covers_the_difference_of_all_sentences_as_often_as_it_says():
    """Of 300 samples of 60 out of 6,000 sentences 90 % are to, within 4 standard deviations of a binomial share."""
    labels, best, weights = drawn(2, rows=6000)
    random = np.random.default_rng(5)
    first = counts_of(labels, best, weights)
    second = counts_of(labels, np.where(random.random(best.shape) < 0.9, best, 0), weights)
    truth = f1_of(first)[0] - f1_of(second)[0]
    covered = 0
    for _ in range(300):
        chosen = random.integers(0, len(first), 60)
        low, high = paired(first[chosen], second[chosen], 0.01)["interval"]
        covered += low <= truth <= high
    assert abs(covered / 300 - 0.9) < 4 * np.sqrt(0.09 / 300)


def test_it_is_said_of_two_runs_with_predictions_of_these_sentences():
    labels, best, weights = drawn(4)
    arrays = {"labels": labels, "weights": weights}

    class HeldOut:
        def __len__(self):
            return len(labels)

        def take(self, rows):
            return {name: x[rows] for name, x in arrays.items()}

    dataset, own = SimpleNamespace(held_out=HeldOut()), {"best": best}
    said = paired_words(paired_of(dataset, {"keras": own, "jax": own}, 0.01), ["Keras", "JAX"])
    assert "paired over 40 sentences: Keras - JAX = +0, 90 % interval [0, 0] inside ±0.01: equivalent." in said
    assert paired_of(dataset, {"jax": own}, 0.01) is None
    assert paired_of(dataset, {"keras": own, "jax": {"best": best[:3]}}, 0.01) is None
