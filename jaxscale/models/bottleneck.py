"""Bottleneck adapters behind the parts of a block; see `common/families/bottleneck.py`."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from twinscale.jaxscale.models.layers import Linear, activation
from twinscale.jaxscale.taps import scope, tap


class Bottleneck(nnx.Module):
    """x + up(activation(down(x)))."""

    def __init__(self, m: Any, kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
        self.activation = m.activation
        self.down = Linear(m.width, m.bottleneck, kinds=kinds, rngs=rngs)
        self.up = Linear(m.bottleneck, m.width, kinds=kinds, rngs=rngs)

    def __call__(self, x):
        with scope("adapter"):
            y = tap("activation", activation(self.activation)(tap("down", self.down(x))))
            return tap("residual", x + tap("up", self.up(y)))


def add_adapters(block: Any, m: Any, kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
    """Gives the parts of a block adapters, where options `m` say there are any."""
    if m.bottleneck:
        block.attention.adapter = Bottleneck(m, kinds, rngs)
        block.feedforward.adapter = Bottleneck(m, kinds, rngs)


def behind(block: Any, part: str, x: jax.Array) -> jax.Array:
    """x (B, T, D) after the adapter behind `part` of a block, "attention", where there is one."""
    adapter = getattr(getattr(block, part), "adapter", None)
    if adapter is None:
        return x
    with scope(part):
        return adapter(x)
