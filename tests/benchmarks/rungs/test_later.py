"""One step taken apart, from tensors made by hand in float64 and in bfloat16: what a backend does with its own
micro-batches, random bits, statistics and rate is said of it, and what differs in one update is named."""

import numpy as np
import pytest

from twinscale.benchmarks.rungs import placing
from twinscale.benchmarks.rungs.ladder import check
from twinscale.benchmarks.rungs.later import counted, suspects, taken_apart
from twinscale.common.calls.one_step import share
from twinscale.common.operations.references import FORMATS
from twinscale.common.recipe.schema import Recipe
from twinscale.common.schedules import learning_rates

WEIGHTS, NAMES, STEP = (10.0, 30.0, 20.0), ("norm.scale", "head.kernel", "norm.bias"), 3
POINT = f"trace/step_{STEP}.safetensors"


def recipe_of(precision, **sections):
    return Recipe.model_validate({
        "name": "tiny", "data": {"source": "text:*.txt", "sequence": 4}, "schedule": {"kind": "cosine", "warmup": 5},
        "train": {"precision": precision, "accumulate": 3, "steps": 9, "global_batch": 6},
        "model": {"family": "decoder", "layers": 1, "width": 4, "heads": 2, "dropout": 0.1, "tied": False}, **sections})


def noisy(x, precision, rng):
    """What a precision makes of a value: another roundoff each time that it is computed."""
    return x * (1 + 0.5 * FORMATS[precision].eps * rng.uniform(-1, 1, np.shape(x)))


def means_of(weights):
    """How often micro-batches of these weights are in a mean of their means."""
    return tuple(sum(weights) / len(weights) / w for w in weights)


def step(precision, seed, counts=lambda weights: (1, 1, 1), weights=WEIGHTS, **changes):
    """What `whole_step` leaves of a step that has micro-batch I `counts(weights)[I]` times in its gradient."""
    exact, rng = np.random.default_rng(0), np.random.default_rng(seed)
    parts = [{name: w * exact.normal(size=(40, 5)) for name in NAMES} for w in weights]
    for part in parts:
        part["norm.bias"] = part["norm.bias"] * 1e-18 * (1 + rng.normal(size=(40, 5)))  # a null direction
    losses = [w * loss for w, loss in zip(weights, (2.0, 3.0, 2.5), strict=True)]
    found = {**{key: noisy(sum(losses) / sum(weights), precision, rng) for key in ("total/loss", "told/loss")},
             "drawn 0/loss": np.array(2.61), "drawn 4/loss": np.array(2.73),
             "told/learning_rate": np.array(learning_rates(recipe_of(precision))[STEP])}
    for i, part in enumerate(parts):
        found |= {f"part {i}/weight": np.array([weights[i]]), f"part {i}/loss": np.array([losses[i]])}
        found |= {f"part {i}/gradients/{name}": noisy(x, precision, rng) for name, x in part.items()}
        found[f"part {i}/running/norm.var"] = np.full(3, 1.0 + i)
    for kind, shares in (("total", (1, 1, 1)), ("uneven", [share(i) for i in range(3)])):
        heavy = [w * s for w, s in zip(weights, shares, strict=True)]
        found |= {f"{kind}/gradients/{name}": sum(c * s * noisy(p[name], precision, rng) for c, s, p in zip(
            counts(heavy), shares, parts, strict=True)) / sum(heavy) for name in NAMES}
    found |= {f"drawn {n}/gradients/{name}": sum(p[name] * exact.choice([0, 1.1], p[name].shape) for p in parts)
              for n in (0, 4) for name in NAMES}
    found["after/weights/norm.var"] = np.full(3, 3.0)
    for name in NAMES:
        w, g = exact.normal(size=(40, 5)), exact.normal(size=(40, 5))
        found |= {f"clipped/{name}": g, f"before/weights/{name}": w, f"update/m/{name}": 0.1 * g,
                  f"update/v/{name}": g * g, f"update/weights/{name}": w - 0.01 * g, f"update/ema/{name}": w}
    return found | {name: change(found[name]) for name, change in changes.items()}


PRECISIONS = pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
TWO = {"keras": "Keras", "jax": "JAX"}


def cause(precision, planted, wrong):
    """What is said where one side's step is `wrong` and the other's is not."""
    sides = {b: wrong if b == planted else step(precision, i) for i, b in enumerate(TWO)}
    return taken_apart(recipe_of(precision), 24, POINT, sides, lambda: 2)


@PRECISIONS
def test_two_steps_that_differ_by_rounding_alone_have_no_cause(precision):
    assert cause(precision, "jax", step(precision, 7)) is None
    counts, unsure, left = counted(step(precision, 7), FORMATS[precision].eps ** 0.5)
    assert np.allclose(counts, 1, atol=FORMATS[precision].eps) and (unsure < FORMATS[precision].eps).all()
    assert left < 8 * FORMATS[precision].eps


@PRECISIONS
@pytest.mark.parametrize("planted", TWO)
def test_how_micro_batches_are_added_up_is_said_of_who_does_it(precision, planted):
    found = cause(precision, planted, step(precision, 7, means_of))
    assert (found["operation"], found["step"]) == ("accumulation", STEP)
    assert found["sentence"] == f"{TWO[planted]} divides by micro-batches: the loss weight differs from step 2 on"
    found = cause(precision, planted, step(precision, 7, lambda weights: (1, 1, 2)))
    assert found["sentence"] == f"{TWO[planted]} counts micro-batch 3 of 3 2.0 times at step 3"
    found = cause(precision, planted, step(precision, 7, **{"part 1/weight": lambda x: x + 1}))
    assert found["operation"] == "loss" and "the loss weight of micro-batch 2" in found["sentence"]


