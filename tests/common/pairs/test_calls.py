"""What a room's process answers of a pair, by names that whoever asks knows."""

from types import SimpleNamespace

import pytest

from twinscale.common.pairs import calls, matching, sight


def test_each_call_is_of_the_room_and_of_the_framework_where_it_asks_for_one(monkeypatch):
    room, opened = SimpleNamespace(), SimpleNamespace()
    found = calls.pair_calls(room, opened, "flax")
    assert found.keys() == {*calls.MATCHING, *calls.SIGHT}
    kinds = (matching, calls.MATCHING, (room, opened)), (sight, calls.SIGHT, (room, opened, "flax"))
    for module, names, given in kinds:
        for name in names:
            monkeypatch.setattr(module, name, lambda *given, **more: (given, more))
            assert found[name](path="x") == (given, {"path": "x"})
    with pytest.raises(KeyError):
        found["absent"]
