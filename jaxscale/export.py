"""Writes a model in JAX's format: StableHLO, through jax.export. `common/export/write.py` has the outline.

A process: `python -m twinscale.jaxscale.export [FORMAT MODEL PATH]...`, of directories of a
`common.export.write.Model`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.common.compress.recipes import active
from twinscale.common.errors import BadInput
from twinscale.common.export.check import one_document
from twinscale.common.export.process import answer
from twinscale.common.export.write import EIGHT_BITS, bare, served
from twinscale.common.families import reads_text
from twinscale.common.files.access import write_bytes
from twinscale.common.recipe.schema import master_dtype
from twinscale.jaxscale.batch_loss import model_inputs
from twinscale.jaxscale.models import build, by_path, merge
from twinscale.jaxscale.room import numerics

if TYPE_CHECKING:
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def logits(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Logits (NumPy) that the trainer's own program computes in evaluation of rows of one document each.

    Args:
      recipe: with a stage that quantises, the program is that stage's.
      shape: of the data, its `classes` and `example_shape`.
      tensors: {canonical name: array}; of a stage that quantises all that its state has.
      inputs: ids (B, T) or images (B, H, W, C).
    """
    given = model_inputs(recipe, {name: jnp.asarray(x) for name, x in one_document(inputs).items()},
                         jnp.zeros(2, jnp.uint32))
    if recipe.compress.stages and active(recipe).kind in EIGHT_BITS:
        from twinscale.jaxscale.compress.model import twin

        return jax.device_get(jax.jit(twin(recipe, shape, bare(tensors)))(given))
    return jax.device_get(jax.jit(filled(recipe, shape, tensors))(given))


def filled(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray]
           ) -> Callable[[Mapping[str, jax.Array]], jax.Array]:
    """The model with the values of {canonical name: array}: a function from what it reads of a batch to logits."""
    graph, variables = build(recipe, shape.classes, shape.example_shape)
    values = {path: v.replace(jnp.asarray(by_path(path, tensors.get, recipe.model), v.dtype))
              for path, v in variables.items()}
    return lambda given: merge(graph, values)(given)


def serving(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray]) -> Callable[[jax.Array], jax.Array]:
    """A function from `inputs` alone to logits."""
    recipe = served(recipe)
    model = filled(recipe, shape, tensors)

    def call(inputs):
        given = {"inputs": inputs}
        if reads_text(recipe.model):
            given["positions"] = jnp.broadcast_to(jnp.arange(shape.example_shape[0], dtype=jnp.int32), inputs.shape)
        return model(given)

    return call


def write(name: str, recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    """Writes the format `name` to `path`; returns what export.json says of it besides."""
    if name != "stablehlo":
        raise BadInput(f"format {name}: nothing here writes it")
    rows, = jax.export.symbolic_shape("rows")
    kind = jnp.int32 if reads_text(recipe.model) else master_dtype(recipe)
    compiled = jax.jit(serving(recipe, shape, tensors))
    exported = jax.export.export(compiled, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((rows, *shape.example_shape), kind))
    write_bytes(path, bytes(exported.serialize()))
    return {"note": f"for {', '.join(PLATFORMS)}"}


def write_alone(name: str, recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray], path: Path
                ) -> dict[str, Any]:
    """`write`, in a process that has yet to set the recipe's precision."""
    with numerics(recipe):
        return write(name, recipe, shape, tensors, path)


if __name__ == "__main__":
    answer(write_alone)
