"""P1 in both rooms: every operation in its place is as near float64 as its precision allows, and what is wrong in
bfloat16 alone is found there, at its place."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks.rungs.operations import operations_rung, part
from twinscale.benchmarks.rungs.placing import in_place_cause
from twinscale.common.files.tensors import load_tensors
from twinscale.common.operations.in_place import place_rows
from twinscale.common.operations.points import POINTS
from twinscale.common.training import session
from twinscale.common.training.trace import places_at, taps_at

BACKENDS = {"jaxscale": "jax", "tfscale": "keras"}  # who leads comes first
NARROW = ("narrow_softmax", "scale_after_cast", "steep_activation")


@pytest.fixture(scope="module")
def recipe(recipe_of):
    return recipe_of("decoder", model={"layers": 1, "norm": "rms", "positions": "rotary", "activation": "swiglu",
                                       "dropout": 0.1}, train={"precision": "bfloat16", "accumulate": 2})


@pytest.fixture(scope="module")
def found(open_room, recipe, tmp_path_factory):
    """({backend: {point: PlaceRows}}, the directory that the numbers are left in) of healthy rooms."""
    out, rows = tmp_path_factory.mktemp("places"), {}
    for name, backend in BACKENDS.items():
        with open_room(name, recipe) as opened:
            rows[backend] = {point: places_at(opened.room, recipe, point, out / f"{point}-given",
                                              out / f"{point}-{backend}", None if backend == "jax" else
                                              out / f"{point}-jax") for point in POINTS[1:]}
            if backend == "keras":  # as where a copy of the process has left what is in float64
                again = places_at(opened.room, recipe, point := POINTS[1], out / f"{point}-given", out / "again",
                                  beside=out / f"{point}-keras")
                assert again == rows[backend][point] | {"float64": []}
    session.SESSIONS.clear()
    return rows, out


def planted(name, recipe, change, found, open_room):
    """The PlaceRows of a room with a change planted, at each point, fed as the healthy one was."""
    rows, out = found
    changes, backend = importlib.import_module(f"twinscale.{name}.mutants").MUTANTS, BACKENDS[name]
    with open_room(name, recipe) as opened, changes[change].plant():
        own = {}
        for point in POINTS[1:]:
            given, wide = (load_tensors(out / f"{point}-{what}") for what in ("given", backend))
            made, dataset = taps_at(opened.room, recipe, point, given)
            own[point] = place_rows(recipe, dataset, (given, made, wide), "bfloat16", backend == "keras")
    session.SESSIONS.clear()
    return rows | {backend: {point: rows[backend][point] | {"own": own[point]} for point in own}}


def test_every_place_is_within_the_bound_of_its_precision(found, recipe):
    rung = operations_rung([], found[0], "bfloat16")
    assert rung["agrees"], rung["where"]
    assert {row["place"] for row in rung["places"]} >= {"embedding", "block_0.attention.shares", "head", "loss"}
    assert all(row[column] is not None for row in rung["places"] for column in ("keras", "jax", "float64"))
    assert in_place_cause(recipe, found[0]) is None


@pytest.mark.parametrize("precision,under_xla", [("float64", True), ("float64", False), ("float32", False)])
def test_places_are_read_as_the_training_runs(monkeypatch, recipe_of, precision, under_xla):
    """Under XLA where its steps are, in float64 too; a float64 recipe without XLA runs them twice or so, op by op."""
    trace = importlib.import_module("twinscale.tfscale.trace")
    compiled, eager, function = [], [], trace.tf.function

    def compiling(of, **how):
        compiled.append(how["jit_compile"])
        return function(of, **how)

    def run(*_):
        eager.append(trace.tf.executing_eagerly())
        return {"forward": {"place": trace.tf.ones(2)}}

    monkeypatch.setattr(trace.tf, "function", compiling)
    monkeypatch.setattr(trace, "place", lambda devices, batch: batch)
    monkeypatch.setattr(trace, "run", run)
    state = SimpleNamespace(model=None, trained={}, variables={})
    devices = SimpleNamespace(jit_compile=under_xla, replicas=1)
    taps = trace.make_step_taps(recipe_of("mlp", train={"precision": precision}), None, state, devices)
    assert taps(state, 0, {})["forward/place"].sum() == 2
    by_ops = precision == "float64" and not under_xla
    assert (compiled, eager) == ([] if by_ops else [under_xla], [by_ops])


def test_places_have_one_dtype_in_both_rooms(found):
    keras, jax = (found[0][b]["generic"]["dtypes"] for b in ("keras", "jax"))
    assert keras == jax and len(keras) > 20
    assert {keras["forward/block_0.norm_1"], keras["forward/head"]} == {"bfloat16"}
    assert keras["forward/block_0.attention.shares"] == "float32"


def test_a_place_of_another_shape_than_it_is_fed_goes_on_with_its_own_and_all_others_with_what_they_are_fed(
        name, open_room, recipe_of):
    """As where a stride stands in another convolution: that one is to be named, and not what comes after it."""
    recipe = recipe_of("mlp")
    with open_room(name, recipe) as opened:
        own, dataset = taps_at(opened.room, recipe, "generic")
        wider = {f"{way}/layer_0": np.ones((4, 25)) for way in ("forward", "backward")}
        made, _ = taps_at(opened.room, recipe, "generic", given := own | wider)
    session.SESSIONS.clear()
    assert np.array_equal(made["forward/layer_0"], own["forward/layer_0"])
    rows = {"own": [], "float64": place_rows(recipe, dataset, (own, made, given), "float64")}
    off = [row["tensor"] for row in rows["float64"] if part(row) > 1]
    assert off == ["forward/layer_0", "backward/layer_0"]
    cause = in_place_cause(recipe, {"jax": {"generic": rows}, "keras": {"generic": {"own": [], "float64": []}}})
    assert (cause["operation"], cause["where"]) == ("linear", "layer_0")


MODELS = {"learned positions and a head of its own": ("decoder", {"layers": 1, "tied": False, "positions": "learned"}),
          "convnet": ("convnet", {}), "mlp": ("mlp", {}), "encoder": ("encoder", {"head": "masked"})}
SLOW = ("convnet", "mlp")


@pytest.mark.parametrize("model", [pytest.param(m, marks=pytest.mark.slow if m in SLOW else ()) for m in MODELS])
def test_places_of_every_family_have_one_dtype_in_both_rooms(model, open_room, recipe_of):
    """A table of Keras' hands its rows on in the masters' dtype, and its reader casts: the place is what is read."""
    family, values = MODELS[model]
    recipe, dtypes = recipe_of(family, model=values, train={"precision": "bfloat16"}), {}
    for name in BACKENDS:
        with open_room(name, recipe) as opened:
            taps = taps_at(opened.room, recipe, "generic")[0]
        dtypes[name] = {tensor: x.dtype.name for tensor, x in taps.items() if tensor.startswith(("forward/", "loss/"))}
    session.SESSIONS.clear()
    assert dtypes["tfscale"] == dtypes["jaxscale"] and "bfloat16" in dtypes["jaxscale"].values()


def test_a_wrong_mask_of_documents_is_placed_on_the_stress_batch(found, open_room, recipe):
    """Whatever the recipe's own batches hold."""
    wide, out = recipe.with_values(train={"precision": "float64"}), found[1]
    given, theirs = (load_tensors(out / f"stress-{what}") for what in ("given", "keras"))
    plant = importlib.import_module("twinscale.jaxscale.mutants").MUTANTS["crossed_documents"].plant
    with open_room("jaxscale", wide) as opened, plant():
        made, dataset = taps_at(opened.room, wide, "stress", given)
    session.SESSIONS.clear()
    rows = {"own": [], "float64": place_rows(wide, dataset, (given, made, theirs), "float64")}
    cause = in_place_cause(wide, {"jax": {"stress": rows}, "keras": {"stress": {"own": [], "float64": []}}})
    assert (cause["operation"], cause["where"]) == ("attention mask", "block_0.attention.mask")
    assert "at the stress point" in cause["sentence"]


