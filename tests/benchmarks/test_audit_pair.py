"""An audit of a pair without its trainings: how long they are, what is named of it, and what counts as its place."""

import numpy as np
import pytest

from twinscale.benchmarks import audit, audit_pair
from twinscale.benchmarks.workers import ROOMS
from twinscale.common.pairs.first import write_first
from twinscale.common.pairs.parting import Sight
from twinscale.common.pairs.program import Seen
from twinscale.common.pairs.sight import write_sight
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.planted.inside import PAIR
from twinscale.common.recipe.file import given

PROGRAM = "def build():\n    raise AssertionError('no program is run here')\n"
RECIPE = """name = "mine"
[data]
source = "digits"
[model]
family = "pair"
reads = "images"
keras = "mine.py:build"
flax = "mine.py:build"
match = "match.toml"
[train]
steps = 50
global_batch = 4
precision = "float64"
[schedule]
kind = "cosine"
warmup = 10
"""
X = np.random.default_rng(0).normal(size=(4, 3))
TENSORS = (Tensor("fc/kernel", (3, 3)), Tensor("gone/kernel", (3, 3)))
LISTED = {b: {kind: {"recipe": recipe, "operation": operation, "where": "*", "meaning": "", "needs": [], "phase": "",
                     "shared": kind == "reversed_rows"}
              for kind, recipe, operation in (
                  *((kind, PAIR, "program") for kind in ("scaled_output", "missing_gradient", "lost_gradient",
                                                         "swapped_tensors")),
                  ("equal_einsum", PAIR, ""), ("frozen_tensor", PAIR, "update"), ("reversed_rows", "dense", ""),
                  ("late_batches", "dense", "data"))}
          for b in ROOMS}


class Shows:
    """A worker that shows a program of one module, called otherwise on either side, and one that nobody calls."""

    def __init__(self, backend):
        self.backend = backend

    def ask(self, call, recipe, path, training):
        assert call == "leave_sight"
        name = {"keras": "fc", "jax": "layer"}[self.backend]
        write_sight(path, Sight((Seen(name, (X,), (2 * X,)),), {"output": 2 * X}, 1e-17), {"inputs": X})
        return [{"b": "layer/w", "a": ["fc/kernel"], "steps": []}] if self.backend == "jax" else []


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PROGRAM)
    (tmp_path / "match.toml").write_text('[tensors]\n"layer/w" = "fc/kernel"\n')
    write_first(tmp_path / "match.safetensors", TENSORS, {tensor.path: X[:3] for tensor in TENSORS})
    (tmp_path / "pair.toml").write_text(RECIPE)
    return given("pair.toml")


def test_trainings_of_a_trial_are_short_and_keep_a_warm_up_that_fits(recipe):
    short = audit_pair.shortened(recipe)
    assert (short.train.steps, short.schedule.warmup) == (4, 4) and short.model == recipe.model
    assert audit_pair.shortened(recipe.with_values(train={"steps": 2}, schedule={"warmup": 0})).train.steps == 2
    assert audit_pair.is_pair(recipe) and not audit_pair.is_pair(given("mlp-digits")) and not audit_pair.is_pair(None)


def test_what_is_planted_are_the_modules_that_are_seen_and_what_is_not_seen_is_said(recipe, tmp_path):
    workers = {b: Shows(b) for b in ROOMS}
    found, left = audit_pair.plan_inside(recipe, LISTED, workers, tmp_path / "base", False)
    assert set(found["keras"]) >= {"scaled_output@fc", "equal_einsum@fc", "reversed_rows"}
    assert "missing_gradient@layer" in found["jax"] and "late_batches" not in found["keras"]
    assert left == [{"name": "*@gone", "backend": "keras", "lacks": ["partner that is seen"]}]
    assert "late_batches" in audit_pair.plan_inside(recipe, LISTED, workers, tmp_path / "base", True)[0]["keras"]
    trials, _ = audit.plan(found, None, recipe)
    named = {t["name"]: (t["backend"], t["where"], t["recipe"]) for t in trials}
    assert named["missing_gradient@layer"] == ("jax", "fc", "own") and "reversed_rows" in named


def test_who_has_nothing_planted_shows_again_what_was_seen_of_it(recipe, tmp_path):
    audit_pair.leave_sights(recipe, Shows("jax"), tmp_path / "base")
    left, path = audit_pair.Left("jax", tmp_path / "base"), tmp_path / "again.safetensors"
    assert left.ask("leave_sight", recipe, path=str(path), training=False)[0]["b"] == "layer/w"
    assert path.read_bytes() and path.is_symlink()
    with pytest.raises(AssertionError):
        left.ask("run_training", recipe)


def test_a_module_is_named_where_the_programs_part_at_it_or_right_behind_it():
    for place, at in (("at fc, whose inputs agree and whose outputs do not", True),
                      ("between fc and out, whose inputs differ", True),
                      ("between in and fc, whose inputs differ", False),
                      ("after fc, the last module that holds tensors", True), ("at fc1, whose inputs agree", False),
                      ("backward, at fc or between it and out: forward they agree", True),
                      ("backward, at in or between it and fc: forward they agree", False), ("", False)):
        assert audit_pair.is_at(place, "fc") == at, place


def test_what_has_no_gradient_wherever_weights_are_loses_none(recipe):
    planned = [{"name": name, "backend": "jax", "where": where} for name, where in (
        ("lost_gradient@fc.kernel", "fc"), ("frozen_tensor@fc.kernel", "fc.kernel"), ("missing_gradient@layer", "fc"),
        ("scaled_output@layer", "fc"), ("missing_gradient@gone", "gone"), ("late_batches", "*"))]

    def verdict(*null):
        return {"rungs": [{"name": "P0", "checks": []}, {"name": "P2", "checks": [
            {"what": what, "where": f"gradients/{name}{point}"} for what, name, point in null]}]}

    first = "float64, null direction", "fc.kernel", ""  # as of a layer whose output is multiplied by first zeros
    assert audit_pair.without_null(planned, recipe, verdict(first)) == (planned, [])
    null = verdict(first, ("float64, null direction", "fc.kernel", " at the generic point"),
                   ("float64", "gone.kernel", " at the generic point"))
    kept, left = audit_pair.without_null(planned, recipe, null)
    assert [t["name"] for t in kept] == ["frozen_tensor@fc.kernel", "scaled_output@layer", "missing_gradient@gone",
                                         "late_batches"]
    assert left == [{"name": name, "backend": "jax", "lacks": ["gradient"]} for name in (
        "lost_gradient@fc.kernel", "missing_gradient@layer")]
    assert audit_pair.without_null(planned, given("mlp-digits"), {}) == (planned, [])
