"""Intervals over rounds, and what side by side measurements of two backends make of them, on synthetic timings."""

import math

import numpy as np
import pytest

from twinscale.benchmarks.rounds import holds, in_turns, median_interval, ratio_interval
from twinscale.common.machine.flops import best_rate, peak_flops


def test_intervals_hold_the_truth_as_often_as_they_say():
    """In 400 repetitions of a drifting machine; neither much less often nor always."""
    random, held = np.random.default_rng(0), {"median": 0, "ratio": 0}
    for _ in range(400):
        values = random.lognormal(0, 0.3, 12)
        low, _, high = median_interval(values)
        held["median"] += low <= 1 <= high
        drift = random.lognormal(0, 1, 12)  # slow and fast rounds, which both backends meet
        pairs = (1.3 * drift * random.lognormal(0, 0.05, 12), drift * random.lognormal(0, 0.05, 12))
        held["ratio"] += holds(ratio_interval(*map(list, pairs)), 1.3)
    assert all(0.92 * 400 < count < 0.995 * 400 for count in held.values()), held


def test_pairs_of_rounds_tell_what_drift_hides():
    drift = [1.0, 7.0, 2.0, 9.0, 1.5, 4.0]
    low, ratio, high = ratio_interval([1.1 * x for x in drift], drift)
    assert low == pytest.approx(1.1) == ratio == high
    assert holds(ratio_interval([1.1 * x for x in drift], drift[::-1]))  # no pairs: nothing is told


def test_few_rounds_and_no_pairs():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)
    assert ratio_interval([2.0], [1.0]) == (0.0, 2.0, math.inf)
    assert ratio_interval([1.0, 2.0], [1.0]) is None is ratio_interval([], []) is ratio_interval([1.0], [math.nan])


def test_who_goes_first_changes_and_a_first_round_is_left_out():
    order = []

    def answers(name):
        def answer():
            order.append(name)
            return float(len(order))
        return answer

    found = in_turns({name: answers(name) for name in "ab"}, 2)
    assert "".join(order) == "abbaab" and found == {"a": [4.0, 5.0], "b": [3.0, 6.0]}


def test_the_best_product_wins_and_is_named():
    asked = []

    def rate(name, *values):
        values = iter(values)
        return lambda: asked.append(name) or next(values)

    found = best_rate({"NumPy": rate("NumPy", 3.0, 1.0), "JAX": rate("JAX", 2.0, 4.0)}, turns=2)
    assert found == (4.0, "NumPy and JAX, JAX's,") and asked == ["NumPy", "JAX"] * 2
    peak, origin = peak_flops("CPU", "bfloat16", 1, lambda wide: (5.0, f"some {wide}"))
    assert (peak, origin) == (5.0, "best float32 matrix product of some float32 here")
    assert peak_flops("NVIDIA H100 80GB HBM3", "float32", 1, None)[0] == 989e12  # nothing is asked
