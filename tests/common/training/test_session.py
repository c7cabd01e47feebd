"""Sessions of a process, in a room that only counts."""

from collections import Counter
from types import SimpleNamespace

import pytest

from twinscale.common.training import session
from twinscale.common.training.session import KEPT, open_session


@pytest.fixture
def room(monkeypatch):
    """A room whose functions count how often they were called, in `room.calls`."""
    monkeypatch.setattr(session, "SESSIONS", {})
    monkeypatch.setattr(session, "check_tensors", lambda recipe, dataset: None)
    monkeypatch.setattr(session, "open_dataset", lambda recipe: SimpleNamespace(manifest=recipe))
    calls = Counter()

    def counted(name):
        def function(*_):
            calls[name] += 1
            return f"{name} {calls[name]}"
        return function

    class Counting(SimpleNamespace):
        __hash__ = object.__hash__

    return Counting(calls=calls, **{name: counted(name) for name in (
        "open_devices", "new_state", "make_step", "make_evaluate", "make_step_tensors", "make_sketch",
        "make_step_taps")})


def test_a_recipe_is_compiled_once_and_begins_anew_each_time(room):
    one, two = (open_session(room, "recipe") for _ in range(2))
    assert room.calls["make_step"] == room.calls["make_step_taps"] == 1 and one.step is two.step
    assert (one.state, two.state) == ("new_state 1", "new_state 2")


def test_other_data_and_recipes_of_long_ago_are_compiled_again(room):
    open_session(room, "recipe")
    open_session(room, "recipe", dataset=SimpleNamespace(manifest="other"))
    assert room.calls["make_step"] == 2
    for number in range(KEPT):
        open_session(room, number)
    assert len(session.SESSIONS) == KEPT and (room, "recipe") not in session.SESSIONS
    open_session(room, "recipe")
    assert room.calls["make_step"] == KEPT + 3
