"""What common asks of a room is what `Room` says, no more and no less."""

import ast
from pathlib import Path

from twinscale.common.training.room import Devices, Room, Store

HERE = Path(__file__).parents[3]


def members(protocol):
    """The names of a protocol."""
    return {name for name in (*vars(protocol), *vars(protocol).get("__annotations__", ()))
            if not name.startswith("_")}


def asked_of(*names):
    """The attributes that `common` takes of what is called by one of some names; a verb's `room` is a module."""
    trees = [ast.parse(path.read_text()) for path in (HERE / "common").rglob("*.py") if path.parent.name != "verbs"]
    return {node.attr for tree in trees for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in names}


def test_all_that_is_asked_of_a_room_stands_in_its_protocol_and_nothing_besides():
    asked = asked_of("room", "self.room", "room.compressing")
    assert len(asked) > 15 and asked - members(Room) == set()
    assert members(Room) - asked == set()


def test_a_store_and_devices_offer_what_is_asked_of_them():
    assert asked_of("self.store", "room.Store", "self.room.Store") == members(Store)
    assert members(Devices) <= asked_of("devices", "self.devices", "session.devices", "bench.session.devices",
                                        "BENCHES[recipe].session.devices")
