"""A trainer as a process that answers calls: one JSON object a line on stdin, one on stdout.

A framework takes seconds to import, so a comparison keeps one process for each backend and asks it for one thing
after another.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from twinscale.common import process
from twinscale.common.calls.measure import (
    measure_data,
    measure_device,
    measure_input,
    measure_product,
    measure_start,
    measure_steps,
)
from twinscale.common.calls.one_step import whole_step
from twinscale.common.calls.trials import step_trials
from twinscale.common.errors import NO, known, show_traceback, unexpected
from twinscale.common.files.access import plain
from twinscale.common.planted import inside, mutants
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import session
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.room import Room
from twinscale.common.training.stages import held_out_losses, make_start, quanta, shadow, stage_masks, train_stage
from twinscale.common.training.trace import contract, first_step, optimizer_steps, places_at, step_taps

Ends = tuple[TextIO, TextIO]  # requests come at the one, replies go to the other
CALLS = {function.__name__: function for function in (
    run_training, contract, first_step, step_taps, places_at, whole_step, optimizer_steps, measure_start, measure_steps,
    measure_data, measure_device, measure_input, measure_product, make_start, train_stage, shadow, stage_masks, quanta,
    held_out_losses, step_trials)}


def serve(room: Room, changes: Mapping[str, Any], own: Mapping[str, Callable]) -> None:
    """Answers {"call": NAME, "arguments": {}} with {"value": ...} or {"error": ..., "exit_code": ...} till stdin ends.

    The calls are those of CALLS on this room, the recipe and paths as JSON; "plant", which plants one of `changes` in
    the place of what is planted, or nothing; "changes", which says what there is to plant; "fork", which has a copy of
    this process answer at a socket, and is for one that has computed nothing yet; and the room's `own`, by name.
    Whatever a framework prints goes to stderr.
    """
    planted = ExitStack()

    def plant(change):
        found, at = inside.parted(change, changes) if change is not None else (None, ())
        planted.close()
        session.SESSIONS.clear()
        if found:
            planted.enter_context(found.plant(*at))

    def listed():
        return {name: {"recipe": c.recipe, "operation": c.operation, "where": c.where, "meaning": c.meaning,
                       "needs": c.needs, "phase": c.phase, "shared": name in mutants.CHANGES}
                for name, c in changes.items()}

    own = {"plant": plant, "changes": listed, **own}
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    ends: Ends | None = (sys.stdin, replies)
    while ends:
        ends = answered(room, own, *ends)
    sys.stderr.flush()
    os._exit(0)  # nothing is left to be done, and a framework takes a second to end


def answered(room: Room, own: Mapping[str, Callable], requests: TextIO, replies: TextIO) -> Ends | None:
    """Answers requests till they end; in a copy of the process, returns the ends at which it goes on."""
    for line in requests:
        request = json.loads(line)
        try:
            if request["call"] == "fork" and (ends := forked(**request["arguments"])):
                return ends
            reply = {"value": None if request["call"] == "fork" else plain(
                answer(room, own, request["call"], request["arguments"]))}
        except Exception as error:  # the process that asked shows it and ends
            show_traceback(error)
            said = known(error)
            reply = {"error": str(said) if said else unexpected(error), "exit_code": said.exit_code if said else NO}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    return None


def forked(path: str) -> Ends | None:
    """Copies this process, which has imported a framework and started nothing of it. In the copy: the ends at which it
    answers, of the socket at `path`; None in the process itself."""
    parent = os.getpid()
    if os.fork():
        return None
    process.end_with(parent)
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(path)
        return end.makefile("r", encoding="utf-8"), end.makefile("w", encoding="utf-8")


def answer(room: Room, own: Mapping[str, Callable], call: str, arguments: dict[str, Any]) -> Any:
    """What a call on a room gives, as Python has it."""
    if call in own:
        return own[call](**arguments)
    recipe = Recipe.model_validate(arguments.pop("recipe"))
    if "probe" in arguments:
        arguments["probe"] = Probe(**{"early": False} | arguments["probe"])  # what is compared trains all steps
    given = ("path", "run_dir", "teacher", "left", "start", "given", "mine", "theirs", "beside")
    paths: dict[str, Any] = {name: Path(arguments.pop(name)) for name in given if name in arguments}
    return CALLS[call](room, recipe, **paths, **arguments)
