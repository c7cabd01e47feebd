"""A multi-layer perceptron in Flax NNX; a module's path is its canonical name."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from twinscale.common.numbers.bits import name_word
from twinscale.jaxscale.models.layers import Linear, activation, dropout
from twinscale.jaxscale.taps import tap

if TYPE_CHECKING:
    from twinscale.common.families import mlp
    from twinscale.common.recipe.schema import Recipe


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int], kinds: Mapping[str, Any]) -> "MLP":
    """A module from a dict of inputs (`inputs` (B, ...), and where used `row` and `key`) to logits (B, classes)."""
    return MLP(recipe.model, classes, math.prod(example_shape), kinds)  # type: ignore[arg-type]  # whose family it is


class MLP(nnx.Module):
    """Hidden layers, each with its activation and dropout, and a linear head."""

    def __init__(self, m: "mlp.MLP", classes: int, inputs: int, kinds: Mapping[str, Any]) -> None:
        rngs = nnx.Rngs(0)
        self.m = m
        for i, width in enumerate(m.hidden):
            setattr(self, f"layer_{i}", Linear(inputs, width, kinds=kinds, rngs=rngs))
            inputs = width
        self.head = Linear(inputs, classes, kinds=kinds, rngs=rngs)

    def __call__(self, batch, training=False):
        x = batch["inputs"]
        x = x.reshape(x.shape[0], -1).astype(self.head.dtype)
        for i in range(len(self.m.hidden)):
            name = f"layer_{i}"
            x = tap(f"{name}.activation", activation(self.m.activation)(tap(name, getattr(self, name)(x))))
            drop = f"{name}.dropout"
            x = tap(drop, dropout(x, batch, self.m.dropout, name_word(drop), training))
        logits = tap("head", self.head(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
