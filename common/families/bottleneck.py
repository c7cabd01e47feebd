"""Bottleneck adapters (Houlsby et al. 2019, section 2.1): behind the attention and behind the feed-forward layer of
each block, x + up(activation(down(x))), before what the block adds to it. `up` begins with zeros, and so each as x.

Unlike low-rank ones they are no change of a kernel: they are places of the model, and stay in it.
"""

import math
from collections.abc import Callable
from typing import Any

from pydantic import Field

from twinscale.common.families.parameters import Parameter
from twinscale.common.families.weights import Started
from twinscale.common.section import Count

INSIDE = ".adapter."  # which the canonical name of an adapter's tensor has


class Narrowed(Started):
    """Options of a model whose blocks may have adapters."""

    bottleneck: Count = Field(0, description="values between down and up of the adapters behind each block's attention "
                                             "and feed-forward layer; 0: there are none")


def is_inside(name: str) -> bool:
    """Whether a tensor is such an adapter's, by its canonical name."""
    return INSIDE in name


def tensors(m: Any, block: str, part: str) -> dict[str, Parameter]:
    """{canonical name: Parameter} of the adapter behind a part of a block, in forward order; {} where a model of
    options `m` has none. They have biases whatever the model has (section 2.1 counts 2md + d + m values)."""
    if not m.bottleneck:
        return {}
    name = f"{block}.{part}.adapter"
    return {f"{name}.down.kernel": Parameter((m.width, m.bottleneck), 1 / math.sqrt(m.width)),
            f"{name}.down.bias": Parameter((m.bottleneck,)),
            f"{name}.up.kernel": Parameter((m.bottleneck, m.width)), f"{name}.up.bias": Parameter((m.width,))}


def described(m: Any, place: Callable, part: str, x: str) -> str:
    """Describes, by calls of `place`, the adapter behind `part` of a block, "block_0.attention", which reads the place
    `x`; returns the place of its output, `x` where there is none."""
    if not m.bottleneck:
        return x
    name = f"{part}.adapter"
    y = place(f"{name}.activation", "activation", place(f"{name}.down", "linear", x))
    return place(f"{name}.residual", "residual", x, place(f"{name}.up", "linear", y))
