"""Two runs' states, judged by their twins: what may widen a bound, and what may not."""

import math

import numpy as np
import pytest

from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.runs import full, state_checks
from twinscale.common.numbers.sketch import distance, sketch

NOISE = 1e-7


@pytest.fixture
def states():
    """Two runs and a twin, apart by rounding; without a first moment, as under plain SGD. The key's bias is rounding
    alone."""
    rng = np.random.default_rng(0)
    exact = {f"weights/{name}": rng.normal(size=(20, 30)) for name in ("up.kernel", "down.kernel")}

    def rounded():
        moved = {name: x * (1 + NOISE * rng.uniform(-1, 1, x.shape)) for name, x in exact.items()}
        return moved | {"weights/key.bias": 1e-9 * rng.normal(size=30)}

    return {"a": rounded(), "b": rounded(), "a-twin": rounded()}


def failed(states, differ=full):
    checks, _ = state_checks(12, "float32", states, differ)
    return [check["where"] for check in checks if not check["agrees"]]


def test_rounding_agrees_and_null_directions_are_found(states):
    checks, null = state_checks(12, "float32", states, full)
    assert all(check["agrees"] for check in checks) and null == {"key.bias"}


def test_a_null_direction_is_judged_absolutely(states):
    """Rounding against rounding agrees though nothing of it is equal, a hundredth of the largest tensor does not."""
    checks, _ = state_checks(12, "float32", states, full)
    check = next(check for check in checks if check["where"] == "weights/key.bias")
    assert check["worst"] < check["bound"] < 1e-5 and "null direction" in check["what"]
    states["b"]["weights/key.bias"] = np.full(30, 0.03)
    assert failed(states) == ["weights/key.bias"]
    for tensors in states.values():
        tensors["weights/key.bias"] = np.zeros(30)
    assert failed(states) == []


def test_a_null_direction_widens_nobodys_bound(states):
    for name in ("weights/up.kernel", "weights/down.kernel"):
        states["b"][name] = 3 * states["b"][name]
    assert failed(states) == ["weights/down.kernel", "weights/up.kernel"]


@pytest.mark.parametrize("who", ["a", "b", "a-twin"])
def test_what_is_not_finite_agrees_with_nothing(states, who):
    states[who]["weights/up.kernel"][0, 0] = np.nan
    assert failed(states) == ["weights/up.kernel"]


def test_a_tensor_of_one_run_alone_is_named(states):
    del states["b"]["weights/down.kernel"]
    assert failed(states) == ["weights/down.kernel"]
    states["b"]["weights/other.kernel"] = states["b"].pop("weights/up.kernel")
    assert failed(states) == ["weights/down.kernel, weights/other.kernel, weights/up.kernel"]


def test_sketches_find_what_tensors_do(states):
    def sketched():
        return {run: {name: sketch(np, x) for name, x in tensors.items()} for run, tensors in states.items()}

    assert failed(sketched(), distance) == []
    states["b"]["weights/up.kernel"][3, 4] += 1e-3
    assert failed(sketched(), distance) == ["weights/up.kernel"]


def test_a_bound_that_is_not_finite_holds_nothing():
    assert not ladder.check("a", 1.0, math.inf, "there", "a twin")["agrees"]
    assert not ladder.check("a", math.inf, math.inf, "there", "a twin")["agrees"]
    assert not ladder.check("a", 0.0, math.nan, "there", "a twin")["agrees"]
