"""`twinscale.check`: whether a Keras model and its port to JAX are one function, in this process."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists
from twinscale.common.pairs.judge import PairVerdict, generic, judged, outputs_difference
from twinscale.common.pairs.match import Match, checked, read_match
from twinscale.common.pairs.program import Inputs, Program, without
from twinscale.common.pairs.search import find


def check(keras_model: Any, flax_program: Any, inputs: Inputs, *, match: "Match | str | os.PathLike[str] | None" = None,
          names: Mapping[str, tuple[str, str]] | None = None, outputs: tuple[str, str] | None = None, seed: int = 0
          ) -> PairVerdict:
    """Whether two programs are one function: their outputs and every gradient at equal weights, held to bounds that are
    measured on their own roundings; and where they first part.

    Weights are carried from the Keras model to the other program, moved away from zero and one first; neither program
    is changed. Nothing random is drawn: both are asked as in evaluation.

    Args:
      keras_model: a keras.Model, or a model of tf_keras.
      flax_program: an nnx.Module, a linen.Module (or a pair of it and its variables), a model of the transformers
        library, or (init, apply), two pure functions.
      inputs: a small batch for both: an array, a tuple of arrays in order, or {name: array}.
      match: which tensor is which: a match.toml, or what an earlier verdict has as `match`; None: it is found.
      names: {name in `inputs`: (Keras' name, the other's)}, where these differ.
      outputs: (Keras' output, the other's), where there are several and not all of both are meant.
      seed: of the weights.
    Returns: a PairVerdict, which is true where they are one; `verdict.raise_if_not()` raises Disagreement with the
    place. Raises BadInput where a program breaks, or a tensor has no partner: with what was found.
    """
    from twinscale.jaxscale import programs as jax_programs
    from twinscale.tfscale import programs as keras_programs

    given = _named(inputs, names, 0), _named(inputs, names, 1)
    wanted = outputs or (None, None)
    a = keras_programs.open_program(keras_model, given[0], wanted[0])
    b = jax_programs.open_program(flax_program, given[1], wanted[1])
    known = match_of(match, a, b, given)
    fewer = (_without_idle(a, {name for line in known.lines for name in line.a}, given[0]),
             _without_idle(b, {line.b for line in known.lines}, given[1]))
    checked(known, fewer[0].tensors, fewer[1].tensors)
    verdict = judged(*fewer, given, known, seed)
    idle = [f"{side}: no output depends on {name}, which is left out" for side, program, left in (
        ("Keras", a, fewer[0]), ("JAX", b, fewer[1])) for name in program.start if name not in left.start]
    return replace(verdict, notes=(*verdict.notes, *idle))


def match_of(given: "Match | str | os.PathLike[str] | None", a: Program, b: Program, inputs: tuple[Inputs, Inputs]
             ) -> Match:
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
    if result.unmatched_a or result.unmatched_b:
        shapes = {tensor.path: tensor.shape for tensor in (*a.tensors, *b.tensors)}
        left = [f"{side}: " + ", ".join(f"{name} {shapes[name]}" for name in names[:6]) for side, names in (
            ("Keras", result.unmatched_a), ("JAX", result.unmatched_b)) if names]
        raise BadInput(f"match: tensors without a partner: {'; '.join(left)}: give match=..., a file that says what "
                       "they are made of")
    return result


def _without_idle(program, used, inputs):
    """A program less those of its tensors that are not in `used` and that no output depends on, such as a pooler where
    another output is meant: their gradients are zero to the bit."""
    rest = [tensor.path for tensor in program.tensors if tensor.trained and tensor.path not in used]
    if not rest:
        return program
    values = generic(program, 0)
    outputs, _ = program.call(values, inputs)
    signs = {name: np.ones(x.shape, np.float32) for name, x in outputs.items() if "float" in str(x.dtype)}
    gradients, _ = program.gradients(values, inputs, signs)
    return without(program, [name for name in rest if not np.any(gradients[name])])


def _named(inputs, names, side):
    if not isinstance(inputs, Mapping):
        return inputs
    return {(names or {}).get(name, (name, name))[side]: x for name, x in inputs.items()}
