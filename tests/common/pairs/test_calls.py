"""What a room's process answers of a pair, by names that whoever asks knows."""

from types import SimpleNamespace

import pytest

from twinscale.common.pairs import calls, matching, sight


def test_each_call_is_of_the_room_and_of_the_framework_where_it_asks_for_one(monkeypatch):
    room, pair = SimpleNamespace(), SimpleNamespace(opened=lambda *given: given)
    found = calls.pair_calls(room, pair, "flax")
    assert found.keys() == {*calls.MATCHING, *calls.SIGHT}
    for module, names, framework in ((matching, calls.MATCHING, ()), (sight, calls.SIGHT, ("flax",))):
        for name in names:
            monkeypatch.setattr(module, name, lambda of, opened, *given, **more: (of, opened(1, 2), *given, more))
            assert found[name](path="x") == (room, (1, 2), *framework, {"path": "x"})
    pair.opened = lambda *given: "planted"  # which a call that comes later finds
    assert found[calls.SIGHT[0]]()[1] == "planted"
    with pytest.raises(KeyError):
        found["absent"]
