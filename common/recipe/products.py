"""`train.products` beside the rest of a recipe."""

from typing import Any

from twinscale.common.families import traits_of


def products_problem(recipe: Any) -> str | None:
    """What is wrong with a recipe's `train.products`, or None."""
    train, model = recipe.train, recipe.model
    if train.products == "full":
        return None
    said, traits = f'train.products="{train.products}"', traits_of(model)
    if train.precision == "float64":
        return f'{said}: train.precision="float64" is what others are judged by: take "float32" or "bfloat16"'
    if traits.foreign or not traits.blocks:
        return f'{said}: is of the products of blocks, and model.family="{model.family}" has none: set "full"'
    if recipe.compress.stages or recipe.adapt.kind != "none":
        return f"{said}: not with stages of a compression or adapters, whose products are others: set \"full\""
    if recipe.jax.fused:
        return f"{said}: jax.fused=true would round what goes back to several products in rows of all: leave it out"
    return None
