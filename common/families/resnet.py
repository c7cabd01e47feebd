"""Residual networks on images at the sizes of their papers: ResNet-18, 34, 50 and their kin."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from twinscale.common.errors import one_of
from twinscale.common.families import Family, Traits
from twinscale.common.families.parameters import Parameter
from twinscale.common.families.weights import Started
from twinscale.common.section import Fraction, Positive

POOLED = 3, 2  # window and stride of the stem's max pooling


class ResNet(Started):
    """A residual network (He et al. 2016) with batch norm: a stem, stages of blocks, the mean over positions, a head.

    It reads images (B, H, W, C) from 0 to 1. Convolutions and pooling have the same padding on both sides, and where a
    bottleneck halves its image its 3x3 convolution does, as torchvision and the Hugging Face library have them.
    """

    family: Literal["resnet"]
    layers: tuple[PositiveInt, ...] = Field((2, 2, 2, 2), strict=False, min_length=1,
                                            description="blocks of each stage: [2, 2, 2, 2] is ResNet-18, "
                                                        "[3, 4, 6, 3] of bottlenecks ResNet-50")
    block: Literal["basic", "bottleneck"] = Field("basic", description="two 3x3 convolutions, or one between "
                                                                              "two of 1x1")
    widths: tuple[PositiveInt, ...] = Field((64, 128, 256, 512), strict=False, min_length=1,
                                            description="channels of each stage's 3x3 convolutions; bottlenecks give "
                                                        "four times as many")
    stem: Literal["imagenet", "cifar"] = Field("imagenet", description="7x7 by steps of 2 and max pooling, or 3x3 for "
                                                                       "small images")
    stem_width: PositiveInt = Field(64, description="channels of the stem")
    norm_epsilon: Positive = 1e-5
    norm_momentum: Fraction = Field(0.9, description="share of the running statistics that is kept each step")
    dropout: Fraction = Field(0.0, description="before the head")

    @property
    def pools(self) -> bool:
        """Whether the stem ends in max pooling."""
        return one_of({"imagenet": True, "cifar": False}, self.stem, "model.stem")

    @property
    def growth(self) -> int:
        """Channels that a block gives for each one that it has inside."""
        return one_of({"basic": 1, "bottleneck": 4}, self.block, "model.block")

    @model_validator(mode="after")
    def is_whole(self) -> Self:
        """The options; raises ValueError where their blocks are of another number of stages than their widths."""
        if len(self.layers) != len(self.widths):
            raise ValueError(f"model.layers={list(self.layers)} has {len(self.layers)} stages, but "
                             f"model.widths={list(self.widths)} has {len(self.widths)}: give each stage both")
        return self


@dataclass(frozen=True)
class Conv:
    """One convolution: its name within a block, the size of its kernel, channels in and out, and stride."""

    name: str
    size: int
    inputs: int
    outputs: int
    stride: int = 1


@dataclass(frozen=True)
class Block:
    """One residual block: its name, the convolutions of its longer way, and that of its shortcut, if there is one."""

    name: str
    convs: tuple[Conv, ...]
    shortcut: Conv | None


def stem_of(m: ResNet, channels: int) -> Conv:
    """The convolution of the stem, of images of so many channels."""
    size, stride = (7, 2) if m.pools else (3, 1)
    return Conv("conv", size, channels, m.stem_width, stride)


def blocks_of(m: ResNet) -> list[Block]:
    """The residual blocks in forward order: every stage but the first opens with stride 2."""
    blocks, inputs = [], m.stem_width
    for stage, (layers, width) in enumerate(zip(m.layers, m.widths, strict=True)):
        outputs = width * m.growth
        for i in range(layers):
            stride = 2 if stage and not i else 1
            ways = {"basic": (Conv("conv_1", 3, inputs, width, stride), Conv("conv_2", 3, width, width)),
                    "bottleneck": (Conv("conv_1", 1, inputs, width), Conv("conv_2", 3, width, width, stride),
                                   Conv("conv_3", 1, width, outputs))}
            short = Conv("shortcut", 1, inputs, outputs, stride) if stride > 1 or inputs != outputs else None
            blocks.append(Block(f"stage_{stage}.block_{i}", one_of(ways, m.block, "model.block"), short))
            inputs = outputs
    return blocks


def norm_of(conv: str) -> str:
    """The name of the batch norm behind a convolution of a block."""
    return conv.replace("conv", "norm") if conv.startswith("conv") else f"{conv}_norm"


def tree_of(m: ResNet, classes: int, example_shape: Sequence[int]) -> dict[str, Parameter]:
    """Names of a residual network; kernels start as in He et al. 2015."""
    tree: dict[str, Parameter] = {}

    def conv(above, of):
        tree[f"{above}.{of.name}.kernel"] = Parameter((of.size, of.size, of.inputs, of.outputs),
                                                      math.sqrt(2 / (of.size * of.size * of.inputs)))
        for leaf, first in {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}.items():
            tree[f"{above}.{norm_of(of.name)}.{leaf}"] = Parameter((of.outputs,), constant=first)

    conv("stem", stem_of(m, example_shape[-1]))
    for block in blocks_of(m):
        for of in (*block.convs, *([block.shortcut] if block.shortcut else [])):
            conv(block.name, of)
    last = m.widths[-1] * m.growth
    tree["head.kernel"] = Parameter((last, classes), 1 / math.sqrt(last))
    tree["head.bias"] = Parameter((classes,))
    return tree


def places(m: ResNet, place: Callable) -> None:
    """Describes a residual network in forward order by calls of `place`."""
    def normed(above, conv, *reads):
        return place(f"{above}.{norm_of(conv)}", "norm", place(f"{above}.{conv}", "convolution", *reads))

    x = place("stem.relu", "activation", normed("stem", "conv"))
    x = place("stem.pool", "max pooling", x, holds="") if m.pools else x
    for block in blocks_of(m):
        y = x
        for i, conv in enumerate(block.convs, 1):
            y = normed(block.name, conv.name, y)
            if i < len(block.convs):
                y = place(f"{block.name}.relu_{i}", "activation", y)
        if block.shortcut:
            x = normed(block.name, "shortcut", x)
        x = place(f"{block.name}.residual", "residual", x, y)
        x = place(f"{block.name}.relu_{len(block.convs)}", "activation", x)
    x = place("pool", "pooling", x)
    place("head", "linear", place("pool.dropout", "random bits", x) if m.dropout else x)


def flops(m: ResNet, tree: Mapping[str, Parameter], classes: int, example_shape: Sequence[int], convention: str) -> int:
    """Forward operations of one image."""
    def halved(sides, stride):
        return tuple(-(-side // stride) for side in sides)

    def of(above, conv, sides):
        return 2 * math.prod(sides) * math.prod(tree[f"{above}.{conv.name}.kernel"].shape)

    stem = stem_of(m, example_shape[-1])
    sides = halved(example_shape[:2], stem.stride)
    total = of("stem", stem, sides)
    sides = halved(sides, POOLED[1]) if m.pools else sides
    for block in blocks_of(m):
        inside = sides
        for conv in block.convs:
            inside = halved(inside, conv.stride)
            total += of(block.name, conv, inside)
        sides = inside
        total += of(block.name, block.shortcut, sides) if block.shortcut else 0
    return total + 2 * math.prod(tree["head.kernel"].shape)


def traits(m: ResNet) -> Traits:
    """What others ask of such a network."""
    return Traits(activation="relu", norm="batch", planted=("resnet",))


def drawn(one: Callable) -> dict[str, Any]:
    """Options of a small network at random."""
    widths = one((4,), (4, 8))
    return {"layers": one((1,), (2,)) + (1,) * (len(widths) - 1), "widths": widths, "stem_width": 4,
            "block": one("basic", "bottleneck"), "stem": one("imagenet", "cifar"), "dropout": one(0.0, 0.1),
            "norm_momentum": one(0.9, 0.99)}


FAMILY = Family(
    name="resnet", options=ResNet, reads="images", tree=tree_of, places=places, flops=flops, traits=traits,
    layouts="twinscale.common.families.vision_layouts:RESNETS", drawn=drawn)
