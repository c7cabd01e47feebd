"""How far the learning rate of a tensor is from the recipe's: tensors that are frozen, and rates that fall from the
last block to the first."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.families import traits_of
from twinscale.common.families.adapters import has_adapters, stays
from twinscale.common.families.parameters import is_trained
from twinscale.common.families.places import places

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

BLOCK = re.compile(r"block_(\d+)\.")
STACKED = "blocks."  # how the tensors of all blocks begin that lie in one


def moves_all_alike(recipe: "Recipe") -> bool:
    """Whether every tensor's learning rate is the recipe's."""
    return not freezes(recipe) and recipe.optimizer.layer_decay == 1


def freezes(recipe: "Recipe") -> bool:
    """Whether a recipe may have tensors that stay at their first values."""
    return bool(recipe.optimizer.freeze) or has_adapters(recipe)


def factor_of(recipe: "Recipe", name: str) -> float:
    """What the learning rate of a tensor is multiplied by: 0 of a frozen one, else `layer_decay` to the power of its
    depth below the head, with every block one deeper and what comes before the first block one more (Howard and Ruder
    2018; Bao et al. 2022, BEiT).

    Args:
      name: the canonical name.
    """
    if is_frozen(recipe, name):
        return 0.0
    if recipe.optimizer.layer_decay == 1:
        return 1.0
    blocks, found = traits_of(recipe.model).blocks, BLOCK.match(name)
    depth = blocks - int(found[1]) if found else (blocks + 1) * _is_before_blocks(recipe, name)
    return recipe.optimizer.layer_decay**depth


def factors(recipe: "Recipe", name: str) -> float | np.ndarray:
    """`factor_of` of a tensor, float64 (blocks,) of one that those of all blocks are stacked in."""
    if not name.startswith(STACKED):
        return factor_of(recipe, name)
    return np.array([factor_of(recipe, name.replace(STACKED, f"block_{i}.", 1))
                     for i in range(traits_of(recipe.model).blocks)])


def is_frozen(recipe: "Recipe", name: str) -> bool:
    """Whether a tensor stays at its first values, by its canonical name: no gradient is taken of it."""
    return stays(recipe, name) or any(fnmatchcase(name, pattern) for pattern in recipe.optimizer.freeze)


def check_factors(recipe: "Recipe", names: Iterable[str]) -> None:
    """Raises BadInput where a pattern of `freeze` is that of no trained tensor, or all of them are frozen, or rates are
    to fall over blocks that a model has not; `names` are those of its tree."""
    trained = [name for name in names if is_trained(name)]
    for pattern in recipe.optimizer.freeze:
        if not any(fnmatchcase(name, pattern) for name in trained):
            near = did_you_mean(pattern, trained) or f": there are {', '.join(trained[:6])} ..."
            raise BadInput(f'optimizer.freeze: "{pattern}": no trained tensor is called so{near}')
    if trained and all(is_frozen(recipe, name) for name in trained):
        raise BadInput("optimizer.freeze: all tensors are frozen, so that there is nothing to train")
    if recipe.optimizer.layer_decay != 1 and not traits_of(recipe.model).blocks:
        raise BadInput(f'optimizer.layer_decay: model.family = "{recipe.model.family}" has no blocks over which rates '
                       "could fall; leave it out")


def _is_before_blocks(recipe, name):
    """Whether the first place that holds a tensor comes before those of the first block."""
    for place in places(recipe.model).values():
        if BLOCK.match(f"{place.holds}."):
            return False
        if place.holds and name.startswith(f"{place.holds}."):
            return True
    return False
