"""A residual network of the usual sizes in Flax NNX; a module's path is its canonical name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.families.resnet import POOLED, blocks_of, norm_of, stem_of
from twinscale.common.numbers.bits import name_word
from twinscale.jaxscale.models.layers import Linear, Part, batch_norm, dropout
from twinscale.jaxscale.taps import scope, tap

if TYPE_CHECKING:
    from twinscale.common.families import resnet
    from twinscale.common.recipe.schema import Recipe


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int], kinds: Mapping[str, Any]) -> "ResNet":
    """A module from a dict of inputs (`inputs` (B, H, W, C), and where used `row` and `key`) to logits (B, classes)."""
    return ResNet(recipe.model, classes, example_shape[-1], kinds)  # type: ignore[arg-type]  # whose family it is


class ResNet(nnx.Module):
    """A stem, residual blocks, the mean over positions and a linear head."""

    def __init__(self, m: "resnet.ResNet", classes: int, channels: int, kinds: Mapping[str, Any]) -> None:
        rngs = nnx.Rngs(0)
        self.m = m
        self.stem = Part()
        add_conv(self.stem, m, stem_of(m, channels), kinds, rngs)
        for block in blocks_of(m):
            stage, name = block.name.split(".")
            if not hasattr(self, stage):
                setattr(self, stage, Part())
            setattr(getattr(self, stage), name, Block(m, block, kinds, rngs))
        self.head = Linear(m.widths[-1] * m.growth, classes, kinds=kinds, rngs=rngs)

    def __call__(self, batch, training=False):
        x = batch["inputs"].astype(self.head.dtype)
        with scope("stem"):
            x = tap("relu", nnx.relu(normed(self.stem, "conv", x, training)))
            x = tap("pool", max_pool(x)) if self.m.pools else x
        for block in blocks_of(self.m):
            stage, name = block.name.split(".")
            with scope(block.name):
                x = getattr(getattr(self, stage), name)(x, training)
        x = tap("pool", jnp.mean(x, (1, 2)))
        x = tap("pool.dropout", dropout(x, batch, self.m.dropout, name_word("pool.dropout"), training))
        logits = tap("head", self.head(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


class Block(nnx.Module):
    """relu(shortcut(x) + norm(conv(...relu(norm(conv(x)))))), of two convolutions or three."""

    def __init__(self, m: "resnet.ResNet", block: "resnet.Block", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
        self.count, self.projects = len(block.convs), block.shortcut is not None
        for of in (*block.convs, *([block.shortcut] if block.shortcut else [])):
            add_conv(self, m, of, kinds, rngs)

    def __call__(self, x, training):
        y = x
        for i in range(1, self.count + 1):
            y = normed(self, f"conv_{i}", y, training)
            y = tap(f"relu_{i}", nnx.relu(y)) if i < self.count else y
        x = normed(self, "shortcut", x, training) if self.projects else x
        return tap(f"relu_{self.count}", nnx.relu(tap("residual", x + y)))


def add_conv(above: nnx.Module, m: "resnet.ResNet", of: "resnet.Conv", kinds: Mapping[str, Any], rngs: nnx.Rngs
             ) -> None:
    """Gives a module a convolution and the batch norm behind it, which would take out a bias."""
    setattr(above, of.name, conv(of, kinds, rngs))
    setattr(above, norm_of(of.name), batch_norm(m, of.outputs, kinds, rngs))


def normed(above: Any, name: str, x: jax.Array, training: bool) -> jax.Array:
    """x after a convolution of a module and the batch norm behind it."""
    norm = norm_of(name)
    return tap(norm, getattr(above, norm)(tap(name, getattr(above, name)(x)), use_running_average=not training))


def conv(of: "resnet.Conv", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> nnx.Conv:
    """(B, H, W, inputs) to (B, H / stride, W / stride, outputs), rounded up, with as many zeros before as behind."""
    around = 2 * [2 * (of.size // 2,)]
    return nnx.Conv(of.inputs, of.outputs, (of.size, of.size), (of.stride, of.stride), padding=around, use_bias=False,
                    **kinds, rngs=rngs)


def max_pool(x: jax.Array) -> jax.Array:
    """The largest value of each window (B, H / 2, W / 2, C), rounded up; of equal ones the gradient goes to the
    first."""
    window, stride = POOLED
    return nnx.max_pool(x, (window, window), (stride, stride), 2 * [2 * (window // 2,)])
