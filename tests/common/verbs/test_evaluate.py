"""Evaluating once more: which backend is asked, and what is said."""

import json
from contextlib import nullcontext

import pytest

from twinscale.common import cli
from twinscale.common.training import canonical, evaluating
from twinscale.common.verbs import shared


@pytest.fixture
def asked(work, monkeypatch):
    """The (backend, rows) that were asked for, of a state of Keras in the folder of a recipe."""
    found = []

    def evaluate(room, recipe, begun, on, accept):
        found.append((room, on, accept))
        return {"loss": 1.0 + len(found) / 4, "f1/a": 0.5, "precision/a": 0.5, "recall/a": 0.5}, {}

    (work / "recipe.toml").write_text((work / "r.toml").read_text())
    monkeypatch.setattr(canonical, "state_of", nullcontext)
    monkeypatch.setattr(canonical, "read", lambda path, recipe: {"origin": {"backend": "keras"}})
    monkeypatch.setattr(shared, "room", lambda name: type("Module", (), {"ROOM": name}))
    monkeypatch.setattr(evaluating, "evaluate_state", evaluate)
    return found


def test_a_state_is_evaluated_by_its_own_backend_unless_another_is_asked_for(asked, lines):
    assert cli.main(["evaluate", ".", "--on", "test"]) == 0
    assert asked == [("tfscale.room", "test", False)]
    out, _ = lines()
    assert out.splitlines()[0] == "keras: loss 1.2500" and out.splitlines()[1].startswith("class")
    assert cli.main(["evaluate", ".", "--backend", "jax", "--accept-data"]) == 0
    assert asked[1:] == [("jaxscale.room", "held_out", True)]


def test_both_backends_are_set_side_by_side(asked, lines):
    assert cli.main(["evaluate", ".", "--backend", "both"]) == 0
    assert lines()[0].splitlines()[:3] == ["keras: loss 1.2500", "jax: loss 1.5000", "largest difference: 0.25"]
    assert cli.main(["evaluate", ".", "--backend", "both", "--json"]) == 0
    assert {name: found["loss"] for name, found in json.loads(lines()[0]).items()} == {"keras": 1.75, "jax": 2.0}
