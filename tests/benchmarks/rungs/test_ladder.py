"""P3 below float64: what rounding may decide is not judged, what it may not is. P4: nor what twins do not show."""

import numpy as np
import pytest

from twinscale.benchmarks.rungs import ladder
from twinscale.common.families.parameters import Parameter
from twinscale.common.operations.synthetic import synthetic_gradients
from twinscale.common.recipe.schema import Recipe

SHAPE = (400, 500)
TREE = {"head.kernel": Parameter(SHAPE)}


def optimizer(name, **values):
    return Recipe.model_validate({"name": "any", "data": {"source": "digits"}, "model": {"family": "mlp"},
                                  "optimizer": {"name": name, **values}}).optimizer


def lion(dtype, updates=3, clip=0.0):
    """{"UPDATE/GROUP/NAME": array} of Lion with beta1 0.9, beta2 0.99 and a rate of 1e-3, computed in `dtype`."""
    w, m, found = np.ones(SHAPE, dtype), np.zeros(SHAPE, dtype), {}
    b1, b2, rate = (dtype(x) for x in (0.9, 0.99, 1e-3))
    for update in range(updates):
        g = synthetic_gradients(TREE, update)["head.kernel"]
        g = (g * (min(1.0, clip / np.sqrt((g * g).sum())) if clip else 1.0)).astype(dtype)
        w = w - rate * np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
        found |= {f"{update}/weights/head.kernel": w, f"{update}/m/head.kernel": m}
    return found


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_sign_that_rounding_decides_is_not_judged_and_any_other_is(clip):
    keras, section = lion(np.float32, clip=clip), optimizer("lion", beta1=0.9, beta2=0.99, clip_norm=clip)
    unsure = ladder.unsure_signs(keras, section)["1", "head.kernel"]
    keras["1/weights/head.kernel"] = np.where(unsure, 5.0, keras["1/weights/head.kernel"]).astype(np.float32)
    states = {"float32": {"keras": keras, "jax": lion(np.float32, clip=clip)}}
    assert ladder.optimizer_rung(states, section)["agrees"] and unsure.mean() < 1e-4
    place = tuple(np.argwhere(~unsure)[0])
    keras["1/weights/head.kernel"][place] += 2e-3
    assert not ladder.optimizer_rung(states, section)["agrees"]


def test_a_flip_by_wider_arithmetic_is_among_the_unsure():
    narrow, wide = lion(np.float32, updates=2), lion(np.float64, updates=2)
    name = "1/weights/head.kernel"
    flipped = np.abs(narrow[name].astype(np.float64) - wide[name]) > 1e-3
    unsure = ladder.unsure_signs(narrow, optimizer("lion", beta1=0.9, beta2=0.99))["1", "head.kernel"]
    assert not (flipped & ~unsure).any()


