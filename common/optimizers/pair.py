"""The user's own optimizers, a Keras one and an optax chain: what both do is theirs, decay and learning rate with it.

What they keep beside the weights is not known before they are built. Each room finds it there: what both are known to
mean alike has a shared slot's name, all else that of its room, `keras.ATTRIBUTE` or `optax.PLACE.FIELD`.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from twinscale.common.optimizers.base import Optimizer, Options, Slot
from twinscale.common.own import OPTIONS, Function, Values

OWN = ("keras.", "optax.")  # how the names of slots begin that one room alone has


class PairOptions(Options):
    """Two optimizers of the user's own in place of ours: each is a function that returns one. Learning rate, schedule
    and weight decay are inside of them; clipping and the average of the weights may be ours."""

    name: str = "pair"
    learning_rate: float = Field(1.0, description="inside of your own: 1")
    weight_decay: float = Field(0.0, description="inside of your own: 0")
    keras: Function = Field(description="FILE.py:OBJECT of a function that returns a keras.optimizers.Optimizer")
    jax: Function = Field(description="FILE.py:OBJECT of a function that returns an optax.GradientTransformation")
    options: Values = OPTIONS

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


def in_both(tensors: Mapping[str, Any], held: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of tensors that a state is to take and of those that it holds, {"GROUP/NAME": array} both, all weights and
    averages, and of what optimizers keep what both have: another room's has slots of its own."""
    def kept(name, other):
        return name.startswith(("weights/", "ema/")) or name in other

    return ({name: x for name, x in tensors.items() if kept(name, held)},
            {name: x for name, x in held.items() if kept(name, tensors)})
