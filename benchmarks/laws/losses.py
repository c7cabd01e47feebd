"""What a fit minimises: a sum over rows of a loss of the residual, predicted minus observed logarithms."""

from typing import NamedTuple

import numpy as np

from twinscale.common.errors import BadInput

HUBER, ABSOLUTE, ASYMMETRIC = "huber", "absolute", "asymmetric"
NAMES = (HUBER, ABSOLUTE, ASYMMETRIC)


class RobustLoss(NamedTuple):
    """A loss of residuals: Huber's (1964), r^2 / 2 up to delta and delta (|r| - delta / 2) beyond, times 2 `tilt` where
    what is predicted lies above what was observed, and 2 (1 - tilt) below. "absolute" is |r|, its limit over delta for
    a delta of 0. Summed over rows, never averaged: a mean of terms of this size ends solvers early."""

    name: str = HUBER
    delta: float = 1e-3
    tilt: float = 0.5

    def with_delta(self, delta: float) -> "RobustLoss":
        """The same with another delta."""
        return self._replace(delta=delta)

    def sides(self, residuals: np.ndarray) -> np.ndarray:
        """What each residual is weighed by for its sign."""
        return np.where(residuals > 0, 2 * self.tilt, 2 * (1 - self.tilt)) if self.tilt != 0.5 else np.ones(1)

    def values(self, residuals: np.ndarray) -> np.ndarray:
        """The loss of each residual, over delta where that is not 0 (so |r| for a large one)."""
        size = np.abs(residuals)
        if not self.delta:
            return self.sides(residuals) * size
        inside = size <= self.delta
        return self.sides(residuals) * np.where(inside, size * size / (2 * self.delta), size - self.delta / 2)

    def slopes(self, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(first, second derivative) of `values`, for a delta above 0."""
        sides = self.sides(residuals)
        inside = np.abs(residuals) <= self.delta
        return (sides * np.where(inside, residuals / self.delta, np.sign(residuals)),
                sides * inside / self.delta)

    def written(self, value: float) -> float:
        """The objective as it is published: the sum of Huber's terms, not over delta."""
        return value if self.name == ABSOLUTE else value * self.delta


def named(name: str, delta: float, tilt: float) -> RobustLoss:
    """The loss of `--objective`, `--delta` and `--tilt`. Raises BadInput where it is none."""
    if name not in NAMES:
        raise BadInput(f"--objective {name}: is none of {', '.join(NAMES)}")
    if not 0 < delta <= 10:
        raise BadInput(f"--delta {delta:g}: a number above 0 and at most 10 is wanted, of log loss")
    if not 0 < tilt < 1:
        raise BadInput(f"--tilt {tilt:g}: a share between 0 and 1 is wanted; above 0.5 a prediction that is too high "
                       "costs more")
    if tilt != 0.5 and name != ASYMMETRIC:
        raise BadInput(f"--tilt {tilt:g}: is of --objective {ASYMMETRIC}")
    return RobustLoss(name, 0.0 if name == ABSOLUTE else delta, tilt)
