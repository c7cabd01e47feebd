"""A side of a pair in its own process: the user's function is called there, and what it builds is given batches."""

import math
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.common import registry
from twinscale.common.data.arrays import ADDED, JUDGED
from twinscale.common.errors import BadInput, did_you_mean, first_line
from twinscale.common.families.pair import Pair, sides_of
from twinscale.common.files.access import exists, shown
from twinscale.common.files.pins import check_pin, unpinned
from twinscale.common.pairs.draws import check_same
from twinscale.common.pairs.first import first_draws, first_tensors
from twinscale.common.pairs.match import Match, carried, checked, read_match, returned
from twinscale.common.pairs.program import Inputs, Program, without
from twinscale.common.pairs.tensors import Tensor

PROGRAMS = {side: registry.Registry("programs", f"model.{side}", {}) for side in ("keras", "flax", "a", "b")}
NAMED = {"keras": "the Keras model", "flax": "its port"}  # a side in words; a and b are called so
ROWS = 2  # of the batch that a program is first called with
SHOWN = 6  # lines of a user's own traceback


def built(m: Pair, side: str) -> Any:
    """What the user's function of a side builds, with the options of the pair. Raises BadInput where the function is
    none, wants other arguments or breaks: with the place in the user's code."""
    name = getattr(m, side)
    function = registry.load(PROGRAMS[side], name)
    where = f"model.{side} = {registry.short(name)}"
    if not callable(function):
        raise BadInput(f"{where}: {type(function).__name__}: a function that builds the program is wanted")
    given = {key: list(x) if isinstance(x, tuple) else x for key, x in m.options.items()}
    try:
        return function(**given)
    except BadInput as error:  # which says all
        raise type(error)(f"{where}: {error}") from None
    except Exception as error:
        lines = [line for line in traceback.format_exception(error) if "/twinscale/" not in line][-SHOWN:]
        said = f"{type(error).__name__}: {first_line(error, 300)}"
        raise BadInput(f"{where}: breaks when it is called with options {dict(given)}: {said}\n" + "".join(lines)
                       ) from error


def asked(m: Pair, side: str, batch: Mapping[str, Any]) -> Inputs:
    """What a program takes of a batch: its one array, or several by their names, or what `model.inputs` asks for by the
    program's names."""
    held = [name for name in batch if name not in (*JUDGED, *ADDED)]
    if not m.inputs:
        one = "inputs" if m.reads != "arrays" else held[0] if len(held) == 1 else None
        return batch[one] if one else {name: batch[name] for name in held}
    absent = [name for name in m.inputs if name not in held]
    if absent:
        raise BadInput(f"model.inputs.{absent[0]}: a batch has no {absent[0]}: it has {', '.join(held)}"
                       f"{did_you_mean(absent[0], held)}")
    named = {getattr(sides, side) or name: batch[name] for name, sides in m.inputs.items()}
    return next(iter(named.values())) if len(named) == 1 and not any(
        getattr(sides, side) for sides in m.inputs.values()) else named


def specs_of(inputs: Mapping[str, tuple]) -> tuple[tuple[str, tuple, str], ...]:
    """((name, shape, dtype), ...) of {name: (shape, dtype)}, as `common.data.input_specs` has it."""
    return tuple((name, tuple(shape), str(dtype)) for name, (shape, dtype) in inputs.items())


def example(specs: Sequence[tuple[str, tuple, str]], most: int) -> dict[str, np.ndarray]:
    """A batch of a few rows that nobody's data made, by which programs are built: ids below `most`, else values from
    0 to 1."""
    drawn = np.random.default_rng(0)

    def of(name, shape, dtype):
        if not dtype.startswith("float"):
            return drawn.integers(0, most or 1 if name == "inputs" else 1, (ROWS, *shape[1:])).astype(dtype)
        return drawn.random((ROWS, *shape[1:])).astype(dtype)

    return {name: of(name, shape, dtype) for name, shape, dtype in specs}


def match_in(m: Pair, side: str, tensors: Sequence[Tensor]) -> Match | None:
    """What makes the tensors of a side of a pair from the canonical ones: its match; None of the first side, which has
    them. Raises BadInput where they do not fit."""
    if side != sides_of(m)[0]:
        return match_of(m, tensors)
    known, found = ({tensor.path: tensor.shape for tensor in of} for of in (first_tensors(m.start), tensors))
    if odd := [path for path in (*known, *found) if known.get(path) != found.get(path)]:
        raise BadInput(f"model.weights: {odd[0]} is another tensor than {NAMED.get(side, side)} has: `twinscale match "
                       "RECIPE` again")
    return None


def used_of(match: Match | None, program: Program) -> Program:
    """A side's program without the tensors that its match says no output depends on."""
    return program if match is None else without(program, match.idle_b)


