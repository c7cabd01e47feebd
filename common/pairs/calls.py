"""What a room's process answers of a pair: the calls of `matching` and of `sight`, by their names."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinscale.common.pairs.program import Program
    from twinscale.common.training.room import Room

MATCHING, SIGHT = ("leave_program", "idle_program", "match_program"), ("leave_sight", "leave_fed_sight")


def pair_calls(room: "Room", pair: ModuleType, framework: str) -> dict[str, Callable[..., Any]]:
    """{name: a function of a call's arguments}.

    Args:
      room: the process' own. pair: the room's module of pairs, whose `opened` makes of (model section, specs,
        precision, classes) the Program; what is planted may stand in its place when a call comes.
      framework: "keras" or "flax".
    """
    def opened(*given: Any) -> "Program":
        return pair.opened(*given)

    found = {name: partial(_called, "matching", name, room, opened) for name in MATCHING}
    return found | {name: partial(_called, "sight", name, room, opened, framework) for name in SIGHT}


def _called(module, name, *given, **arguments):
    """Imports what it calls first: a process that is asked nothing of a pair starts without it."""
    return getattr(import_module(f"twinscale.common.pairs.{module}"), name)(*given, **arguments)
