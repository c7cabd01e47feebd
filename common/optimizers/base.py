"""What is known of an optimizer, by which everything else is found: no code elsewhere asks for its name.

Update t counts from 1; g is the gradient after clipping; lr is `schedules.learning_rates(recipe)[t - 1]`; d is weight
decay, on kernels and tables only (by canonical name), never on biases and norms. An optimizer says what its slots
become and what the update u is, decay included; the weight moves by w <- w - lr u.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from twinscale.common.registry import Registry, load
from twinscale.common.section import Fraction, NonNegative, Positive, Section, any_of

OPTIMIZERS = Registry("optimizers", "optimizer.name", {
    name: f"twinscale.common.optimizers.{name}:{name.upper()}" for name in ("adamw", "sgd", "lion", "lamb", "pair")},
    "twinscale.common.optimizers.base:Optimizer")

# (u, its scale, {slot: (array, its scale)}) of one update of a tensor
Moved = tuple[np.ndarray, np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]


class Options(Section):
    """What every optimizer takes; its own options derive from it.

      clip   g <- g min(1, clip_norm / |g|), the norm over all tensors together; g = 0 of a frozen one
      ema    a <- ema a + (1 - ema) w after each update, from a = the first weights

    An update whose loss or gradient is not finite changes nothing.
    """

    name: str = "adamw"
    learning_rate: NonNegative = 1e-3
    weight_decay: NonNegative = Field(0.0, description="decoupled; times the learning rate; kernels and tables only")
    clip_norm: NonNegative = Field(0.0, description="global norm of the gradient; 0 does not clip")
    freeze: tuple[str, ...] = Field((), strict=False, description="patterns of tensors' names that stay at their first "
                                                                  "values, such as block_0.* or *.bias")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="the learning rate of each block beside that of the next one; the head's is the recipe's")
    ema: Fraction = Field(0.0, description="decay of the average of the weights that evaluation uses; 0 keeps none")


def with_semantics(schema: dict[str, Any]) -> None:
    """Puts the written semantics of our own optimizers into their options' description."""
    known = {name: load(OPTIMIZERS, name) for name in OPTIMIZERS.builtin}
    lines = [f"  {name:6} {kind.semantics}".replace("\n", "\n  ") for name, kind in known.items() if not kind.theirs]
    schema["properties"]["name"] |= any_of(OPTIMIZERS)
    del schema["properties"]["name"]["type"]
    schema["description"] = schema["description"].replace("  OPTIMIZERS", "\n".join(lines))


class OwnOptions(Options):
    """One written semantics for each name, which `*/optimizer.py` map onto keras.optimizers and optax.

    Update t counts from 1; g is the gradient after clipping; lr is `schedules.learning_rates(recipe)[t - 1]`; d is
    weight decay, on kernels and tables only (by canonical name), never on biases and norms.

      clip   g <- g min(1, clip_norm / |g|), the norm over all tensors together
      OPTIMIZERS
      ema    a <- ema a + (1 - ema) w after each update, from a = the first weights

    An update whose loss or gradient is not finite changes nothing.
    """

    model_config = ConfigDict(title="Optimizer", json_schema_extra=with_semantics)

    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    momentum: Fraction = Field(0.9, description="sgd only")
    nesterov: bool = Field(False, description="sgd only")


@dataclass(frozen=True)
class Slot:
    """A tensor that an optimizer keeps beside each weight: where both backends have it."""

    keras: str  # attribute of the Keras optimizer: a list in the order of the weights
    optax: str  # field of a part of the optax state: a tree like the weights
    first: float = 0.0  # its value before the first update


@dataclass(frozen=True)
class Optimizer:
    """An optimizer. `o` is a recipe's section, one of `options`; slots go by the names that files have them under, of
    which those that begin with "v" are never negative.
    """

    title: str  # as people write it
    semantics: str  # what it does, in formulas: for a person
    options: type  # of Options
    slots: Callable  # (o) -> {slot: Slot}
    # (o, f, t, d, w, g, {slot: array}) -> (u, scale, {slot: (array, scale)}) of a tensor's update t by a gradient g, in
    # np.longdouble. A scale is what each element may be judged by: the sum of the sizes of its terms. f is the Format
    # that is judged: see `common/operations/references.py`. None: nothing is written of what it does.
    reference: Callable | None
    keras: Callable | str  # (o, shared, number) -> the Keras optimizer; may be "MODULE:OBJECT"
    jax: Callable | str  # (o, decay) -> the optax transforms before the learning rate; may be "MODULE:OBJECT"
    eps: float = 8.0  # how far one update may be off its reference, in eps of the scales
    why: str = "8 eps: 16 roundings"  # where that comes from
    # (o, rates (T,), noise (T,), first) -> the largest |u| of an element at each update, by gradients no larger than
    # the noise: see `benchmarks/rungs/walks.py`. None: nothing is known, and a null direction is judged by its twins
    # alone.
    strides: Callable | None = None
    decays_inside: bool = False  # whether those strides have their decay in them
    betas: Callable = lambda o: ()  # (o) -> the shares that are kept, 1 - beta of which both backends round
    # (o, {slot: array}, g) -> (|s|, its scale) of the sum s whose sign alone decides an update; None: no sign does
    signs: Callable | None = None
    traits: Callable = lambda o: ()  # (o) -> what a planted change may ask for, besides the title
    tried: dict = field(default_factory=dict)  # what a trial of it sets
    peak: float = 1e-2  # the largest learning rate that a random recipe has
    choices: dict = field(default_factory=dict)  # {key: values} of what a random recipe sets by chance
    # Whether it is the user's own on both sides: its rate and its decay are inside of it, and `slots` are those that
    # are compared where both sides keep them.
    theirs: bool = False


def described(options: Options) -> Optimizer:
    """The Optimizer that a recipe's section names."""
    return load(OPTIMIZERS, options.name)


# ---- for references

def mixed(old: np.ndarray, beta: float | np.longdouble, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(beta old + (1 - beta) new, its scale)."""
    return beta * old + (1 - beta) * new, np.abs(old) + (1 - beta) * np.abs(new)


def bias_correction(beta: float | np.longdouble, t: int) -> tuple[float | np.longdouble, float | np.longdouble]:
    """1 - beta^t and its condition: beta itself is rounded, and raised to a power."""
    return 1 - beta**t, (1 + t / 8) * beta**t / (1 - beta**t)
