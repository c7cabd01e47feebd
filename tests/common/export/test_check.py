"""How far an export may be from the trainer's program, and what is said of one that is further."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.common.export.test_predict import recipe_of
from twinscale.common.export.check import bound_of, judged
from twinscale.common.export.formats import Model, Shape
from twinscale.common.families.parameters import initial_values, parameters

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
RNG = np.random.default_rng(0)
WIDE = RNG.standard_normal((16, 20))
ROWS = {"inputs": np.zeros(16), "labels": np.arange(16), "weights": np.ones(16, np.float32)}


def model_of(recipe, classes=20, example_shape=(8,)):
    tree = parameters(recipe.model, classes, example_shape)
    return Model(recipe, Shape(classes, example_shape), initial_values(tree, 0, "float32"))


def known_of(noise=0.0, eight=0.0):
    moved = {"float32": noise, "8 bits": eight}
    return {"float64": WIDE} | {name: WIDE + size * np.abs(WIDE).max() * np.sign(RNG.standard_normal(WIDE.shape))
                                for name, size in moved.items()}


def eight_of(low=-10.0, high=10.0):
    return SimpleNamespace(tensors={"head.range": np.array([low, high])})


def test_float_bounds_are_four_times_the_trainers_own_rounding_but_no_less_than_arithmetics():
    model = model_of(recipe_of())  # the longest sum is of 64 hidden units
    bound, source = bound_of("savedmodel", "float32", model, None, known_of(1e-5))
    assert bound == pytest.approx(4e-5) and "4 x what float32 costs" in source
    bound, source = bound_of("savedmodel", "float32", model, None, known_of())
    assert bound == 4 * 8 * EPS["float32"] and source == "4 sqrt(64) eps of float32"
    bound, _ = bound_of("savedmodel", "float64", model, None, known_of(1e-5))
    assert bound == pytest.approx(4e-5 * EPS["float64"] / EPS["float32"])
    known = known_of() | {"bfloat16": known_of(1e-5)["float32"]}
    assert bound_of("stablehlo", "bfloat16", model, None, known)[0] == 2.0**-8  # sums are float32: one rounding


def test_bounds_of_8_bits_are_what_8_bits_cost_the_trainer():
    model, largest = model_of(recipe_of()), np.abs(WIDE).max()
    known = known_of(eight=0.01)
    dynamic, _ = bound_of("litert-dynamic", "float32", model, eight_of(), known)
    int8, source = bound_of("litert-int8", "8 bits", model, eight_of(), known)
    assert dynamic == pytest.approx(0.01) and "one step of the output's grid" in source
    assert int8 - dynamic == pytest.approx(20 / 255 / np.abs(known["8 bits"]).max())
    # A logit beyond its range is clipped in 8 bits: what that costs is no rounding, and excuses none.
    high = largest / 2
    known["8 bits"] = np.clip(WIDE, -high, high)
    assert bound_of("litert-dynamic", "float32", model, eight_of(-high, high), known)[0] == 0


def test_a_verdict_fails_where_the_logits_do():
    model, known = model_of(recipe_of()), known_of()

    def verdict(found):
        return judged("savedmodel", model, None, found, known, ROWS)

    right, moved = verdict(WIDE), WIDE.copy()
    assert right["agrees"] and right["worst"] == 0 and right["predictions"] == 1 and right["rows"] == 16
    moved[3, 4] += 1e-4 * np.abs(WIDE).max()
    assert not verdict(moved)["agrees"] and verdict(moved)["worst"] == pytest.approx(1e-4)
    moved[3, 4] = math.nan
    for wrong in (moved, WIDE[:8], WIDE[::-1]):
        assert not verdict(wrong)["agrees"]
    failed = verdict(ValueError("first\nsecond"))
    assert not failed["agrees"] and failed["error"] == "first" and failed["worst"] == math.inf
