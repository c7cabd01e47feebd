"""A trainer as a process that answers calls: one JSON object a line on stdin, one on stdout.

A framework takes seconds to import, so a comparison keeps one process for each backend and asks it for one thing
after another.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twinscale.common.calls.measure import measure_data, measure_device, measure_product, measure_start, measure_steps
from twinscale.common.calls.one_step import whole_step
from twinscale.common.calls.trials import step_trials
from twinscale.common.errors import NO, BadInput, known, show_traceback, unexpected
from twinscale.common.files.access import plain
from twinscale.common.planted import mutants
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import session
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.room import Room
from twinscale.common.training.stages import held_out_losses, make_start, quanta, shadow, stage_masks, train_stage
from twinscale.common.training.trace import contract, first_step, optimizer_steps, places_at, step_taps

CALLS = {function.__name__: function for function in (
    run_training, contract, first_step, step_taps, places_at, whole_step, optimizer_steps, measure_start, measure_steps,
    measure_data, measure_device, measure_product, make_start, train_stage, shadow, stage_masks, quanta,
    held_out_losses, step_trials)}


def serve(room: Room, changes: Mapping[str, Any], own: Mapping[str, Callable]) -> None:
    """Answers {"call": NAME, "arguments": {}} with {"value": ...} or {"error": ..., "exit_code": ...} till stdin ends.

    The calls are those of CALLS on this room, the recipe and paths as JSON; "plant", which plants one of `changes` in
    the place of what is planted, or nothing; "changes", which says what there is to plant; and the room's `own`, by
    name. Whatever a framework prints goes to stderr.
    """
    planted = ExitStack()

    def plant(change):
        if change is not None and change not in changes:
            raise BadInput(f"{change}: nothing to plant has that name; known here: {', '.join(changes)}")
        planted.close()
        session.SESSIONS.clear()
        if change is not None:
            planted.enter_context(changes[change].plant())

    def listed():
        return {name: {"recipe": c.recipe, "operation": c.operation, "where": c.where, "meaning": c.meaning,
                       "needs": c.needs, "phase": c.phase, "shared": name in mutants.CHANGES}
                for name, c in changes.items()}

    own = {"plant": plant, "changes": listed, **own}
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"value": plain(answer(room, own, request["call"], request["arguments"]))}
        except Exception as error:  # the process that asked shows it and ends
            show_traceback(error)
            said = known(error)
            reply = {"error": str(said) if said else unexpected(error), "exit_code": said.exit_code if said else NO}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to be done, and a framework takes a second to end


def answer(room: Room, own: Mapping[str, Callable], call: str, arguments: dict[str, Any]) -> Any:
    """What a call on a room gives, as Python has it."""
    if call in own:
        return own[call](**arguments)
    recipe = Recipe.model_validate(arguments.pop("recipe"))
    if "probe" in arguments:
        arguments["probe"] = Probe(**arguments["probe"])
    given = ("path", "run_dir", "teacher", "left", "start", "given", "mine", "theirs")
    paths: dict[str, Any] = {name: Path(arguments.pop(name)) for name in given if name in arguments}
    return CALLS[call](room, recipe, **paths, **arguments)
