"""Rounds of a measurement, and what they say: medians, and ratios of what was measured in the same rounds, with their
intervals.

Machines drift, so that one round says little and neighbours in a round are compared with each other. An interval is
one of 95 %, or of as much as so few rounds can give.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import scipy

CONFIDENCE = 0.95
Key = TypeVar("Key", bound=Hashable)


def in_turns(asked: Mapping[Key, Callable[[], float]], rounds: int) -> dict[Key, list[float]]:
    """{key: what it answers in each of some rounds}, in which all take turns. Who goes first changes each round; a
    first one, which compiles or finds files cold, is left out."""
    taken: dict[Key, list[float]] = {key: [] for key in asked}
    for turn in range(rounds + 1):
        for key in list(asked)[::-1 if turn % 2 else 1]:
            found = asked[key]()
            if turn:
                taken[key].append(found)
    return taken


def median_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """(low, median, high): a round is above the true median as often as below, so that the interval's ends are two of
    the values by rank, whatever their distribution; below 6 values the least and the greatest."""
    ordered = np.sort(np.asarray(values, np.float64))
    rank = max(1, int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5)))
    return float(ordered[rank - 1]), float(np.median(ordered)), float(ordered[-rank])


def ratio_interval(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
                   ) -> tuple[float, float, float] | None:
    """(low, ratio, high) of the geometric mean of `first` / `second`, round by round; None where the rounds are not
    pairs. Of one round alone the interval is all there is."""
    if not first or not second or len(first) != len(second):
        return None
    pairs = np.asarray([first, second], np.float64)
    if not (np.isfinite(pairs).all() and (pairs > 0).all()):
        return None
    logs = np.log(pairs[0] / pairs[1])
    middle = float(np.exp(logs.mean()))
    if len(logs) == 1:
        return 0.0, middle, math.inf
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), middle, float(np.exp(logs.mean() + half))


def holds(interval: tuple[float, float, float], value: float = 1.0) -> bool:
    """Whether an interval, the middle in between, holds a value, so that no side of it is claimed."""
    low, _, high = interval
    return low <= value <= high
