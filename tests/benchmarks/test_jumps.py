"""Networks of ReLUs below float64: a unit that flips in one backend is no error, and an error is not taken for one."""

import numpy as np
import pytest

from twinscale.benchmarks.jumps import TRIALS, free_checks, may_be_flips, trial_checks
from twinscale.benchmarks.rungs.ladder import check, loss_curve, rung
from twinscale.common.recipe.schema import Recipe

STEPS = list(range(TRIALS))
NOISE, FLIP = 1e-6, 1e-3


def recipe_of(family="convnet", precision="float32", **model):
    source = {"source": "stdlib" if family == "decoder" else "digits"}
    return Recipe.model_validate({"name": "steps", "data": source, "model": {"family": family, **model},
                                  "train": {"precision": precision}})


def trials(gradient=None, loss=None, later=None, flipping=0.9):
    """What both backends leave of steps: noise, loud twins that flip in a share of them, and what JAX adds at a step:
    to an element of its gradient, to its loss, to that an update later."""
    rng, made = np.random.default_rng(3), {}
    whole = {step: rng.standard_normal(50) for step in STEPS}
    loud = np.where(np.arange(TRIALS) < flipping * TRIALS, 8 * FLIP, 20 * NOISE)
    for backend, added in (("keras", {}), ("jax", {"gradient": gradient, "loss": loss, "later": later})):
        losses = np.full((3, TRIALS, 2), 2.0)
        losses[1] += 1e-6 * rng.standard_normal((TRIALS, 2))
        losses[2] += 1e-5 * rng.standard_normal((TRIALS, 2))
        losses[2, :, 1] += loud
        for n, what in enumerate(("loss", "later")):
            for step, value in (added.get(what) or {}).items():
                losses[:, step, n] += value
        made[backend] = {"loss": losses, "positions": 64,
                         "apart": np.stack([NOISE * rng.uniform(0.5, 1, TRIALS), loud])}
        for step in STEPS:
            x = whole[step] * (1 + NOISE * rng.uniform(-0.5, 0.5, 50))
            x[7] += (added.get("gradient") or {}).get(step, 0.0) * np.abs(x).max()
            made[backend][f"{step}/gradients/stem.conv.kernel"] = x
    return made


def agrees(**added):
    loss, checks = trial_checks("float32", trials(**added), STEPS)
    return all(c["agrees"] for c in (loss, *checks))


def test_without_a_flip_noise_alone_is_judged():
    assert agrees() and agrees(flipping=0.0)


@pytest.mark.parametrize("added", [{"gradient": {0: FLIP}}, {"gradient": {0: FLIP, 9: -FLIP}, "later": {0: FLIP}}])
def test_a_unit_that_flips_in_one_backend_now_and_then_is_chance(added):
    assert agrees(**added)


@pytest.mark.parametrize("added", [
    {"gradient": dict.fromkeys(STEPS, 1e-5)},  # ten times the noise, and no flip: as what is computed otherwise is
    {"gradient": dict.fromkeys(STEPS[::2], FLIP)},  # more often than units flip
    {"gradient": {3: 100 * FLIP}}, {"gradient": {3: np.nan}},  # dearer
    {"loss": {3: FLIP}},  # the loss itself has no flips
    {"later": dict.fromkeys(STEPS, FLIP)}])
def test_what_persists_repeats_costs_more_or_moves_the_loss_at_once_is_not(added):
    assert not agrees(**added)


def test_where_a_loud_twin_hardly_flips_two_flips_are_no_chance():
    assert agrees(gradient={0: FLIP / 200}, flipping=0.0)
    assert not agrees(gradient={0: FLIP, 5: FLIP, 9: FLIP}, flipping=0.0)


def verdict(*failed):
    """A verdict of which (rung, what, where) fail."""
    checks = {"P2": ("float32", "gradients/head.kernel"), "P3": ("float64", "m/head.kernel"),
              "P4": ("float64 loss", "step 3"), "P5": ("float32 loss", "step 3 of 9")}
    found = []
    for name, (what, where) in checks.items():
        bad = [check(*row[1:2], 1.0, 0.5, row[2], "a twin") for row in failed if row[0] == name]
        found.append(rung(name, name, name, [check(what, 0.1, 0.5, where, "a twin"), *bad]))
    return {"rungs": found}


EVALUATED = ("P5", "float32 held-out accuracy", "the evaluation")
GRADIENT, LATER = ("P2", "float32", "gradients/stem.conv.kernel"), ("P5", "float32 loss", "step 4 of 9")


@pytest.mark.parametrize("failed", [[GRADIENT], [LATER], [GRADIENT, LATER, EVALUATED]])
def test_a_second_look_is_for_what_a_flip_can_do(failed):
    assert may_be_flips(recipe_of(), verdict(*failed))
    assert may_be_flips(recipe_of("mlp", "bfloat16"), verdict()) is False
    assert not may_be_flips(recipe_of("decoder"), verdict(*failed))
    assert not may_be_flips(recipe_of("mlp", activation="gelu"), verdict(*failed))
    assert not may_be_flips(recipe_of(precision="float64"), verdict(*failed))


@pytest.mark.parametrize("other", [
    ("P2", "float32", "logits"), ("P2", "float32", "loss"), ("P2", "float64", "gradients/stem.conv.kernel"),
    ("P3", "float64", "m/head.kernel"), ("P4", "float64 loss", "step 2"),
    ("P4", "float64 weights", "weights/head.kernel"), ("P4", "float64 held-out loss", "the evaluation"),
    ("P5", "float32 held-out loss", "what JAX makes of its own sums")])
def test_a_wrong_activation_fails_where_no_flip_can_and_gets_no_second_look(other):
    assert not may_be_flips(recipe_of(), verdict(GRADIENT, LATER, other))


def curve(difference):
    """A free run's curve, the backends apart by `difference` at each step."""
    one = np.full(12, 2.0)
    runs = {"keras": {"loss": one}, "keras-twin": {"loss": one}, "jax": {"loss": one + difference},
            "jax-twin": {"loss": one + difference}, "positions": 64}
    return loss_curve(runs, "float32", 4)


def test_an_evaluation_after_a_jump_is_not_judged_and_without_one_is():
    evaluated = check("float32 held-out loss", 1e-3, 1e-6, "the evaluation", "a twin")
    counted = check("float32 held-out positions", 0, 0, "the evaluation", "bitwise")
    jumped = free_checks("float32", curve(np.where(np.arange(12) < 7, 1e-7, 1e-3)), [evaluated, counted])
    assert [c["what"] for c in jumped] == ["float32 held-out positions", "float32 loss"]
    assert all(c["agrees"] for c in jumped) and jumped[1]["where"].endswith("before a flip at 7")
    assert not all(c["agrees"] for c in free_checks("float32", curve(np.full(12, 1e-7)), [evaluated, counted]))
    assert not all(c["agrees"] for c in free_checks("float32", curve(np.arange(12) * 9e-7), [counted]))  # a drift