@PRECISIONS
def test_means_of_means_show_where_micro_batches_weigh_nearly_alike(precision):
    """A batch's own weights may move no gradient by more than bfloat16 rounds it."""
    near = (60.0, 61.0, 60.0)
    wrong = step(precision, 7, means_of, near)
    found = taken_apart(recipe_of(precision), 24, POINT, {"keras": step(precision, 0, weights=near), "jax": wrong})
    assert found["operation"] == "accumulation" and "JAX divides by micro-batches" in found["sentence"]
    counts, _, _ = counted(wrong, FORMATS[precision].eps ** 0.5)
    assert np.allclose(counts, means_of(near), atol=0.01) and np.abs(counts - 1).max() < 0.02


@PRECISIONS
def test_random_bits_show_in_the_gradient_where_the_mean_loss_hardly_moves(precision):
    right = step(precision, 7)
    wrong = right | {f"{kind}/gradients/{name}": noisy(right[f"drawn 4/gradients/{name}"], precision,
                                                       np.random.default_rng(2)) / 60
                     for kind in ("total", "uneven") for name in NAMES}
    found = cause(precision, "jax", wrong)
    assert found and found["sentence"] == "step 3: JAX draws the random bits of step 4"
    assert found["tensor"] == "gradients"


@PRECISIONS
@pytest.mark.parametrize("key", ["total/loss", "told/loss"])
def test_another_steps_random_bits_are_no_accumulation(precision, key):
    """Wrong bits change the gradient too, which is then no sum of what the micro-batches give."""
    rng = np.random.default_rng(3)
    changes = {key: lambda x: np.array(2.73)}
    if key == "total/loss":
        changes |= {f"{kind}/gradients/{name}": lambda x: x + 0.3 * rng.normal(size=x.shape) for name in NAMES
                    for kind in ("total", "uneven")}
    found = cause(precision, "jax", step(precision, 7, **changes))
    assert found["operation"] == "random bits"
    assert found["sentence"] == "step 3: JAX draws the random bits of step 4"


def grow(x):
    return x * 1.01


CASES = {"clip": ("clip", {"clipped/head.kernel": grow}, "clip at head.kernel"),
         "m": ("moment", {"update/m/head.kernel": grow, "update/weights/head.kernel": grow}, "moment at head.kernel"),
         "v": ("moment", {"update/v/norm.scale": grow}, "moment at norm.scale"),
         "average": ("average", {"update/ema/norm.scale": grow}, "average at norm.scale"),
         "running": ("norm", {"after/weights/norm.var": grow}, "micro-batches make in forward order: norm.var"),
         "rate": ("schedule", {"told/learning_rate": lambda x: learning_rates(recipe_of("float64"))[4]},
                  "that of step 4; the schedule has")}


@PRECISIONS
@pytest.mark.parametrize("case", CASES)
def test_what_differs_in_one_update_is_named(precision, case):
    operation, changes, said = CASES[case]
    if (precision, case) == ("bfloat16", "running"):
        changes = {"after/weights/norm.var": lambda x: 3 * x}  # statistics of what is rounded to bfloat16
    found = cause(precision, "jax", step(precision, 7, **changes))
    assert found and (found["operation"], found["step"]) == (operation, STEP), found
    assert said in found["sentence"]


@PRECISIONS
def test_a_stride_is_told_from_a_decay_and_from_another_update(precision):
    right = step(precision, 7)
    before, after = ({name: right[f"{group}/weights/{name}"] for name in NAMES} for group in ("before", "update"))
    made = {"schedule": lambda n: before[n] + 1.5 * (after[n] - before[n]),
            "decay": lambda n: after[n] - 1e-3 * before[n], "update": lambda n: after[n] + 1e-3 * np.sign(before[n])}
    said = {"schedule": "JAX: its stride is 1.5 times as long", "decay": "JAX: it decays by 0.001", "update": ""}
    for operation, function in made.items():
        found = cause(precision, "jax", right | {f"update/weights/{name}": function(name) for name in NAMES})
        assert found["operation"] == operation and said[operation] in found["sentence"], found


def test_steps_are_taken_apart_from_that_before_the_first_loss_which_parts():
    bound = [1.0] * 9
    assert suspects({"steps": list(range(9)), "difference": [0, 0, 0, 2, 2, 2, 2, 2, 2], "bound": bound}) == [2, 3]
    assert suspects({"steps": list(range(9)), "difference": [2] * 9, "bound": bound}) == [0]
    assert suspects({"steps": list(range(9)), "difference": [0] * 9, "bound": bound})[-1] == 8


def test_gradients_are_judged_at_the_point_where_they_part():
    """At the first point micro-batches may weigh alike: nine tensors that agree there are no reason to blame one."""
    checks = [check("float64", 0.0, 1e-14, f"gradients/{name}", "") for name in NAMES * 3]
    checks += [check("float64", 0.1 + i, 1e-14, f"gradients/{name} at the stress point", "")
               for i, name in enumerate(NAMES)]
    seen, sides = [], {"keras": step("float64", 0), "jax": step("float64", 1, means_of)}
    recipe = recipe_of("float64")
    found = placing.gradient_cause(recipe, {"checks": checks}, lambda point: seen.append(point) or taken_apart(
        recipe, 24, point, sides, lambda: None))
    assert seen == ["stress"] and found["operation"] == "accumulation"
    assert found["sentence"] == "JAX divides by micro-batches: the loss weight differs at the stress point"
