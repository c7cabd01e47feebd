"""`twinscale.check`: whether two programs, a Keras model and its port to JAX or two of one framework, are one function,
in this process."""

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, Literal, get_args

from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists
from twinscale.common.pairs.judge import PairVerdict, idle_of, judged, outputs_difference
from twinscale.common.pairs.match import Match, checked, read_match, without_partner
from twinscale.common.pairs.program import Inputs, Program, axes_of_one, in_training, without
from twinscale.common.pairs.search import find

Precision = Literal["auto", "float64", "float32", "bfloat16"]
FLOAT32 = 1e-6  # differences below it may be of a number that one side has rounded to float32
KERAS = ("keras", "tf_keras", "tensorflow")  # of whose classes a Keras program's is one


def check(a: Any, b: Any, inputs: Inputs, *, match: "Match | str | os.PathLike[str] | None" = None,
          names: Mapping[str, tuple[str, str]] | None = None, outputs: tuple[str | None, str | None] | None = None,
          seed: int = 0, precision: Precision = "auto", training: bool = False) -> PairVerdict:
    """Whether two programs are one function: their outputs and every gradient at equal weights, held to bounds that are
    measured on their own roundings; and where they first part.

    Weights are carried from a to b, moved away from zero and one first; neither program is changed. Nothing random is
    drawn: both are asked as in evaluation.

    Args:
      a: a keras.Model, or a model of tf_keras; or what b may be.
      b: an nnx.Module, a linen.Module (or a pair of it and its variables), a model of the transformers library, or
        (init, apply), two pure functions; or what a may be.
      inputs: a small batch for both: an array, a tuple of arrays in order, or {name: array}.
      match: which tensor is which: a match.toml, or what an earlier verdict has as `match`; None: it is found.
      names: {name in `inputs`: (a's name, b's)}, where these differ.
      outputs: (a's output, b's), where there are several and not all of both are meant.
      seed: of the weights.
      precision: what both compute in; "auto": float64 where both can, else float32, and a note says which cannot and
        where, or that they differ in float64 by less than float32 can show.
      training: compare them as in training: normalization by the batch's own statistics, and the running ones after
        it; dropout is off on both sides.
    Returns: a PairVerdict, which is true where they are one; `verdict.raise_if_not()` raises Disagreement with the
    place. Raises BadInput where a program breaks, cannot compute in the precision, or a tensor has no partner: with
    what was found.
    """
    if precision not in (kinds := get_args(Precision)):
        raise BadInput(f"precision: {precision}: one of {', '.join(kinds)} is wanted")
    given = _named(inputs, names, 0), _named(inputs, names, 1)
    sides = _labels(a, b)
    programs, notes = _opened((a, b), given, outputs or (None, None), precision, sides)
    known = match_of(match, programs[0], programs[1], given, sides)
    used = {name for line in known.lines for name in line.a}, {line.b for line in known.lines}

    def needed(programs):
        return [_without_idle(*of) for of in zip(programs, used, given, strict=True)]

    fewer = needed(programs)
    checked(known, *(program.tensors for program in fewer))
    verdict = _judged(fewer, given, known, seed, training)
    if precision == "auto" and not verdict and all(row.difference < FLOAT32 for row in verdict.rows):
        plain, _ = _opened((a, b), given, outputs or (None, None), "float32", sides)
        blunter = _judged(needed(plain), given, known, seed, training)
        if blunter:
            notes = (f"in float64 they differ, by less than float32 can show: {verdict.sentence}",)
            verdict = blunter
    idle = [f"{side}: no output depends on {name}, which is left out" for side, program, left in zip(
        sides, programs, fewer, strict=True) for name in program.start if name not in left.start]
    made = [program.call(program.start, one)[0] for program, one in zip(programs, given, strict=True)]
    return replace(verdict, notes=(*verdict.notes, *notes, *idle, *axes_of_one(*made)))