def test_places_are_read_of_a_model_that_reads_not_all_that_it_holds(found, open_room, recipe):
    changes = importlib.import_module("twinscale.tfscale.mutants").MUTANTS
    with open_room("tfscale", recipe) as opened, changes["gate_alone"].plant():
        made, _ = taps_at(opened.room, recipe, POINTS[1], load_tensors(found[1] / f"{POINTS[1]}-given"))
    session.SESSIONS.clear()
    gate, up = (made[f"gradients/block_0.feedforward.{what}.kernel"] for what in ("gate", "up"))
    assert gate.any() and not up.any() and up.shape == gate.shape


@pytest.mark.parametrize("change", NARROW)
def test_what_is_wrong_in_bfloat16_alone_is_ten_bounds_off_and_placed(name, found, open_room, recipe, change):
    rows = planted(name, recipe, change, found, open_room)
    wanted = importlib.import_module(f"twinscale.{name}.mutants").MUTANTS[change]
    for of in rows[BACKENDS[name]].values():
        off = [row for row in of["own"] if part(row) > 1 and row["way"] == "forward"]
        assert off and all(row["operation"] == wanted.operation for row in off)
        assert max(map(part, off)) > 10
    cause = in_place_cause(recipe, rows)
    assert cause["operation"] == wanted.operation
    assert {"keras": "Keras: ", "jax": "JAX: "}[BACKENDS[name]] in cause["sentence"]
