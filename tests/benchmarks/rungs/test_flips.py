"""Flips are allowed as many and as dear as a loud twin shows; what drifts, repeats or costs more parts."""

import numpy as np
import pytest

from twinscale.benchmarks.rungs.flips import flip_checks, shadowed, until_jump
from twinscale.benchmarks.rungs.ladder import loss_curve

STEPS = list(range(20))


def series(pair, loud=1e-4):
    found = {name: np.full(20, size) for name, size in
             {"pair": 1e-7, "twin": 2e-7, "loud": 1e-6, "floor": 1e-6}.items()}
    found["loud"][::3] = loud
    for step, value in pair.items():
        found["pair"][step] = value
    return {"loss": found}


def agrees(pair):
    return all(check["agrees"] for check in flip_checks("float32", series(pair), STEPS))


@pytest.mark.parametrize("pair", [{}, {7: 5e-5}, {19: 5e-5}])
def test_a_flip_of_a_known_cost_is_chance(pair):
    assert agrees(pair)


@pytest.mark.parametrize("pair", [
    dict.fromkeys(STEPS, 5e-6), dict.fromkeys(range(0, 20, 2), 5e-5), {7: 1e-3}, {7: np.nan}, {7: np.inf}])
def test_what_persists_repeats_or_costs_more_is_not(pair):
    assert not agrees(pair)


def test_a_flip_at_the_first_step_is_chance_where_all_others_are_equal_to_the_bit():
    found = series({0: 5e-5})
    found["loss"]["pair"][1:] = 0.0
    assert all(check["agrees"] for check in flip_checks("float32", found, STEPS))


def test_a_loud_twins_noise_is_no_flip():
    found = series({7: 5e-5, 11: 5e-5, 15: 5e-5})
    assert all(check["agrees"] for check in flip_checks("float32", found, STEPS))
    found["loss"]["spread"] = np.full(20, 1e-3)  # none of the loud twin's is more than its noise
    assert not all(check["agrees"] for check in flip_checks("float32", found, STEPS))


def test_a_twins_own_flip_widens_no_bound():
    found = series(dict.fromkeys(STEPS, 5e-6))
    found["loss"]["twin"][3] = 1e-3
    assert not all(check["agrees"] for check in flip_checks("float32", found, STEPS))


def free(difference):
    one = np.full(20, 2.0)
    runs = {"keras": {"loss": one}, "keras-twin": {"loss": one}, "jax": {"loss": one + difference},
            "jax-twin": {"loss": one + difference}, "positions": 32}
    return until_jump(loss_curve(runs, "float32", 4))


def test_a_jump_ends_what_is_judged_of_free_runs_and_a_drift_does_not():
    assert free(np.where(np.arange(20) < 12, 1e-7, 1e-4))["jump"] == 12
    assert free(np.zeros(20))["jump"] is None
    assert free(np.arange(20) * 5e-7)["jump"] is None  # which the bound then parts


def test_shadowed_steps_are_spread_and_hold_both_ends():
    assert shadowed(20) == STEPS
    assert len(shadowed(500)) == 32 and shadowed(500)[0] == 0 and shadowed(500)[-1] == 499
