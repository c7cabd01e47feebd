"""A program that somebody else wrote, as both rooms offer it: its tensors, and a call that takes them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.pairs.tensors import Tensor

Arrays = dict[str, Any]
# Formats below each.
LOWER = {"float64": ("float32", "bfloat16", "float16"), "float32": ("bfloat16", "float16"), "bfloat16": ()}
Inputs = Any  # one array, a tuple of several in order, or {name: array}


@dataclass(frozen=True)
class Seen:
    """What a module that holds tensors was given and made, in a call: float arrays."""

    module: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


class Fed(list):
    """Calls that are seen, as a list `seen` of `Program.call`, of a program that is fed with another's values: a module
    is called with them in place of its float inputs, and passes others on in place of what it makes. A Seen of it has
    what it would have been given, and what it made of the values.

    Args:
      values: a Seen for each call of a module, in order; inputs or outputs that are empty stay as they are.
    """

    def __init__(self, values: Iterable[Seen]) -> None:
        super().__init__()
        self.values: dict[str, list[Seen]] = {}
        for one in values:
            self.values.setdefault(one.module, []).append(one)

    def next(self, module: str) -> Seen | None:
        """The values of a module's next call; None where there are none."""
        left = self.values.get(module)
        return left.pop(0) if left else None


@dataclass(frozen=True)
class Program:
    """A program without the values of its tensors.

    call: (tensors {path: array}, inputs, training, seen, draws) to (outputs {name: array}, {path: running statistic
      after it}). It is pure, and can be differentiated and compiled by its framework. A list `seen` is filled with a
      Seen of each module that holds tensors, in the order in which they are called, and one that is a Fed says what
      they are given; stock dropout draws from `draws`, common.pairs.draws.Draws.
    gradients: (tensors, inputs, signs {output: array}, training) to ({path: array}, {output: array}), NumPy's, of the
      sum of all outputs times `signs`.
    At training=True dropout is off unless it has something to draw from, and normalization takes the batch's own
    statistics.
    """

    kind: str  # in words: "a functional Keras model"
    tensors: tuple[Tensor, ...]
    start: Mapping[str, np.ndarray]  # their first values
    call: Callable[..., tuple[Arrays, Arrays]]
    gradients: Callable[..., tuple[Arrays, Arrays]]
    precision: str = "float32"  # what weights and inputs are made, and modules that can be told are asked to compute in
    lower: str = ""  # where it first computes in less than that all the same, in words
    # (inputs, how many rows they are) to its calls of stock dropout in training, as common.pairs.draws has them. Raises
    # BadInput where it draws otherwise.
    dropouts: Callable[[Inputs, int], tuple[Any, ...]] = lambda inputs, rows: ()
    kept: tuple[str, ...] = ()  # paths of layers whose float64 is kept here, where their runtime would take float32


def in_training(program: Program) -> Program:
    """The same program, asked as in training: its statistics move, and its gradients go through the batch's own."""
    def call(tensors, inputs, training=True, seen=None):
        return program.call(tensors, inputs, training, seen)

    return replace(program, call=call, gradients=lambda tensors, inputs, signs, training=True: program.gradients(
        tensors, inputs, signs, training))


def named_outputs(made: Any) -> Arrays:
    """{name: array} of what a model returns: one array is "output", several go by their names or their numbers."""
    if hasattr(made, "to_tuple") and hasattr(made, "items"):  # of the transformers library
        made = dict(made.items())
    if hasattr(made, "_asdict"):
        made = made._asdict()
    if isinstance(made, Mapping):
        return {str(name): value for name, value in made.items() if hasattr(value, "dtype")}
    if isinstance(made, tuple | list):
        return {str(number): value for number, value in enumerate(made) if hasattr(value, "dtype")}
    return {"output": made}


def chosen(outputs: Arrays, name: str | None, side: str) -> Arrays:
    """All outputs, or the one of a name, as "output". Raises BadInput with the names that there are."""
    if name is None:
        return outputs
    if name not in outputs:
        raise BadInput(f"outputs: {side} has no output {name}: it has {', '.join(outputs)}"
                       f"{did_you_mean(name, outputs)}")
    return {"output": outputs[name]}


def outputs_paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
    """{name of an output of a: that of b's}: those of one name, or in order where there are equally many; of one shape,
    but for a last axis of one. Raises BadInput where they do not fit."""
    names = {name: name for name in one if name in other}
    if not names and len(one) != len(other):
        raise BadInput(f"outputs: one side makes {', '.join(one)}, the other {', '.join(other)}: say which are meant "
                       "by outputs=(NAME, NAME)")
    names = names or dict(zip(one, other, strict=True))
    for name, there in names.items():
        if bare_shape(one[name]) != bare_shape(other[there]):
            raise BadInput(f"outputs: {name} is {tuple(one[name].shape)} on one side and "
                           f"{tuple(other[there].shape)} on the other")
    return names


def bare_shape(x: Any) -> tuple[int, ...]:
    """The shape of an array of rows without a last axis of one."""
    shape = tuple(x.shape)
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


def axes_of_one(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """A line on each output that has a last axis of one on one side alone."""
    return tuple(f"output {name} is {tuple(one[name].shape)} on one side and {tuple(other[there].shape)} on the other: "
                 "taken for the same, the last axis of one aside" for name, there in outputs_paired(one, other).items()
                 if tuple(one[name].shape) != tuple(other[there].shape))


def is_plain(value: Any) -> bool:
    """Whether numbers are such as a mask or a half has, which no format rounds: whole, or as float16 holds them."""
    value = np.asarray(value, np.float64)
    with np.errstate(over="ignore"):
        return bool(np.all((value == value.astype(np.float16)) | (value == np.rint(value)) | ~np.isfinite(value)))


def without(program: Program, names: Iterable[str]) -> Program:
    """The program less some of its tensors, which keep their first values: for those that no output depends on."""
    kept = {name: program.start[name] for name in names}
    if not kept:
        return program

    def call(tensors, *given, **named):
        outputs, statistics = program.call(kept | tensors, *given, **named)
        return outputs, {name: x for name, x in statistics.items() if name not in kept}

    def gradients(tensors, *given, **named):
        found, outputs = program.gradients(kept | tensors, *given, **named)
        return {name: x for name, x in found.items() if name not in kept}, outputs

    return replace(program, tensors=tuple(tensor for tensor in program.tensors if tensor.path not in kept),
                   start={name: x for name, x in program.start.items() if name not in kept}, call=call,
                   gradients=gradients)
