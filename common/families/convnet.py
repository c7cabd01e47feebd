"""Residual networks on images."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, PositiveInt

from twinscale.common.families import Family, Traits
from twinscale.common.families.parameters import Parameter
from twinscale.common.section import Fraction, Positive, Section


class ConvNet(Section):
    """A small residual network with batch norm (He et al. 2016): a stem, then `blocks` residual blocks a stage."""

    family: Literal["convnet"]
    channels: tuple[PositiveInt, ...] = Field((16, 32, 64), strict=False, min_length=1,
                                              description="channels of each stage")
    blocks: PositiveInt = Field(1, description="residual blocks a stage")
    norm_epsilon: Positive = 1e-5
    norm_momentum: Fraction = Field(0.9, description="share of the running statistics that is kept each step")
    dropout: Fraction = 0.0


@dataclass(frozen=True)
class Block:
    """One residual block: its name, channels in and out, and stride."""

    name: str
    inputs: int
    outputs: int
    stride: int

    @property
    def projects(self) -> bool:
        """Whether its shortcut has a kernel."""
        return self.stride != 1 or self.inputs != self.outputs


def convnet_blocks(m: ConvNet) -> list[Block]:
    """The residual blocks in forward order: every stage but the first opens with stride 2."""
    blocks, inputs = [], m.channels[0]
    for stage, outputs in enumerate(m.channels):
        for i in range(m.blocks):
            stride = 2 if stage and not i else 1
            blocks.append(Block(f"stage_{stage}.block_{i}", inputs, outputs, stride))
            inputs = outputs
    return blocks


def tree_of(m: ConvNet, classes: int, example_shape: Sequence[int]) -> dict[str, Any]:
    """Names of a residual network with batch norm; kernels start as in He et al. 2015."""
    tree = {}

    def conv(name, size, inputs, outputs):
        deviation = math.sqrt(2 / (size * size * inputs))
        tree[f"{name}.kernel"] = Parameter((size, size, inputs, outputs), deviation)

    def norm(name, channels):
        tree[f"{name}.scale"] = Parameter((channels,), constant=1.0)
        tree[f"{name}.bias"] = Parameter((channels,))
        tree[f"{name}.mean"] = Parameter((channels,))
        tree[f"{name}.var"] = Parameter((channels,), constant=1.0)

    conv("stem.conv", 3, example_shape[-1], m.channels[0])
    norm("stem.norm", m.channels[0])
    for block in convnet_blocks(m):
        conv(f"{block.name}.conv_1", 3, block.inputs, block.outputs)
        norm(f"{block.name}.norm_1", block.outputs)
        conv(f"{block.name}.conv_2", 3, block.outputs, block.outputs)
        norm(f"{block.name}.norm_2", block.outputs)
        if block.projects:
            conv(f"{block.name}.shortcut", 1, block.inputs, block.outputs)
    last = m.channels[-1]
    tree["head.kernel"] = Parameter((last, classes), 1 / math.sqrt(last))
    tree["head.bias"] = Parameter((classes,))
    return tree


def places(m: ConvNet, place: Callable) -> None:
    """Describes a residual network in forward order by calls of `place`."""
    x = place("stem.relu", "activation", place("stem.norm", "norm", place("stem.conv", "convolution")))
    for block in convnet_blocks(m):
        name = block.name
        y = place(f"{name}.norm_1", "norm", place(f"{name}.conv_1", "convolution", x))
        y = place(f"{name}.conv_2", "convolution", place(f"{name}.relu_1", "activation", y))
        y = place(f"{name}.norm_2", "norm", y)
        if block.projects:
            x = place(f"{name}.shortcut", "convolution", x)
        x = place(f"{name}.relu_2", "activation", place(f"{name}.residual", "residual", x, y))
    x = place("pool", "pooling", x)
    if m.dropout:
        x = place("pool.dropout", "random bits", x)
    place("head", "linear", x)


def flops(m: ConvNet, tree: Mapping[str, Any], classes: int, example_shape: Sequence[int], convention: str) -> int:
    """Forward operations of one image."""
    height, width = example_shape[:2]
    total = 2 * height * width * math.prod(tree["stem.conv.kernel"].shape)
    for block in convnet_blocks(m):
        height, width = -(-height // block.stride), -(-width // block.stride)
        names = [f"{block.name}.{part}.kernel" for part in ("conv_1", "conv_2", "shortcut")]
        total += sum(2 * height * width * math.prod(tree[name].shape) for name in names if name in tree)
    return total + 2 * math.prod(tree["head.kernel"].shape)


def traits(m: ConvNet) -> Traits:
    """What others ask of such a network."""
    return Traits(activation="relu", norm="batch", planted=("convnet",))


def drawn(one: Callable) -> dict[str, Any]:
    """Options of a small network at random."""
    return {"channels": one([4], [4, 8]), "blocks": one(1, 1, 2), "dropout": one(0.0, 0.1),
            "norm_momentum": one(0.9, 0.99)}


FAMILY = Family(
    name="convnet", options=ConvNet, reads="images", tree=tree_of, places=places, flops=flops,
    traits=traits, drawn=drawn)
