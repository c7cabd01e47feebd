"""What a step takes, known from the recipe alone: shapes and dtypes of a batch, without reading its data."""

import math
from collections.abc import Sequence
from typing import Any

from twinscale.common.data.batches import input_specs
from twinscale.common.data.dataset import open_dataset
from twinscale.common.errors import one_of
from twinscale.common.families import reads_arrays, reads_text
from twinscale.common.recipe.schema import Recipe
from twinscale.common.sources import MIXED, MIXUP, opened


def data_shape(recipe: Recipe) -> tuple[int, tuple]:
    """(classes, example_shape) of a recipe's data; images are opened for it where their source does not say."""
    data = recipe.data
    if reads_text(recipe.model):
        return one_of({"bytes": 257, "bpe": data.vocabulary}, data.tokenizer, "data.tokenizer"), (data.sequence,)
    known = opened(data)[0].shape
    if known:
        return known
    dataset = open_dataset(recipe)
    return dataset.classes, tuple(dataset.example_shape)


def batch_shapes(recipe: Recipe, example_shape: Sequence[Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """{name: (shape (B, ...), dtype)} of a global batch as `training_batches` makes it."""
    rows, text = recipe.train.global_batch, reads_text(recipe.model)
    if reads_arrays(recipe.model):
        return {name: ((rows, *shape), dtype) for name, shape, dtype in example_shape} | {"row": ((rows,), "uint32")}
    specs = input_specs(recipe, example_shape)
    read = {name: dtype for name, (_, dtype) in specs.items() if name not in ("key", "row")}
    read["inputs"] = "int32" if text else "float32"  # float64 is made on the device
    labels = example_shape if text else ()
    mixed = dict(zip(MIXED, (((rows,), "int32"), ((rows,), "float32")), strict=True))
    shapes = {name: ((rows, *example_shape), dtype) for name, dtype in read.items()}
    return shapes | {"labels": ((rows, *labels), "int32"), "weights": ((rows, *labels), "float32"),
                     "row": ((rows,), "uint32")} | (mixed if MIXUP in recipe.data.augment else {})


def batch_bytes(recipe: Recipe, example_shape: Sequence[Any]) -> int:
    """Bytes of a global batch."""
    sizes = {"bool": 1, "int32": 4, "uint32": 4, "float32": 4}
    return sum(math.prod(shape) * sizes[dtype] for shape, dtype in batch_shapes(recipe, example_shape).values())
