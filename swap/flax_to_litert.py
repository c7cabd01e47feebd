"""The Flax program as a LiteRT file: what `jaxscale` would give to `jax.jit`, lowered by jax2tf for TensorFlow's
converter. In 8 bits the converter needs the places that are quantised, and takes the twin of `tfscale` with the same
weights and ranges.

A process: `python -m twinscale.swap.flax_to_litert [FORMAT MODEL PATH]...`, of directories of a
`common.export.write.Model`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.export.process import answer
from twinscale.jaxscale.export import serving
from twinscale.jaxscale.room import numerics
from twinscale.swap.converted import converted
from twinscale.tfscale import export

if TYPE_CHECKING:
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe


def write(name: str, recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    """Writes the format `name` to `path`; returns what export.json says of it besides."""
    if name == "litert-int8":
        return export.write(name, recipe, shape, tensors, path)
    recipe = recipe.with_values(train={"precision": "float32"}, jax={"scan": False})
    with numerics(recipe):
        function = converted(serving(recipe, shape, tensors))
        more = export.write_litert(function, shape, name, path, export.LITERT_BATCH)
    return more | {"note": "through jax2tf"}


if __name__ == "__main__":
    answer(write)
