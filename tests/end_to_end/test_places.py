"""P1 in both rooms: every operation in its place is as near float64 as its precision allows, and what is wrong in
bfloat16 alone is found there, at its place."""

import importlib

import pytest

from benchmarks.operations import operations_rung, part
from benchmarks.placing import place_cause
from common import session
from common.points import POINTS
from common.trace import places_at

BACKENDS = {"jaxscale": "jax", "tfscale": "keras"}  # who leads comes first
NARROW = ("narrow_softmax", "scale_after_cast", "steep_activation")


@pytest.fixture(scope="module")
def recipe(recipe_of):
    return recipe_of("decoder", model={"layers": 1, "norm": "rms", "positions": "rotary", "activation": "swiglu",
                                       "dropout": 0.1}, train={"precision": "bfloat16", "accumulate": 2})


@pytest.fixture(scope="module")
def found(open_room, recipe, tmp_path_factory):
    """found(change): {backend: {point: PlaceRows}}, of a healthy room or with a change planted in both."""
    known = {}

    def measure(change=None):
        if change not in known:
            out, known[change] = tmp_path_factory.mktemp("places"), {}
            for name, backend in BACKENDS.items():
                changes = importlib.import_module(f"{name}.mutants").MUTANTS
                known[change][backend] = {}
                for point in POINTS[1:]:
                    paths = {"given": out / f"{point}-given", "mine": out / f"{point}-{backend}"}
                    theirs = {"theirs": out / f"{point}-jax"} if backend == "keras" else {}
                    session.SESSIONS.clear()
                    with open_room(name, recipe) as opened, planted(changes, change):
                        known[change][backend][point] = places_at(opened.room, recipe, point, **paths, **theirs)
            session.SESSIONS.clear()
        return known[change]

    return measure


def planted(changes, change):
    from contextlib import nullcontext

    return changes[change].plant() if change else nullcontext()


def test_every_place_is_within_the_bound_of_its_precision(found, recipe):
    rung = operations_rung([], found(), "bfloat16")
    assert rung["agrees"], rung["where"]
    assert {row["place"] for row in rung["places"]} >= {"embedding", "block_0.attention.shares", "head", "loss"}
    assert all(row[column] is not None for row in rung["places"] for column in ("keras", "jax", "float64"))
    assert place_cause(recipe, found()) is None


@pytest.mark.parametrize("change", NARROW)
def test_what_is_wrong_in_bfloat16_alone_is_ten_bounds_off_and_placed(found, recipe, change):
    rows = found(change)
    wanted = importlib.import_module("jaxscale.mutants").MUTANTS[change]
    for points in rows.values():
        for of in points.values():
            off = [row for row in of["own"] if part(row) > 1 and row["way"] == "forward"]
            assert off and all(row["operation"] == wanted.operation for row in off)
            assert max(map(part, off)) > 10
            assert all(part(row) <= 1 for row in of["float64"])  # nothing is wrong there
    cause = place_cause(recipe, rows)
    assert cause["operation"] == wanted.operation
    assert "Keras" in cause["sentence"] or "JAX" in cause["sentence"]