def match_of(given: "Match | str | os.PathLike[str] | None", a: Program, b: Program, inputs: tuple[Inputs, Inputs],
             sides: tuple[str, str] = ("a", "b")) -> Match:
    """A match as it is given, of a file, or the one that is found for two programs. Raises BadInput, which names the
    file's line, or what has no partner."""
    if isinstance(given, Match):
        return given
    if given is not None:
        if not exists(given):
            raise BadInput(f"{given}: no such file: leave match out, and it is looked for")
        return read_match(given, b.tensors)
    result, _, _ = find(a.tensors, b.tensors, outputs_difference(a, b, inputs))
    if result.unmatched_a or result.unmatched_b:  # some of them may be what this output has no use for
        paths = [{tensor.path for tensor in program.tensors} for program in (a, b)]
        a = _without_idle(a, paths[0].difference(result.unmatched_a), inputs[0])
        b = _without_idle(b, paths[1].difference(result.unmatched_b), inputs[1])
        result, _, _ = find(a.tensors, b.tensors, outputs_difference(a, b, inputs))
    if left := without_partner(result, a.tensors, b.tensors, sides):
        raise BadInput(f"match: tensors without a partner: {left}: give match=..., a file that says what they are made "
                       "of")
    return result


def _without_idle(program, used, inputs):
    """A program less those of its tensors that are not in `used` and that no output depends on, such as a pooler where
    another output is meant: their gradients are zero to the bit."""
    return without(program, idle_of(program, inputs, {tensor.path for tensor in program.tensors} - set(used)))


def _judged(programs, inputs, match, seed, training):
    one, other = map(in_training, programs) if training else programs
    return judged(one, other, inputs, match, seed)


def _named(inputs, names, side):
    if not isinstance(inputs, Mapping):
        return inputs
    return {(names or {}).get(name, (name, name))[side]: x for name, x in inputs.items()}


def _labels(*built):
    """The sides' names in what is said: ("a (Keras)", "b (Flax)")."""
    found = []
    for side, one in zip("ab", built, strict=True):
        rooms = {kind.__module__.partition(".")[0] for of in (one, *(one if isinstance(one, tuple) else ()))
                 for kind in type(of).__mro__} | {type(getattr(one, "module", None)).__module__.partition(".")[0]}
        known = {"Keras": not rooms.isdisjoint(KERAS), "Flax": "flax" in rooms,
                 "JAX": isinstance(one, tuple) or callable(one)}
        default = "Keras" if side == "a" else "Flax"  # of what is neither: its room says so
        found.append(f"{side} ({next((name for name, is_it in known.items() if is_it), default)})")
    return tuple(found)


def _opened(built, inputs, outputs, precision, sides):
    """((Program of a, of b), notes) in one precision."""
    def opened(precision):
        programs = []
        for one, given, output, side in zip(built, inputs, outputs, sides, strict=True):
            room = "tfscale" if side.endswith("(Keras)") else "jaxscale"
            try:
                programs.append(import_module(f"twinscale.{room}.programs").open_program(one, given, output, precision))
            except BadInput as error:
                raise BadInput(f"{side[0]}: {error}") from error
            if programs[-1].lower:
                raise _Lower(f"{side} computes in less than {precision} whatever comes in, first at "
                             f"{programs[-1].lower}")
        return tuple(programs)

    if precision not in ("auto", "float64"):
        return opened(precision), ()
    try:
        return opened("float64"), ()
    except (BadInput, _Lower) as error:
        if precision == "float64" and isinstance(error, _Lower):
            raise BadInput(f"precision: {error}: leave precision out") from None
        if precision == "float64":
            raise
        return opened("float32"), (f"{error}: both are held to the bounds of float32." if isinstance(error, _Lower)
                                   else f"float64 breaks: {error}: both are held to the bounds of float32.",)


class _Lower(Exception):
    """A program computes in less than it was asked for."""
