"""The user's own optimizers, a Keras one and an optax chain: what both do is theirs, decay and learning rate with it.

What they keep beside the weights is not known before they are built. Each room finds it there: what both are known to
mean alike has a shared slot's name, all else that of its room, `keras.ATTRIBUTE` or `optax.PLACE.FIELD`.
"""

import traceback
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from twinscale.common import registry
from twinscale.common.errors import BadInput, first_line
from twinscale.common.optimizers.base import Optimizer, Options, Slot
from twinscale.common.section import FreeTable

FUNCTIONS = {side: registry.Registry("optimizers of a pair", f"optimizer.{side}", {}) for side in ("keras", "jax")}
OWN = ("keras.", "optax.")  # how the names of slots begin that one room alone has
SHOWN = 6  # lines of a user's own traceback


def a_function(name: str) -> str:
    """A reference whose FILE is pinned; it is loaded only by the process that runs it."""
    if not registry.is_reference(name):
        raise ValueError(f'"{name}" names no function: write FILE.py:OBJECT or MODULE:OBJECT')
    return registry.pinned(name)


def free(values: dict[str, Any]) -> FreeTable:
    """A table of options as it is kept: with tuples for lists."""
    return FreeTable({key: tuple(x) if isinstance(x, list) else x for key, x in values.items()})


class PairOptions(Options):
    """Two optimizers of the user's own in place of ours: each is a function that returns one. Learning rate, schedule
    and weight decay are inside of them; clipping and the average of the weights may be ours."""

    name: str = "pair"
    learning_rate: float = Field(1.0, description="inside of your own: 1")
    weight_decay: float = Field(0.0, description="inside of your own: 0")
    keras: Annotated[str, AfterValidator(a_function)] = Field(
        description="FILE.py:OBJECT or MODULE:OBJECT of a function that returns a keras.optimizers.Optimizer")
    jax: Annotated[str, AfterValidator(a_function)] = Field(
        description="FILE.py:OBJECT or MODULE:OBJECT of a function that returns an optax.GradientTransformation")
    options: Annotated[dict[str, bool | int | float | str | list[int | float | str] | tuple[int | float | str, ...]],
                       AfterValidator(free)] = Field(
        default_factory=FreeTable, description="keyword arguments of both functions")

    @model_validator(mode="after")
    def theirs(self) -> Self:
        """Raises ValueError where a key of ours is set that nobody would read."""
        if self.learning_rate != 1 or self.weight_decay:
            key = "weight_decay" if self.weight_decay else "learning_rate"
            raise ValueError(f'optimizer.{key}={getattr(self, key)}: of optimizer.name="pair" it is inside of your own '
                             "optimizers: say it there, and leave it out here")
        return self


PAIR = Optimizer(
    "your own pair", "w <- what the user's keras.optimizers.Optimizer and optax.GradientTransformation make of it",
    PairOptions, lambda o: {"m": Slot("_momentums", "mu"), "v": Slot("_velocities", "nu")}, None,
    "twinscale.tfscale.optimizer_pair:own", "twinscale.jaxscale.optimizer_pair:own", theirs=True)


def called(o: PairOptions, side: str, wanted: str) -> Any:
    """What the user's function of a side ("keras" or "jax") returns. Raises BadInput where it is none or breaks: with
    the place in the user's code, and what is `wanted`."""
    name = {"keras": o.keras, "jax": o.jax}[side]
    function, where = registry.load(FUNCTIONS[side], name), f"optimizer.{side} = {registry.short(name)}"
    if not callable(function):
        raise BadInput(f"{where}: {type(function).__name__}: a function without arguments that returns {wanted} is "
                       "wanted")
    given = {key: list(x) if isinstance(x, tuple) else x for key, x in o.options.items()}
    try:
        return function(**given)
    except Exception as error:
        lines = [line for line in traceback.format_exception(error) if "/twinscale/" not in line][-SHOWN:]
        raise BadInput(f"{where}: breaks when it is called with options {given}: {type(error).__name__}: "
                       f"{first_line(error, 300)}\n" + "".join(lines)) from error


def in_both(tensors: Mapping[str, Any], held: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of tensors that a state is to take and of those that it holds, {"GROUP/NAME": array} both, all weights and
    averages, and of what optimizers keep what both have: another room's has slots of its own."""
    def kept(name, other):
        return name.startswith(("weights/", "ema/")) or name in other

    return ({name: x for name, x in tensors.items() if kept(name, held)},
            {name: x for name, x in held.items() if kept(name, tensors)})
