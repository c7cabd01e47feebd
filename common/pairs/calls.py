"""What a room's process answers of a pair: the calls of `matching` and of `sight`, by their names."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinscale.common.pairs.program import Program
    from twinscale.common.training.room import Room

MATCHING, SIGHT = ("leave_program", "idle_program", "match_program"), ("leave_sight", "leave_fed_sight")


def pair_calls(room: "Room", opened: Callable[..., "Program"], framework: str) -> dict[str, Callable[..., Any]]:
    """{name: a function of a call's arguments}.

    Args:
      room: the process' own. opened: the room's, (model section, specs, precision, classes) to the Program.
      framework: "keras" or "flax".
    """
    found = {name: partial(_called, "matching", name, room, opened) for name in MATCHING}
    return found | {name: partial(_called, "sight", name, room, opened, framework) for name in SIGHT}


def _called(module, name, *given, **arguments):
    """Imports what it calls first: a process that is asked nothing of a pair starts without it."""
    return getattr(import_module(f"twinscale.common.pairs.{module}"), name)(*given, **arguments)
