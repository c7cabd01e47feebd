"""What a verdict says of the inside of two programs."""

from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks.rungs import inside
from twinscale.benchmarks.rungs.inside import _parted, cause_inside, looked_inside, words
from twinscale.common.families.pair import Pair
from twinscale.common.pairs.parting import Sight
from twinscale.common.pairs.program import Seen
from twinscale.common.pairs.sight import write_sight
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.recipe.file import given

MODULES = [{"a": "fc", "b": "fc1", "inputs": 0.0, "outputs": 1e-16, "parts": False},
           {"a": "out", "b": "fc2", "inputs": 0.25, "outputs": None, "parts": True}]
PLACED = {"training": True, "place": "between fc and out, whose inputs differ", "cause": "a applies ReLU, b tanh.",
          "coverage": "2 of 2", "bound": 1e-13, "modules": MODULES}
NOWHERE = PLACED | {"place": "", "cause": "", "modules": [row | {"parts": False} for row in MODULES]}


def verdict(contract=True, **inside):
    return {"rungs": [{"name": "P0", "agrees": contract}, {"name": "P2", "agrees": False}], "inside": inside}


def test_the_first_precision_in_which_they_part_is_the_cause():
    found = cause_inside(verdict(float64=NOWHERE, bfloat16=PLACED))
    assert (found["operation"], found["where"], found["phase"]) == ("program", "out", "forward")
    assert (found["difference"], found["bound"]) == (0.25, 1e-13)
    assert found["sentence"].startswith("Inside, in bfloat16, they first part between fc and out, whose inputs differ. "
                                        "a applies ReLU, b tanh. (a is the Keras model")


def test_gradients_that_part_alone_are_of_the_backward_pass():
    backward = NOWHERE | {"place": "backward, at fc or between it and out"}
    found = cause_inside(verdict(float64=backward))
    assert (found["where"], found["phase"], found["difference"]) == ("head", "backward", None)


def test_what_is_shared_comes_first_and_where_nothing_parts_others_look():
    assert cause_inside(verdict(contract=False, float64=PLACED)) is None
    assert cause_inside(verdict(float64=NOWHERE)) is None and cause_inside(verdict()) is None


def test_a_parting_in_evaluation_alone_is_said():
    assert "in float64, as they are evaluated, they first part" in words(PLACED | {"training": False}, "float64")


def test_a_model_whose_operations_are_known_is_not_looked_into():
    made = {"rungs": [], "sentence": ""}
    assert looked_inside(given("mlp-digits", []), made, None, {}) is made


def test_how_often_else_they_part_is_said_and_a_sentence_ends_once():
    others = [{"place": "at out, whose inputs agree and whose outputs do not", "cause": ""}]
    said = words(PLACED | {"others": others}, "float64")
    assert "Fed with a's values behind it, b parts at 1 more place." in said and said.endswith("2 of 2).")
    assert "2 more places" in words(PLACED | {"others": 2 * others}, "float64")
    assert "Fed" not in words(PLACED, "float64")
    assert cause_inside(verdict(float64=PLACED))["sentence"].endswith("2 of 2)")  # to which a report adds its own stop


def test_what_parts_behind_the_last_module_is_of_the_forward_pass_and_a_backward_parting_has_its_module():
    after = NOWHERE | {"place": "after out, the last module that holds tensors", "at": None}
    assert cause_inside(verdict(float64=after))["phase"] == "forward"
    backward = NOWHERE | {"place": "backward, at fc or between it and out", "at": "fc"}
    found = cause_inside(verdict(float64=backward))
    assert (found["where"], found["phase"], found["place"]) == ("fc", "backward", backward["place"])


def test_gradients_that_are_off_are_those_of_a_precision_null_directions_too_and_no_twins(monkeypatch):
    recipe = SimpleNamespace(model=Pair.model_construct(family="pair"))
    checks = [{"what": what, "where": f"gradients/{name} at the generic point", "agrees": ok} for what, name, ok in (
        ("float64", "a.kernel", False), ("float64", "b.kernel", True), ("float64, null direction", "a.bias", False),
        ("float64, keras against its twin", "c.kernel", False), ("float32", "d.kernel", False))]
    seen = {}
    monkeypatch.setattr(inside, "is_whole", lambda model: True)
    monkeypatch.setattr(inside, "precisions", lambda recipe: [
        SimpleNamespace(train=SimpleNamespace(precision=one)) for one in ("float64", "float32")])
    monkeypatch.setattr(inside, "seen_inside", lambda recipe, off, *rest: seen.update(off) or {"float64": PLACED})
    fails = {"agrees": False, "sentence": "No.", "rungs": [{"name": "P2", "checks": checks}]}
    made = looked_inside(recipe, fails, None, {})
    assert seen == {"float64": {"a.kernel", "a.bias"}, "float32": {"d.kernel"}}
    assert made["sentence"].startswith("No. Inside, in float64, they first part between fc and out")


class Shows:
    """A worker that shows one call of a module, and cannot be fed."""

    def __init__(self, backend, value):
        self.backend, self.value = backend, value

    def ask(self, call, recipe, path, training):
        assert call == "leave_sight", call
        seen = Seen("fc", (np.ones((2, 3), np.float32),), (np.full((2, 3), self.value, np.float32),))
        write_sight(path, Sight((seen,), {"output": seen.outputs[0]}, 0.0), {"inputs": seen.inputs[0]})
        return [{"b": "fc/kernel", "a": ["fc/kernel"], "steps": []}]


def test_where_nobody_can_be_fed_the_first_parting_alone_is_looked_for(tmp_path):
    """As in an audit, in which the side that has nothing planted is not there."""
    recipe, tensors = given("mlp-digits", ["train.precision=float32"]), (Tensor("fc/kernel", (3, 3)),)
    (tmp_path / "tensors").mkdir()
    workers = {"keras": Shows("keras", 1.0), "jax": Shows("jax", 1.5)}
    found = _parted(recipe, tensors, {"fc/kernel": np.ones((3, 3))}, tmp_path, workers, False, True)
    assert found.place.startswith("at fc") and found.others == ()
    with pytest.raises(AssertionError, match="leave_fed_sight"):
        _parted(recipe, tensors, {"fc/kernel": np.ones((3, 3))}, tmp_path, workers, True, True)