def test_a_rounded_beta_costs_its_share_and_a_moment_in_bfloat16_far_more():
    section = optimizer("adamw", beta2=0.999)
    v = np.full(SHAPE, 1e-3)
    off = {"keras": {"0/v/head.kernel": v.astype(np.float32)},
           "jax": {"0/v/head.kernel": (v * (1 + 2.0**-24 / (1 - 0.999))).astype(np.float32)}}
    assert ladder.optimizer_rung({"bfloat16": off}, section)["agrees"]
    assert not ladder.optimizer_rung({"float64": off}, section)["agrees"]
    m = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    coarse = (m.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    found = ladder.optimizer_rung({"bfloat16": {"keras": {"0/m/head.kernel": m}, "jax": {"0/m/head.kernel": coarse}}},
                                  optimizer("adamw", beta2=0.95))
    assert not found["agrees"] and found["worst"] > 10 * found["bound"]


def first_steps(keras, jax):
    """{run: {name: array}} of a first step whose one other gradient is large, with what a twin makes of rounding."""
    rng = np.random.default_rng(0)
    runs = {"keras": {"gradients/a": keras, "gradients/b": np.ones(3)},
            "jax": {"gradients/a": jax, "gradients/b": np.ones(3)}}
    return runs | {f"{b}-twin": {name: x * (1 + 1e-16 * rng.normal(size=3)) for name, x in of.items()}
                   for b, of in runs.items()}


def test_a_gradient_that_one_side_alone_lacks_is_no_null_direction():
    zeros, some = np.zeros(3), np.array([0.1, -0.2, 0.3])
    assert ladder.null_directions(first_steps(zeros, zeros)) == {"a"}
    for keras, jax in ((zeros, some), (some, zeros)):
        runs = first_steps(keras, jax)
        assert ladder.null_directions(runs) == set()
        off = [c["where"] for c in ladder.first_step_checks("float64", runs, set(), 1e-14, "") if not c["agrees"]]
        assert off == ["gradients/a"]
    noise = first_steps(1e-17 * some, 1e-17 * some) | {"jax-twin": {"gradients/a": -1e-17 * some,
                                                                    "gradients/b": np.ones(3)}}
    assert ladder.null_directions(noise) == {"a"}


def test_p0_says_where_first_weights_of_the_users_come_from():
    same = {side: {"weights": "1"} for side in ("keras", "jax")}
    rung = ladder.contract_rung(same, begun="the checkpoint mine.keras, of the Keras model")
    assert rung["agrees"] and rung["where"].endswith("first weights: the checkpoint mine.keras, of the Keras model")
    assert "first weights" not in ladder.contract_rung(same)["where"]


ROWS, POSITIONS = 8, 4000


def trained(sum_of, order=None, rate=1e-2, steps=40, fault=0.0):
    """Losses, weights and first gradient, which is left over where large terms cancel, of a least-squares fit whose
    gradient `sum_of` adds up over (positions, rows, weights), rows taken in an `order` within the batch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(POSITIONS, ROWS, 3)) + 1
    y = x @ [1.0, -2.0, 0.5] + rng.normal(size=(POSITIONS, ROWS))
    offset = rng.normal(size=(POSITIONS, 1, 3)) * 3e3
    x, y = (a[:, order] if order is not None else a for a in (x, y))
    w, losses, first = np.zeros(3), [], None
    for _ in range(steps):
        apart = x @ w - y
        losses.append(float((apart**2).mean()))
        gradient = sum_of(2 * apart[..., None] * x + offset - offset.mean(0)) / y.size
        first = gradient if first is None else first
        w = w - rate * (gradient + fault)
    return {"loss": np.array(losses), "norm": np.zeros(steps), "weights": {"weights/w": w}, "first": first}


def by_positions(terms):
    """One accumulator: all rows of a position, then of the next."""
    return np.cumsum(terms.reshape(-1, terms.shape[-1]), 0)[-1]


def exactly(terms):
    return terms.astype(np.longdouble).sum((0, 1)).astype(np.float64)


def judged(fault=0.0, look=True):
    """P4 of one side that adds up `by_positions` and one that rounds once, each with its twin."""
    order = np.random.default_rng(1).permutation(ROWS)
    runs = {"keras": trained(by_positions, fault=fault), "keras-twin": trained(by_positions, order, fault=fault),
            "jax": trained(exactly), "jax-twin": trained(exactly, order)}
    first = {run: {"gradients/w": of["first"]} for run, of in runs.items()}
    share = ladder.unshown(first, set(), ROWS * POSITIONS) if look else 1.0
    return ladder.semantics_rung({"positions": ROWS * POSITIONS, "unshown": share} | runs, {}, None, None)[0], share


def test_rounding_that_twins_do_not_show_is_no_fault_and_a_small_fault_still_is_one():
    rung, share = judged()
    assert rung["agrees"] and share > 3
    assert not judged(look=False)[0]["agrees"]
    assert not judged(fault=1e-10)[0]["agrees"]


def test_a_difference_that_p2_refuses_widens_no_further_bound():
    step = {"gradients/w": np.ones(3)}
    runs = {run: step for run in ("keras", "keras-twin", "jax-twin")}
    floor = 16 * np.sqrt(100)
    for apart in (1e-9, 1.0, np.inf):
        assert ladder.unshown(runs | {"jax": {"gradients/w": np.ones(3) + apart}}, set(), 100) <= floor
    assert ladder.unshown({"jax": step} | runs, set(), 100) == 1
    assert ladder.unshown(runs | {"jax": {"gradients/w": np.ones(3) + 1}}, {"w"}, 100) == 1
