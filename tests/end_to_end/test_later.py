"""One step taken apart in both rooms, from the state of a training: nothing is found where nothing is planted, and what
is planted is named, in float64 and in bfloat16."""

import importlib
import math
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import pytest

from twinscale.benchmarks.rungs.later import counted, load_sides, parts, taken_apart, value
from twinscale.benchmarks.rungs.placing import in_place_cause
from twinscale.common.calls.one_step import whole_step
from twinscale.common.data import training_batches
from twinscale.common.files.tensors import save_tensors
from twinscale.common.numbers.formats import RESOLVED
from twinscale.common.training import session
from twinscale.common.training.trace import places_at

BACKENDS = {"tfscale": "keras", "jaxscale": "jax"}
STEP = 2
PRECISIONS = ["float64", "bfloat16"]
pytestmark = pytest.mark.slow  # a room compiles, or takes, a step of each: tests/benchmarks has them by hand


@pytest.fixture(scope="module")
def healthy(open_room, recipe_of, tmp_path_factory):
    """healthy(precision, "stress" or STEP): (recipe, the point, {backend: file of its step, taken apart}) with nothing
    planted; Keras' state after two steps is that of both."""
    known = {}

    def make(precision, point=STEP):
        if (precision, point) in known:
            return known[precision, point]
        recipe = recipe_of("decoder", model={"layers": 1, "dropout": 0.1},
                           optimizer={"ema": 0.9, "clip_norm": 0.1, "weight_decay": 0.1},
                           schedule={"kind": "cosine", "warmup": 5},
                           train={"precision": precision, "accumulate": 2, "steps": 6})
        out, paths = tmp_path_factory.mktemp("later"), {}
        for name, backend in BACKENDS.items():
            with open_room(name, recipe) as opened:
                if point == STEP and not paths:
                    point = out / f"step_{STEP}.safetensors"
                    save_tensors(point, trained(opened.room, recipe))
                paths[backend] = out / f"{backend}.safetensors"
                whole_step(opened.room, recipe, paths[backend], point, paths["keras"] if backend == "jax" else None)
        session.SESSIONS.clear()
        known[precision, STEP if point not in ("stress",) else point] = recipe, point, paths
        return recipe, point, paths

    return make


def trained(room, recipe):
    """The tensors of a state after STEP steps."""
    opened = session.open_session(room, recipe)
    state = opened.state
    for number, batch, _ in training_batches(opened.dataset, recipe, 0, STEP):
        state, _ = opened.step(state, number, batch, (0, 0, 0))
    return {name: np.array(x) for name, x in room.state_tensors(state).items()}


def cause_of(found, name, plant, open_room):
    """What is said of a room with something planted, held beside the other as it was."""
    recipe, point, paths = found
    backend = BACKENDS[name]
    other = next(b for b in paths if b != backend)
    path = paths[backend].with_name(f"planted-{backend}.safetensors")
    with open_room(name, recipe) as opened, plant():
        session.SESSIONS.clear()
        whole_step(opened.room, recipe, path, point, paths["keras"])  # as the healthy ones were
    session.SESSIONS.clear()
    return taken_apart(recipe, 128, point, load_sides({other: paths[other], backend: path}), lambda: 2)


def mutant(name, change):
    return importlib.import_module(f"twinscale.{name}.mutants").MUTANTS[change].plant


def other_key(name):
    """The gradient's random bits are those of the step after."""
    train = importlib.import_module(f"twinscale.{name}.train")
    sum_gradients = train.sum_gradients

    @contextmanager
    def plant():
        with patch.object(train, "sum_gradients", lambda recipe, state, number, *rest: sum_gradients(
                recipe, state, number + 1, *rest)):
            yield

    return plant


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_of_healthy_rooms_is_taken_apart_and_nothing_is_found(healthy, precision):
    recipe, point, paths = healthy(precision)
    sides = load_sides(paths)
    for tensors in sides.values():
        for kind in ("total", "uneven"):
            counts, _, left = counted(tensors, math.sqrt(RESOLVED[precision]), kind)
            assert parts(tensors) == 2 and np.allclose(counts, 1, atol=1e-12 if precision == "float64" else 0.05)
            assert left < math.sqrt(RESOLVED[precision])
        assert value(tensors, "part 0/weight") != value(tensors, "part 1/weight")  # or means of means would do
        assert abs(value(tensors, "drawn 3/loss") - value(tensors, "told/loss")) > 1e-4
    assert taken_apart(recipe, 128, point, sides) is None


def places_of(found, open_room, plant=nullcontext):
    """{backend: {STEP: PlaceRows}} of both rooms at the later step, with something planted in JAX's."""
    recipe, point, paths = found
    out, rows = paths["jax"].parent, {}
    for path in out.glob("place-*"):
        path.unlink()
    for name, planted, theirs in (("jaxscale", plant, None), ("tfscale", nullcontext, out / "place-jax")):
        with open_room(name, recipe) as opened, planted():
            session.SESSIONS.clear()
            rows[BACKENDS[name]] = {STEP: places_at(opened.room, recipe, point, out / "place-given",
                                                    out / f"place-{BACKENDS[name]}", theirs)}
    session.SESSIONS.clear()
    return rows


@pytest.mark.parametrize("precision", PRECISIONS)
def test_places_of_a_later_step_are_within_their_bounds_and_its_random_bits_are_placed(healthy, open_room, precision):
    found = healthy(precision)
    assert in_place_cause(found[0], places_of(found, open_room)) is None
    rows = places_of(found, open_room, mutant("jaxscale", "same_dropout_each_step"))
    wide = found[0].with_values(train={"precision": "float64"})  # in which the comparison has seen it
    cause = in_place_cause(wide, rows)
    assert (cause["operation"], cause["step"]) == ("random bits", STEP) and cause["where"].endswith(".dropout")
    assert "at step 2" in cause["sentence"]


CASES = {"divides": ("jaxscale", lambda: mutant("jaxscale", "mean_of_means"), "accumulation",
                     "JAX divides by micro-batches: the loss weight differs from step 2 on"),
         "twice": ("tfscale", lambda: mutant("tfscale", "last_micro_batch"), "accumulation",
                   "Keras counts micro-batch 2 of 2 2.0 times at step 2"),
         "key in Keras": ("tfscale", lambda: other_key("tfscale"), "random bits",
                          "step 2: Keras draws the random bits of step 3"),
         "key in JAX": ("jaxscale", lambda: other_key("jaxscale"), "random bits",
                        "step 2: JAX draws the random bits of step 3"),
         "rate": ("tfscale", lambda: mutant("tfscale", "early_schedule"), "schedule", ", that of step 3; "),
         "average": ("tfscale", lambda: mutant("tfscale", "average_each_micro_batch"), "average", "average at"),
         "clip": ("jaxscale", lambda: mutant("jaxscale", "clip_each_tensor"), "clip", "clip at"),
         "moment": ("jaxscale", lambda: mutant("jaxscale", "bfloat16_moments"), "moment", "moment at"),
         "decay": ("tfscale", lambda: mutant("tfscale", "coupled_decay"), "moment", "moment at")}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_what_is_planted_in_a_later_step_is_named(healthy, open_room, precision, case):
    name, plant, operation, said = CASES[case]
    found = cause_of(healthy(precision), name, plant(), open_room)
    assert found and (found["operation"], found["step"]) == (operation, STEP), found
    assert said in found["sentence"]
