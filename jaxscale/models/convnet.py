"""A small residual network with batch norm in Flax NNX; a module's path is its canonical name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from twinscale.common.families.convnet import convnet_blocks
from twinscale.common.numbers.bits import name_word
from twinscale.jaxscale.models.layers import Linear, Part, batch_norm, dropout
from twinscale.jaxscale.taps import scope, tap

if TYPE_CHECKING:
    from twinscale.common.families import convnet
    from twinscale.common.recipe.schema import Recipe


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int], kinds: Mapping[str, Any]) -> "ConvNet":
    """A module from a dict of inputs (`inputs` (B, H, W, C), and where used `row` and `key`) to logits (B, classes)."""
    return ConvNet(recipe.model, classes, example_shape[-1], kinds)  # type: ignore[arg-type]  # whose family it is


class ConvNet(nnx.Module):
    """A stem, residual blocks, the mean over positions and a linear head."""

    def __init__(self, m: "convnet.ConvNet", classes: int, channels: int, kinds: Mapping[str, Any]) -> None:
        rngs = nnx.Rngs(0)
        self.m = m
        self.stem = Part()
        self.stem.conv = conv(channels, m.channels[0], 3, 1, kinds, rngs)  # type: ignore[attr-defined]
        self.stem.norm = batch_norm(m, m.channels[0], kinds, rngs)  # type: ignore[attr-defined]
        for block in convnet_blocks(m):
            stage, name = block.name.split(".")
            if not hasattr(self, stage):
                setattr(self, stage, Part())
            setattr(getattr(self, stage), name, Block(m, block, kinds, rngs))
        self.head = Linear(m.channels[-1], classes, kinds=kinds, rngs=rngs)

    def __call__(self, batch, training=False):
        x = batch["inputs"].astype(self.head.dtype)
        with scope("stem"):
            x = tap("norm", self.stem.norm(tap("conv", self.stem.conv(x)), use_running_average=not training))
            x = tap("relu", nnx.relu(x))
        for block in convnet_blocks(self.m):
            stage, name = block.name.split(".")
            with scope(block.name):
                x = getattr(getattr(self, stage), name)(x, training)
        x = tap("pool", jnp.mean(x, (1, 2)))
        x = tap("pool.dropout", dropout(x, batch, self.m.dropout, name_word("pool.dropout"), training))
        logits = tap("head", self.head(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


class Block(nnx.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, m: "convnet.ConvNet", block: "convnet.Block", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
        self.conv_1 = conv(block.inputs, block.outputs, 3, block.stride, kinds, rngs)
        self.norm_1 = batch_norm(m, block.outputs, kinds, rngs)
        self.conv_2 = conv(block.outputs, block.outputs, 3, 1, kinds, rngs)
        self.norm_2 = batch_norm(m, block.outputs, kinds, rngs)
        self.projects = block.projects
        if block.projects:
            self.shortcut = conv(block.inputs, block.outputs, 1, block.stride, kinds, rngs)

    def __call__(self, x, training):
        y = tap("norm_1", self.norm_1(tap("conv_1", self.conv_1(x)), use_running_average=not training))
        y = tap("conv_2", self.conv_2(tap("relu_1", nnx.relu(y))))
        y = tap("norm_2", self.norm_2(y, use_running_average=not training))
        x = tap("shortcut", self.shortcut(x)) if self.projects else x
        return tap("relu_2", nnx.relu(tap("residual", x + y)))


def conv(inputs: int, outputs: int, size: int, stride: int, kinds: Mapping[str, Any], rngs: nnx.Rngs) -> nnx.Conv:
    """(B, H, W, inputs) to (B, H / stride, W / stride, outputs), rounded up, with zeros around the edges. It has no
    bias, which the batch norm that follows would take out."""
    return nnx.Conv(inputs, outputs, (size, size), (stride, stride), use_bias=False, **kinds, rngs=rngs)
