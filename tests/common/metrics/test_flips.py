"""What flips may move, against all that they can do."""

import itertools

import numpy as np
import pytest

from twinscale.common.metrics.flips import EXACT, NEAR, expected, most, near_of, shares, shares_bounds


def test_positions_are_near_a_flip_where_two_logits_are():
    logits = np.array([[0.0, 0.1, -9], [0.0, 0.3, -9], [5.0, 5.0, 5.0]])
    assert near_of(np, logits, np.array([2.0, 1.0, 4.0])) == 6.0 and NEAR == 0.25


def test_as_many_may_flip_as_a_mean_of_losses_lets_expect_and_chance_adds_a_few():
    assert expected(10.0, 100.0, 0.001) == pytest.approx(10 / 0.25 * 10 * 0.001)
    assert expected(10.0, 100.0, 1e9) == 100.0  # no more than there are
    assert most(0.0) == 0.0 < most(1e-5) < most(1.0) and most(100.0) > 100 + 3 * 10


def test_shares_are_0_where_nothing_is_divided_by():
    found = shares(np.array([2.0, 0, 0]), np.array([4.0, 0, 3]), np.array([2.0, 0, 0]))
    assert [list(x) for x in found] == [[0.5, 0, 0], [1, 0, 0], [pytest.approx(4 / 6), 0, 0]]


def test_no_flip_moves_a_share_beyond_its_bound_and_some_come_near():
    """Every count up to 6 and every move of up to 2 of what is right and predicted."""
    closest = np.zeros(3)
    for moved, predicted, labelled in itertools.product((0, 1, 2), range(7), range(7)):
        bounds = [float(x[0]) for x in shares_bounds(np.array([predicted]), np.array([labelled]), moved)]
        for right in range(min(predicted, labelled) + 1):
            for other, more in itertools.product(range(-moved, moved + 1), repeat=2):
                r, p = right + other, predicted + more
                if not 0 <= r <= min(p, labelled):
                    continue
                was, now = (shares(*map(np.array, ([a], [b], [labelled]))) for a, b in ((right, predicted), (r, p)))
                apart = np.array([abs(x[0] - y[0]) for x, y in zip(was, now, strict=True)])
                assert (apart <= bounds).all(), (moved, predicted, labelled, right, r, p, apart, bounds)
                closest = np.maximum(closest, apart / bounds)
    assert (closest > 0.49).all()
    assert all(float(x[0]) == EXACT for x in shares_bounds(np.array([5.0]), np.array([5.0]), 0))
