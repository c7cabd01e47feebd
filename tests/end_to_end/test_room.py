"""Both backends' rooms are what `common.training.room.Room` says: by name, and by parameter in order."""

import importlib
import inspect

import pytest

from twinscale.common.training.room import Devices, Room, Store

FUNCTIONS = [name for name, value in vars(Room).items() if inspect.isfunction(value) and not name.startswith("_")]
PROPERTIES = [name for name, value in vars(Room).items() if isinstance(value, property)]


def given(package, function):
    """What a room gives under a name: of one that it imports when it is called, that which is then called."""
    if "." in function.__name__:
        file, name = function.__name__.split(".")
        return getattr(importlib.import_module(f"twinscale.{package}.compress.{file}"), name)
    return function


def unlike(package, room):
    """The functions of a room that are not to be called as `Room` says."""
    for name in FUNCTIONS:
        wanted = list(inspect.signature(getattr(Room, name)).parameters.values())[1:]  # without self
        found = list(inspect.signature(given(package, getattr(room, name))).parameters.values())
        more = found[len(wanted):]
        if [p.name for p in found[:len(wanted)]] != [p.name for p in wanted] or any(
                mine.default is inspect.Parameter.empty and asked.default is not inspect.Parameter.empty
                for mine, asked in zip(found, wanted, strict=False)) or any(
                p.default is inspect.Parameter.empty for p in more):
            yield name, [p.name for p in wanted], [p.name for p in found]


@pytest.mark.parametrize("package", ["tfscale", "jaxscale"])
def test_a_room_is_what_the_protocol_says(room_of, package):
    """A training's, and that of a compression's stages."""
    room = room_of(package)
    assert len(FUNCTIONS) > 15 and {"backend", "Store", "compressing"} <= set(PROPERTIES)
    for one in (room, room.compressing):
        assert list(unlike(package, one)) == []
        assert all(hasattr(one, name) for name in PROPERTIES)
        for name in ("NAMES", "write", "wait", "read", "files", "delete", "close"):
            assert hasattr(one.Store, name) and (name == "NAMES" or [*inspect.signature(
                getattr(one.Store, name)).parameters] == [*inspect.signature(getattr(Store, name)).parameters])
    devices = importlib.import_module(f"twinscale.{package}.devices").Devices
    offered = {*dir(devices), *devices.__dataclass_fields__}
    assert {name for name, value in vars(Devices).items() if isinstance(value, property)} <= offered


def test_a_room_that_is_not_is_found(room_of):
    class Other(type(room_of("jaxscale"))):
        @staticmethod
        def with_tensors(recipe, state, tensors, devices, step):
            return state

    assert [name for name, *_ in unlike("jaxscale", Other())] == ["with_tensors"]
