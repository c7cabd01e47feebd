"""Sketches: what two of them say of the tensors that they stand for."""

import math

import numpy as np
import pytest

from twinscale.common.numbers.sketch import PROJECTIONS, SIZE, distance, signs, sketch

SHAPES = [(700,), (40, 30), (3, 3, 8, 16)]


def tensors(shape, count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_and_largest_element_are_exact(shape):
    (x,) = tensors(shape, 1)
    found = sketch(np, x)
    assert found.shape == (SIZE,) and found.dtype == x.dtype
    np.testing.assert_allclose(found[:2], [np.linalg.norm(x), np.abs(x).max()], rtol=1e-14)


def test_distance_estimates_the_norm_of_a_difference():
    """The mean of d^2 over many tensors is |x - y|^2 within 5 of its standard deviations, sqrt(8 / (16 n)) at most: in
    a matrix of rank one it varies the most."""
    rng, count = np.random.default_rng(2), 200
    kinds = [lambda shape=shape: rng.normal(size=shape) for shape in SHAPES]
    kinds.append(lambda: np.outer(rng.normal(size=40), rng.normal(size=30)))
    for kind in kinds:
        ratios = []
        for _ in range(count):
            d = kind()
            x = rng.normal(size=d.shape)
            estimate = distance(sketch(np, x + d), sketch(np, x))[0] * np.linalg.norm(x)
            ratios.append((estimate / np.linalg.norm(d)) ** 2)
        assert abs(np.mean(ratios) - 1) < 5 * math.sqrt(8 / PROJECTIONS / count)


@pytest.mark.parametrize("shape", [(50_257, 32), (64, 2048), (100_000,)])
def test_a_sketch_says_what_its_rounding_hides(shape):
    x = tensors(shape, 1)[0].astype(np.float32)
    apart, hidden, _ = distance(sketch(np, x), sketch(np, x.astype(np.float64)))
    assert apart < hidden < 1e-4


def test_one_changed_element_of_a_million_shows():
    """To the last digit: every projection moves by the change itself."""
    x = tensors((1000, 1000), 1)[0]
    y = x.copy()
    y[123, 456] += 1e-3
    apart, hidden, _ = distance(sketch(np, y), sketch(np, x))
    assert abs(apart * np.linalg.norm(x) - 1e-3) < 1e-9 and hidden < apart


def test_what_is_not_finite_is_infinitely_far():
    x, y = np.ones(5), np.array([1, 1, np.nan, 1, 1])
    assert distance(sketch(np, x), sketch(np, y))[0] == math.inf and distance(sketch(np, x), sketch(np, x))[0] == 0


def test_signs_are_fair_and_not_the_same_for_rows_and_columns():
    rows, columns = signs("leading", 1 << 14), signs("last", 1 << 14)
    assert set(np.unique(rows)) == {-1, 1}
    limit = 5 / math.sqrt(rows.size)  # standard deviations of a mean of independent signs
    assert abs(rows.mean()) < limit and abs((rows * columns).mean(dtype=float)) < limit
    together = rows.T.astype(float) @ rows / len(rows)
    assert np.abs(together - np.eye(PROJECTIONS)).max() < 5 / math.sqrt(len(rows))
