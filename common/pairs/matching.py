"""How a pair comes to its match: each side in its own process, what they have to know of each other in files.

The process of the first side, the Keras model or a, leaves its tensors and what it makes of one batch at generic
weights; the process of the other side finds the match by trying what it makes of the same, and writes it.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from twinscale.common.data import input_specs, open_dataset, training_batches
from twinscale.common.data.arrays import ADDED
from twinscale.common.errors import BadInput
from twinscale.common.families.pair import FRAMEWORKS, Pair, sides_of
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.operations.in_place import few
from twinscale.common.pairs.draws import check_same, order_of
from twinscale.common.pairs.first import check_trained, first_draws, read_first, write_first
from twinscale.common.pairs.judge import generic, idle_of, outputs_difference
from twinscale.common.pairs.match import checked, without_partner, write_match
from twinscale.common.pairs.program import Program, axes_of_one, without
from twinscale.common.pairs.search import AGREES, find
from twinscale.common.pairs.sides import asked, floats_of, logits_of, specs_of
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import short
from twinscale.common.training.room import Room

Opened = Callable[..., Program]  # (model section, specs, dtype policy, classes)


def leave_program(room: Room, opened: Opened, recipe: Mapping[str, Any], first: str, outputs: str) -> dict[str, Any]:
    """Writes the tensors of the first side with their first values to `first`, and to `outputs` what it makes of a few
    rows of the first batch at generic weights. Returns what there is to say of it."""
    read, pair = read_pair(recipe)
    with room.numerics(read):
        program, batch = program_of(opened, read)
        check_trained(program.tensors, sides_of(pair)[0])
        inputs = asked(pair, sides_of(pair)[0], batch)
        try:
            draws = program.dropouts(inputs, len(next(iter(batch.values()))))
        except BadInput:
            if pair.dropout == "shared":
                raise
            draws = None
        write_first(first, program.tensors, program.start, draws)
        made, _ = program.call(generic(program, 0), inputs)
    save_tensors(outputs, {name: np.asarray(x) for name, x in made.items()})
    return {"kind": program.kind, "lower": _lower(room, opened, read), "tensors": len(program.tensors),
            "values": sum(math.prod(tensor.shape) for tensor in program.tensors)}


def idle_program(room: Room, opened: Opened, recipe: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Those of some tensors of the first side that no output depends on."""
    read, pair = read_pair(recipe)
    with room.numerics(read):
        program, batch = program_of(opened, read)
        return idle_of(program, asked(pair, sides_of(pair)[0], batch), names)


def match_program(room: Room, opened: Opened, recipe: Mapping[str, Any], first: str, outputs: str, out: str,
                  idle: Sequence[str] | None = None) -> dict[str, Any]:
    """Finds which tensors of the first side make those of the other, and writes it to `out`. Returns {"kind",
    "tensors", "lines", "difference" of outputs, "tried", "seconds"}. Where tensors have no partner it returns
    {"unmatched": all of the first side}, for somebody to ask `idle_program`: with what of them is `idle`, tensors of
    both sides that no output depends on are left out of the match, if outputs agree under the rest of it. Raises
    BadInput, and writes nothing, where others have no partner."""
    (read, pair), began = read_pair(recipe), time.monotonic()
    tensors, start = read_first(str(first))
    made = load_tensors(outputs)
    original = Program("", tensors, start, lambda *given: (made, {}), lambda *given: ({}, {}))
    with room.numerics(read):
        program, batch = program_of(opened, read)
        inputs = asked(pair, sides_of(pair)[1], batch)
        told = check_names(pair, made, program.call(program.start, inputs)[0])
        order: tuple[int, ...] = ()
        if pair.dropout == "shared":
            drawn, noted = program.dropouts(inputs, len(next(iter(batch.values())))), first_draws(str(first))
            order = order_of(drawn, noted or ())
            check_same(sides_of(pair)[1], drawn, noted, order)
        judge = outputs_difference(original, program, (inputs, inputs))

        def tell(said: str) -> None:
            print(said, file=sys.stderr, flush=True)

        match, apart, tried = find(tensors, program.tensors, judge, tell=tell)
        if (match.unmatched_a or match.unmatched_b) and idle is None:
            return {"unmatched": [tensor.path for tensor in tensors]}
        if idle is not None:
            match, apart, tried = _of_the_rest(original, program, match, (idle, inputs), tell)
    if left := without_partner(match, tensors, program.tensors, labels(pair)):
        raise BadInput(f"match: tensors without a partner: {left}: write a match.toml that says what they are made of, "
                       "and name it by model.match")
    checked(match, tensors, program.tensors)
    told += tuple(f"no output depends on {name} of {side}, which is left out" for side, names in zip(
        labels(pair), (match.idle_a, match.idle_b), strict=True) for name in names)
    if order:
        told += ("the sides call their dropout in another order: dropout.order says which is which, by rate and shape",)
    write_match(out, replace(match, dropout=order, notes=(*match.notes, *told)),
                *(short(getattr(pair, side)) for side in sides_of(pair)))
    return {"kind": program.kind, "lower": _lower(room, opened, read), "tensors": len(program.tensors),
            "lines": len(match.lines), "difference": apart,
            "agrees": apart <= AGREES, "tried": tried, "seconds": time.monotonic() - began,
            "notes": [*match.notes, *told], "told": list(told)}


