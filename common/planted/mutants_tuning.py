"""Errors of how a model begins and of what fine-tuning leaves or slows: adapters, frozen tensors, rates that fall from
block to block. See `mutants.py`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from twinscale.common.families import adapters, parameters, resnet
from twinscale.common.optimizers import factors
from twinscale.common.planted.planting import registry
from twinscale.common.planted.reach import everywhere
from twinscale.common.recipe.adapt import Adapt

CHANGES, change = registry()


@change("residual", "convolution", "stage_?.block_?.conv_1", needs="resnet, bottlenecks")
def strided_first() -> Iterator[None]:
    """A bottleneck halves its image in the first convolution, of 1x1, and not in that of 3x3."""
    blocks_of = resnet.blocks_of

    def first(block):
        stride = max(conv.stride for conv in block.convs)
        convs = (replace(conv, stride=stride if i == 0 else 1) for i, conv in enumerate(block.convs))
        return replace(block, convs=tuple(convs))

    with everywhere("blocks_of", blocks_of, lambda m: [first(block) for block in blocks_of(m)]):
        yield


@change("residual", "initial value", "stage_?.block_?.norm_3.scale", needs="resnet, bottlenecks")
def zero_last_norm() -> Iterator[None]:
    """The last norm of every block starts at zero, so that a block starts as the identity."""
    with changed_first(lambda name, value: value * 0 if name.endswith("norm_3.scale") else value):
        yield


@change("adapted", "initial value", "*.lora_b", needs="adapters")
def drawn_adapters() -> Iterator[None]:
    """Both factors of an adapter start at random values, so that the first step is another model's."""
    with changed_first(lambda name, value: value + 0.01 if name.endswith(adapters.B) else value):
        yield


@change("adapted", "linear", needs="adapters")
def alpha_alone() -> Iterator[None]:
    """An adapter counts alpha in place of alpha / rank."""
    with patch.object(Adapt, "scale", property(lambda self: self.alpha)):
        yield


@change("adapted", "linear", needs="adapters", phase="backward")
def trained_kernels() -> Iterator[None]:
    """The kernels that adapters lie beside are trained with them."""
    with everywhere("stays", adapters.stays, lambda recipe, name: False):
        yield


@change("patches", "update", needs="rates by depth")
def rates_of_tables() -> Iterator[None]:
    """What comes before the first block moves as the first block does, and not by one step less."""
    with less_deep(lambda name: name.startswith(("class_token.", "position.", "embedding", "token_type."))):
        yield


@change("patches", "update", needs="rates by depth")
def rates_from_the_top() -> Iterator[None]:
    """The last block moves as the head does, and every other as the block above it is to."""
    with less_deep(lambda name: bool(factors.BLOCK.match(name))):
        yield


def less_deep(chosen: Callable[[str], bool]) -> AbstractContextManager[Any]:
    """Rates of the tensors that are chosen by their names as if these were one block nearer to the head."""
    factor_of = factors.factor_of
    return everywhere("factor_of", factor_of, lambda recipe, name: factor_of(recipe, name) / (
        recipe.optimizer.layer_decay if chosen(name) else 1.0))


def changed_first(function: Callable[[str, Any], Any]) -> AbstractContextManager[Any]:
    """First values as a function of a tensor's name and of its value makes them."""
    first = parameters.initial_value
    return everywhere("initial_value", first, lambda name, *rest: function(name, first(name, *rest)))
