"""The model of a stage of a compression, alone."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.jaxscale.compress.distil import parted
from twinscale.jaxscale.compress.train import model_tensors, through_places
from twinscale.jaxscale.models import build

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe


def twin(recipe: "Recipe", dataset: "Dataset | Shape", tensors: Mapping[str, np.ndarray]
         ) -> Callable[[dict[str, jax.Array]], jax.Array]:
    """The model of a stage's recipe with its tensors in place: a pure function from {name: array} of what
    `common.data.input_specs` names to logits, in evaluation.

    Args:
      tensors: {canonical name: NumPy array} of the stage's state, without slots; "weights/" may stand before them.
    """
    graph, _ = build(recipe, dataset.classes, dataset.example_shape)
    weights, running = parted({name.removeprefix("weights/"): jnp.asarray(x) for name, x in tensors.items()})
    # Made here, so that the function holds no mask.
    made = jax.jit(lambda weights, running: model_tensors(recipe, weights, running, False)[0])(weights, running)
    return lambda inputs: through_places(recipe, graph, made, running, inputs)[0]
