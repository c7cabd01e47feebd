"""The sums of a classification, by hand."""

import math

import numpy as np
import pytest

from twinscale.common.metrics import NEAR, finish, statistics


def example(shape=(6, 4), classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((*shape, classes)), rng.integers(0, classes, shape),
            rng.integers(0, 3, shape).astype(np.float64))


def test_statistics_are_the_weighted_sums():
    logits, labels, weights = example()
    found = statistics(np, logits, labels, weights)
    loss = correct = 0.0
    for i in np.ndindex(labels.shape):
        shares = np.exp(logits[i]) / np.exp(logits[i]).sum()
        loss -= weights[i] * math.log(shares[labels[i]])
        correct += weights[i] * (max(range(5), key=lambda c, i=i: logits[i][c]) == labels[i])
    assert found["loss"] == pytest.approx(loss, rel=1e-14)
    assert found["correct"] == correct > 0 and found["weight"] == weights.sum()


def test_statistics_add_up_over_any_parting():
    logits, labels, weights = example()
    whole = statistics(np, logits, labels, weights)
    parts = [statistics(np, logits[rows], labels[rows], weights[rows]) for rows in (slice(0, 1), slice(1, 6))]
    assert all(sum(part[key] for part in parts) == pytest.approx(x, rel=1e-14) for key, x in whole.items())
    means = np.mean([finish(part)["loss"] for part in parts])
    assert abs(means - finish(whole)["loss"]) > 1e-3  # a mean of means is something else


def test_padding_counts_for_nothing_whatever_it_holds():
    logits, labels, weights = example()
    weights[-2:] = 0
    changed = logits.copy()
    changed[-2:] = 1e6
    assert statistics(np, changed, labels, weights) == statistics(np, logits, labels, weights)


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    found = statistics(np, logits, np.array([0, 0]), np.ones(2, np.float32))
    assert found == {"loss": 1e4, "correct": 1, "weight": 2, "near": 0}


def test_near_ones_are_the_positions_whose_best_classes_are_close():
    """By sorting, where the sum has a maximum beside the maximum."""
    logits, labels, weights = example(shape=(40, 4))
    best = np.sort(logits)[..., -2:]
    wanted = weights[best[..., 1] - best[..., 0] < NEAR].sum()
    assert 0 < statistics(np, logits, labels, weights)["near"] == wanted < weights.sum()
    assert statistics(np, np.zeros((2, 3)), np.array([0, 1]), np.ones(2))["near"] == 2  # a tie is as near as can be


def test_a_tie_goes_to_the_first_class():
    assert statistics(np, np.zeros((2, 3)), np.array([0, 1]), np.ones(2))["correct"] == 1


def test_every_namespace_sums_the_same():
    """Sums of 24 terms in another order: 24 eps of the sum."""
    jnp = pytest.importorskip("jax.numpy")
    keras = pytest.importorskip("keras")
    kinds = ("float32", "int32", "float32")
    logits, labels, weights = (x.astype(kind) for x, kind in zip(example(), kinds, strict=True))
    wanted = statistics(np, logits, labels, weights)
    for xp in (jnp, keras.ops):
        found = statistics(xp, *map(xp.asarray if xp is jnp else xp.convert_to_tensor, (logits, labels, weights)))
        assert {key: float(x) for key, x in found.items()} == pytest.approx(
            {key: float(x) for key, x in wanted.items()}, rel=24 * 2.0**-23)
