"""P3 of two optimizers of which nothing is written: what is compared, and what a difference is measured to be."""

import numpy as np
import pytest

from twinscale.benchmarks.rungs.own_optimizers import compared, own_cause, own_rung
from twinscale.common.operations.synthetic import synthetic_gradients
from twinscale.common.optimizers import PairOptions

OWN = PairOptions(keras="mine:keras", jax="mine:jax")
NAME, SHAPE = "hidden.kernel", (40, 30)
BETA1, BETA2 = 0.9, 0.999


def adam(epsilon, before=False, decay=0.0, rate=1e-3):
    """What Adam leaves after two updates; with `before`, its epsilon is added before bias correction."""
    w, m, v, found = np.random.default_rng(0).standard_normal(SHAPE), 0.0, 0.0, {}
    for t in (1, 2):
        g = synthetic_gradients({NAME: np.empty(SHAPE)}, t - 1)[NAME]
        m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g**2
        root = np.sqrt(1 - BETA2**t)
        u = m / (1 - BETA1**t) / (np.sqrt(v) / root + (epsilon / root if before else epsilon))
        w = w - rate * (u + decay * w)
        found |= {f"{t - 1}/weights/{NAME}": w, f"{t - 1}/m/{NAME}": m, f"{t - 1}/v/{NAME}": v}
    return found


def momentum(rates, inside, start=0.0):
    """What SGD with a momentum of 0.5 leaves, its rates inside of the momentum or not."""
    w, m, found = start * np.random.default_rng(0).standard_normal(SHAPE), 0.0, {}
    for t, rate in enumerate(rates):
        g = synthetic_gradients({NAME: np.empty(SHAPE)}, t)[NAME]
        m = 0.5 * m + (rate * g if inside else g)
        w = w - (m if inside else rate * m)
        found[f"{t}/weights/{NAME}"] = w
    return found


def judged(keras, jax):
    """(the rung, its cause) of what two optimizers left in float64."""
    sides = {"keras": keras, "jax": jax}
    found = own_rung({"float64": sides}, OWN)
    return found, own_cause([c for c in found["checks"] if not c["agrees"]], sides, OWN)


def test_one_optimizer_agrees_with_itself_and_has_no_cause():
    found, told = judged(adam(1e-8), adam(1e-8))
    assert found["agrees"] and told is None and "not compared" not in found["proves"]


@pytest.mark.parametrize("other,operation,said", [
    (adam(1e-7, before=True), "update", "epsilon of 1.0e-7 to sqrt(v), optax one of 4.5e-10, which is 1.0e-8 after"),
    (adam(1e-8, decay=0.1), "decay", "Keras' update takes 1.0e-4 of the weight away"),
    (adam(1e-8, rate=2e-3), "schedule", "Keras' stride is 2.0 times as long")])
def test_what_of_adam_differs_is_measured(other, operation, said):
    found, told = judged(other, adam(1e-8))
    assert not found["agrees"] and told["operation"] == operation and said in told["sentence"]


@pytest.mark.parametrize("start", [0.0, 1.0])  # of a bias, and of a kernel
def test_a_rate_inside_of_the_momentum_is_told_from_one_outside(start):
    assert judged(momentum([0.1, 0.1], True, start), momentum([0.1, 0.1], False, start))[0]["agrees"]
    found, told = judged(momentum([0.1, 0.05], True, start), momentum([0.1, 0.05], False, start))
    assert not found["agrees"] and "takes 0.050 of the gradient before it, optax' 0.025" in told["sentence"]


def test_what_is_none_of_what_is_known_has_no_cause():
    odd = adam(1e-8)
    odd[f"1/weights/{NAME}"] = odd[f"1/weights/{NAME}"] + np.random.default_rng(1).standard_normal(SHAPE)
    found, told = judged(odd, adam(1e-8))
    assert not found["agrees"] and told is None


def test_slots_are_compared_by_name_and_shape_and_what_is_not_is_said():
    keras, jax = adam(1e-8), adam(1e-8)
    keras[f"0/keras.hats/{NAME}"] = keras.pop(f"0/v/{NAME}")
    jax[f"1/m/{NAME}"] = np.zeros(3)
    kept, left = compared({"keras": keras, "jax": jax}, OWN)
    assert kept["keras"].keys() == kept["jax"].keys() and left == {"keras": {"keras.hats", "m"}, "jax": {"m", "v"}}
    found, _ = judged(keras, jax)
    assert found["agrees"] and "Keras' hats, m and JAX's m, v" in found["proves"]
    del jax[f"0/weights/{NAME}"]  # a weight that one side lacks is no slot
    assert not judged(keras, jax)[0]["agrees"]


def test_a_lower_precision_may_cost_what_it_costs_the_better_side_beside_its_own_float64():
    wide = {"keras": adam(1e-8), "jax": adam(1e-8)}
    narrow = {side: {name: x * (1 + 1e-4) for name, x in found.items()} for side, found in wide.items()}
    assert own_rung({"float64": wide, "float32": narrow}, OWN)["agrees"]
    narrow["jax"] = {name: x * (1 + 1e-3) for name, x in wide["jax"].items()}
    assert not own_rung({"float64": wide, "float32": narrow}, OWN)["agrees"]
