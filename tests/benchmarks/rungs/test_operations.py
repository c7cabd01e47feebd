"""Places of both backends: JAX leads, Keras follows a point behind, and neither waits for the rest of the other."""

import json
from threading import Event

import pytest

from twinscale.benchmarks.rungs.operations import collect_places, part, place_checks, places_path
from twinscale.common.errors import TwinscaleError
from twinscale.common.operations.points import POINTS
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "tiny", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                                "train": {"steps": 2, "global_batch": 4}})
ROWS = {"own": [], "float64": []}
ASKED = [(backend, point) for backend in ("jax", "keras") for point in POINTS[1:]]


class Asked:
    """A worker that says what it was asked for; `do` may fail."""

    def __init__(self, backend, asked, do=lambda backend, point: None):
        self.backend, self.asked, self.do = backend, asked, do

    def ask(self, call, recipe, point, **paths):
        self.do(self.backend, point)
        self.asked.append((self.backend, point))
        self.paths, self.precision = {name: path.name for name, path in paths.items()}, recipe.train.precision
        return ROWS


def test_jax_looks_at_its_places_while_keras_still_trains(tmp_path):
    asked, looked = [], Event()

    def do(backend, point):
        if (backend, point) == ("jax", POINTS[-1]):
            looked.set()

    def before(worker):
        if worker.backend == "keras":
            assert looked.wait(20), "JAX waits for Keras"

    (tmp_path / "tensors").mkdir()
    collect_places({b: Asked(b, asked, do) for b in ("keras", "jax")}, RECIPE, tmp_path, before)
    assert sorted(asked) == sorted(ASKED)
    assert all(asked.index(("jax", point)) < asked.index(("keras", point)) for point in POINTS[1:])
    for backend in ("keras", "jax"):
        assert json.loads(places_path(tmp_path, backend).read_text()) == dict.fromkeys(POINTS[1:], ROWS)


class Made(Asked):
    """A worker whose rows say who made them, and where."""

    def ask(self, call, recipe, point, **paths):
        super().ask(call, recipe, point, **paths)
        return {"own": [f"own of {self.precision}"], "float64": [f"beside {self.paths.get('theirs')}"]}


def test_of_a_backend_with_a_copy_each_looks_in_its_own_precision(tmp_path):
    """The copy beside the other backend's float64, and the worker beside what the copy has left."""
    (tmp_path / "tensors").mkdir()
    workers = {"keras": Made("keras", []), "jax": Made("jax", []), "keras beside": Made("keras", [])}
    collect_places(workers, RECIPE, tmp_path)
    assert [workers[name].precision for name in workers] == ["float32", "float32", "float64"]
    own, copy = workers["keras"].paths, workers["keras beside"].paths
    assert own["beside"] == copy["mine"] and own["mine"] != copy["mine"] and "theirs" not in own
    rows = json.loads(places_path(tmp_path, "keras").read_text())
    theirs = workers["jax"].paths["mine"]
    assert rows[POINTS[-1]] == {"own": ["own of float32"], "float64": [f"beside {theirs}"]}


@pytest.mark.parametrize("when", ["before", *POINTS[1:]])
def test_keras_does_not_wait_for_a_jax_that_failed(tmp_path, when):
    asked = []

    def fails(backend, point):
        if (backend, point) == ("jax", when):
            raise TwinscaleError(f"at {when}")

    with pytest.raises(TwinscaleError, match=f"at {when}"):
        collect_places({b: Asked(b, asked, fails) for b in ("keras", "jax")}, RECIPE, tmp_path,
                       lambda worker: fails(worker.backend, "before"))
    assert not [point for backend, point in asked if backend == "keras" and point == POINTS[-1]]


def test_of_an_unknown_number_of_roundings_none_is_allowed():
    """A file may have null for it, which is what was not finite."""
    row = {"place": "dense_0", "operation": "dense", "way": "forward", "tensor": "forward/dense_0", "error": 0.5,
           "bound": 1.0, "beside": 0.25, "rare": None}
    assert part(row) > 1 and part(row | {"beside": 0.0}) == 0.5
    checks = place_checks({"jax": {"first": {"own": [row], "float64": []}}}, "bfloat16")
    assert [(c.agrees, c.bound) for c in checks] == [(True, 1.0), (False, 0.0)]