def tensors_in(match: Match | None, tensors: Mapping[str, Any], xp: Any) -> dict[str, Any]:
    """The tensors of a program, {path: array}, from the canonical ones, over an array library; `match` as `match_in`
    has it."""
    return dict(tensors) if match is None else carried(match, tensors, xp)


def tensors_out(match: Match | None, first: Sequence[Tensor], own: Sequence[Tensor], moved: Mapping[str, Any], xp: Any
                ) -> dict[str, Any]:
    """The canonical tensors, {path: array}, that the tensors which a program has moved are parts of; `first` and `own`
    are the tensors of the first program and of this one."""
    return dict(moved) if match is None else returned(match, first, own, moved, xp)


def match_of(m: Pair, b: Sequence[Tensor]) -> Match:
    """The match of a pair, held to the tensors of both sides. Raises BadInput, which says how to make it."""
    path = unpinned(m.match)
    if not exists(path):
        raise BadInput(f"model.match: {shown(path)}: no such file: `twinscale match RECIPE` makes it")
    check_pin(m.match)
    match = read_match(path, b)
    checked(match, first_tensors(m.start), b)
    return match


def check_program(m: Pair, side: str, program: Program, batch: Mapping[str, Any], classes: int) -> None:
    """Calls a side's program once. Raises BadInput where it gives no logits, one output (B, T, classes) of text or (B,
    classes) of images; of arrays outputs are of any shape (B, ...)."""
    made, _ = program.call(program.start, asked(m, side, batch))
    if m.reads == "arrays":
        check_outputs(side, made, len(next(iter(batch.values()))), classes)
        return
    if len(made) != 1:
        raise BadInput(f"model.{side}: the program gives {', '.join(made)}: say by model.outputs.{side} which of them "
                       "are the logits")
    wanted = *batch["inputs"].shape[:2 if m.reads == "text" else 1], classes
    (logits,) = made.values()
    if tuple(logits.shape) != wanted:
        raise BadInput(f"model.{side}: the program gives {tuple(logits.shape)}, but logits {wanted} are wanted: a row "
                       "for each of the data's, and a number for each class")


def check_width(side: str, program: Program) -> None:
    """Raises BadInput where a side's program computes in less than it is asked for whatever comes in."""
    if program.lower:
        raise BadInput(f"model.{side}: computes in less than {program.precision} whatever comes in, first at "
                       f"{program.lower}: train it in float32, for which `twinscale match RECIPE --overwrite` says in "
                       "match.toml what it computes in, or let it compute in what comes in")


def check_draws(m: "Pair", side: str, program: Program, batch: Mapping[str, Any]) -> None:
    """Raises BadInput where a side's dropout is to draw shared bits and is not what the Keras side had when it was
    matched, or where something else draws."""
    if m.dropout == "shared":
        match = match_in(m, side, program.tensors)
        check_same(side, program.dropouts(asked(m, side, batch), len(next(iter(batch.values())))),
                   first_draws(m.start), match.dropout if match else ())


def check_outputs(side: str, made: Mapping[str, Any], rows: int, classes: int) -> None:
    """Raises BadInput where a program of arrays gives an output that is not of its rows, no floats, or fewer outputs
    than the labels have classes."""
    floats = floats_of(made)
    odd = [name for name, x in floats.items() if not x.shape or x.shape[0] != rows]
    if odd or not floats:
        told = f"output {odd[0]} {tuple(floats[odd[0]].shape)} of {rows} rows" if odd else "no floats"
        raise BadInput(f"model.{side}: the program gives {told}: outputs (rows, ...) are wanted; say by "
                       f"model.outputs.{side} which one is meant")
    several = sum(math.prod(x.shape[1:]) for x in floats.values()) if len(floats) > 1 else (
        [1, *next(iter(floats.values())).shape[1:]][-1])
    if several < classes:
        raise BadInput(f"model.{side}: the program gives {several} outputs for {classes} classes of labels: give as "
                       'many, or set objective.name = "squared-error" or "sigmoid"')


def floats_of(made: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of floats, by their names' order, or as they come where their names are numbers."""
    names = list(made) if all(name.isdigit() for name in made) else sorted(made)
    return {name: made[name] for name in names if "float" in str(made[name].dtype)}


def logits_of(made: Mapping[str, Any], xp: Any) -> Any:
    """What an objective reads of a program's outputs, over an array namespace: its one output, (B, 1) of one number a
    row; or of several outputs all numbers beside each other, (B, D)."""
    found = list(floats_of(made).values()) if len(made) > 1 else list(made.values())
    if len(found) == 1:
        return found[0] if len(found[0].shape) > 1 else xp.expand_dims(found[0], -1)
    return xp.concatenate([xp.reshape(x, (-1, math.prod(x.shape[1:]))) for x in found], -1)
