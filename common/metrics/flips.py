"""How many predictions may flip between two programs, and how far that moves what is counted."""

import math
from typing import Any

import numpy as np

NEAR = 0.25  # nats
EXACT = 2.0**-50  # 4 eps of float64, in which values are made of counts
CHANCE = 1e-6  # that more flip than are allowed to


def near_of(xp: Any, logits: Any, weights: Any) -> Any:
    """The weight of positions whose two largest logits are within NEAR of each other; arguments as at
    `classification.statistics`."""
    best = xp.expand_dims(xp.argmax(logits, axis=-1), -1)
    others = xp.not_equal(xp.arange(logits.shape[-1]), best)
    second = xp.max(xp.where(others, logits, xp.full_like(logits, -math.inf)), axis=-1)
    close = xp.greater(xp.subtract(second, xp.max(logits, axis=-1)), -NEAR)
    return xp.sum(xp.where(close, weights, xp.zeros_like(weights)))


def expected(near: float, weight: float, loss: float, width: float = NEAR) -> float:
    """Positions that are expected to flip where a mean of `weight` losses may differ by `loss`: its terms then differ
    by sqrt(weight) loss, and `near` of them are within `width` of flipping."""
    return min(weight, near / width * math.sqrt(weight) * loss)


def most(expected: float) -> float:
    """What a Poisson count of that mean exceeds with a chance of CHANCE."""
    import scipy

    return float(scipy.stats.poisson.isf(CHANCE, expected))


def shares(right: np.ndarray, predicted: np.ndarray, labelled: np.ndarray) -> tuple[np.ndarray, ...]:
    """(precision, recall, F1) of counts of one shape; 0 where nothing was predicted, or is there."""
    def over(x, y):
        return np.divide(x, y, out=np.zeros(np.shape(y)), where=np.asarray(y) > 0)

    return over(right, predicted), over(right, labelled), over(2.0 * np.asarray(right), predicted + labelled)


def shares_bounds(predicted: np.ndarray, labelled: np.ndarray, moved: float) -> tuple[np.ndarray, ...]:
    """How far `shares` may move where `right` and `predicted` may each move by `moved` (m).

    With p predicted, l labelled and r right of them: r'/p' - r/p = (r' - r)/p' + (r/p)(p - p')/p', which is 2m/(p - m)
    at most; r/l moves by m/l; and 2r/(p + l) by (2m + m)/(p + l - m). None moves by more than 1.
    """
    def over(x, y):
        return np.where(y > x, np.minimum(1.0, x / np.maximum(y, 1e-300)), 1.0 if moved else 0.0) + EXACT

    present = np.where(labelled > 0, labelled, 1.0)
    both = predicted + labelled
    return (over(2 * moved, np.asarray(predicted - moved, float)),
            np.where(labelled > 0, np.minimum(1.0, moved / present), 0.0) + EXACT,
            over(3 * moved, np.asarray(both - moved, float)))
