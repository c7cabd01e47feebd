"""What is seen of a side of a pair at work, on its way from the process that runs it to the one that judges."""

import math
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from twinscale.common.errors import BadInput
from twinscale.common.families.pair import side_in
from twinscale.common.files.access import shown
from twinscale.common.files.tensors import load_metadata, load_tensors, save_tensors
from twinscale.common.pairs.first import read_first
from twinscale.common.pairs.judge import generic_values
from twinscale.common.pairs.match import Match
from twinscale.common.pairs.matching import program_of, read_pair
from twinscale.common.pairs.parting import Sight, look, look_fed
from twinscale.common.pairs.program import Program, Seen, in_training
from twinscale.common.pairs.sides import asked, match_in, tensors_in, used_of
from twinscale.common.training.room import Room

KEY = "sight"  # of the metadata


class Written(BaseModel):
    """A Sight by the numbers of its arrays, "0" and so on in the file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    calls: list[tuple[str, list[int], list[int]]]
    outputs: dict[str, int]
    inputs: dict[str, int]
    noise: float | None


def leave_sight(room: Room, opened: Callable[..., Program], framework: str, recipe: Mapping[str, Any], path: str,
                training: bool) -> list[dict[str, Any]]:
    """Writes what is seen of a side of a pair at generic weights, over a few rows of the first batch, in the recipe's
    precision: at work as in training, without dropout, or as in evaluation.

    Args:
      opened: the room's, (model section, specs, precision, classes) to the Program. framework: "keras" or "flax".
    Returns: the lines of the pair's match, each as {"b", "a", "steps"}, which the second side alone can read.
    """
    with _at_work(room, opened, framework, recipe, training) as (program, values, inputs, match):
        sight = look(program, values, inputs)
    write_sight(path, sight, inputs if isinstance(inputs, Mapping) else {"inputs": inputs})
    return [vars(line) for line in match.lines]


def leave_fed_sight(room: Room, opened: Callable[..., Program], framework: str, recipe: Mapping[str, Any], path: str,
                    training: bool) -> None:
    """Reads of a Sight at `path` what the calls of a side are to be fed with, and writes there what is seen of the side
    then; all else as `leave_sight` has it."""
    (fed, _, _), _ = read_sight(path)
    with _at_work(room, opened, framework, recipe, training) as (program, values, inputs, _):
        sight = look_fed(program, values, inputs, fed)
    write_sight(path, sight, {})


@contextmanager
def _at_work(room, opened, framework, recipe, training):
    """While open, a side's numerics are as the recipe wants them: (its program, values of its tensors, inputs, the
    match, which is empty of the Keras side)."""
    read, pair = read_pair(recipe)
    tensors, start = read_first(pair.start)
    values = generic_values(tensors, start, read.train.precision, 0)
    side = side_in(pair, framework)
    with room.numerics(read):
        program, batch = program_of(opened, read)
        match = match_in(pair, side, program.tensors)
        program = used_of(match, program)
        yield (in_training(program) if training else program, tensors_in(match, values, np),
               asked(pair, side, batch), match or Match(()))


def write_sight(path: str | PathLike, sight: Sight, inputs: Mapping[str, np.ndarray]) -> None:
    """Writes a Sight and the inputs that it is of; an array that several modules have is written once."""
    arrays: dict[str, np.ndarray] = {}
    numbers: dict[int, int] = {}

    def number(x: np.ndarray) -> int:
        if id(x) not in numbers:
            numbers[id(x)] = len(arrays)
            arrays[str(len(arrays))] = x
        return numbers[id(x)]

    written = Written(calls=[(one.module, [number(x) for x in one.inputs], [number(x) for x in one.outputs])
                             for one in sight.seen],
                      outputs={name: number(x) for name, x in sight.outputs.items()},
                      inputs={name: number(x) for name, x in inputs.items()},
                      noise=sight.noise if math.isfinite(sight.noise) else None)
    save_tensors(path, arrays, {KEY: written.model_dump_json()})


def read_sight(path: str | PathLike) -> tuple[Sight, dict[str, np.ndarray]]:
    """(the Sight of a file, {name: input}). Raises BadInput where it holds none."""
    arrays = load_tensors(path)
    try:
        written = Written.model_validate_json(load_metadata(path).get(KEY, "{}"))
        calls = tuple(Seen(module, *(tuple(arrays[str(n)] for n in of) for of in numbers))
                      for module, *numbers in written.calls)
        outputs, inputs = ({name: arrays[str(n)] for name, n in of.items()} for of in (written.outputs, written.inputs))
    except (ValidationError, KeyError) as error:
        raise BadInput(f"{shown(path)}: not what is seen of a program: compare again with --overwrite") from error
    return Sight(calls, outputs, math.inf if written.noise is None else written.noise), inputs