def _lower(room, opened, recipe) -> str:
    """Where a side's program first computes in less than float64 whatever comes in; "" where it does not."""
    wide = recipe.with_values(train={"precision": "float64"})
    with room.numerics(wide):
        return program_of(opened, wide)[0].lower


def _of_the_rest(original, program, match, idle, tell):
    """What `find` gives of both sides without what is idle; the match as it is where outputs do not agree then."""
    of_a, inputs = idle
    of_b = idle_of(program, inputs, [tensor.path for tensor in program.tensors])
    a = tuple(tensor for tensor in original.tensors if tensor.path not in of_a)
    b = without(program, of_b)
    judge = outputs_difference(replace(original, tensors=a), b, (inputs, inputs))
    found, apart, tried = find(a, b.tensors, judge, tell=tell)
    if apart > AGREES and not (found.unmatched_a or found.unmatched_b):
        return match, apart, tried
    return replace(found, idle_a=tuple(of_a), idle_b=tuple(of_b)), apart, tried


def check_names(pair: Pair, made: Mapping[str, Any], others: Mapping[str, Any]) -> tuple[str, ...]:
    """Lines on outputs that have a last axis of one on one side alone. Raises BadInput where a pair of arrays gives
    several outputs that are not called the same on both sides, for an objective reads them beside each other, in the
    order of their names; or one that an objective reads as so many outputs here and so many positions there."""
    ours, theirs = (floats_of(x) for x in (made, others))
    if pair.reads == "arrays" and max(len(ours), len(theirs)) > 1 and ours.keys() != theirs.keys():
        first, second = labels(pair)
        raise BadInput(f"model.outputs: {first} gives {', '.join(ours)}, {second} {', '.join(theirs)}: give them the "
                       "same names, or say by model.outputs which one is meant on each side")
    told = axes_of_one(made, others)
    one, other = (logits_of({name: np.asarray(x) for name, x in side.items()}, np) for side in (made, others))
    if told and one.shape != other.shape:
        raise BadInput(f"outputs: {told[0].partition(':')[0]}: an objective reads its last axis as the outputs of a "
                       "position: give them the same shape")
    return told


def labels(pair: Pair) -> tuple[str, str]:
    """What the sides of a pair are called in a sentence: Keras and JAX, or a and b."""
    first, second = sides_of(pair)
    return FRAMEWORKS.get(first, first), FRAMEWORKS.get(second, second)


def read_pair(recipe: Mapping[str, Any]) -> tuple[Recipe, Pair]:
    """(the Recipe of a dict, its model section)."""
    read = Recipe.model_validate(recipe)
    assert isinstance(read.model, Pair)  # whoever asks has looked
    return read, read.model


def program_of(opened: Opened, recipe: Recipe) -> tuple[Program, dict[str, np.ndarray]]:
    """(the Program of a recipe's pair in this room, in the recipe's precision; a few rows of its first batch)."""
    dataset = open_dataset(recipe)
    specs = specs_of(input_specs(recipe, dataset.example_shape))
    program = opened(recipe.model, specs, recipe.train.precision, dataset.classes)
    _, batch, _ = next(training_batches(dataset, recipe, 0, 1))
    read = few(batch, dataset.example_shape)
    return program, {name: np.asarray(read[name], dtype) for name, _, dtype in specs if name not in ADDED}
