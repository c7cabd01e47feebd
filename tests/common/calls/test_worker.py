"""Calls as a trainer's process takes them."""

from pathlib import Path

import pytest

from twinscale.common.calls import worker
from twinscale.common.calls.worker import CALLS, answer
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.loop import Probe

RECIPE = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"})


def test_a_call_gets_a_recipe_paths_and_a_probe_and_the_rest_as_it_came(monkeypatch):
    monkeypatch.setitem(CALLS, "run_training", lambda *given, **named: (given, named))
    (room, recipe), named = answer("room", {}, "run_training", {
        "recipe": RECIPE.model_dump(mode="json"), "run_dir": "/a/run", "probe": {"stop": 3}, "progress": False})
    assert room == "room" and recipe == RECIPE and recipe.hash == RECIPE.hash
    assert named == {"run_dir": Path("/a/run"), "probe": Probe(stop=3, early=False), "progress": False}


def test_a_rooms_own_calls_take_no_recipe_and_go_before_those_of_all():
    assert answer("room", {"run_training": lambda **given: given}, "run_training", {"a": 1}) == {"a": 1}
    with pytest.raises(KeyError):
        answer("room", {}, "no_such_call", {"recipe": RECIPE.model_dump(mode="json")})


def test_every_call_is_a_function_of_a_room_and_a_recipe():
    for name, function in worker.CALLS.items():
        assert function.__name__ == name and function.__code__.co_varnames[:2] == ("room", "recipe")
