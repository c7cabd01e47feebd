"""The models, as Flax NNX modules."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscale.common.errors import one_of
from twinscale.common.families import builder_of, traits_of
from twinscale.common.operations.quantised import PRODUCTS as EIGHT
from twinscale.jaxscale.adapters import beside
from twinscale.jaxscale.models import convnet, decoder, encoder, mlp, pair, resnet, vit
from twinscale.jaxscale.models.products import in_eight_bits

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

OWN = {build.__module__.rpartition(".")[2]: build for build in (
    convnet.build, decoder.build, encoder.build, mlp.build, pair.build, resnet.build, vit.build)}
PRODUCTS: dict[str, Callable[..., nnx.Module]] = {
    "full": lambda module: module, **{kind: partial(in_eight_bits, kind=kind) for kind in EIGHT}}
POLICIES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int]) -> tuple[nnx.GraphDef, dict[str, nnx.Variable]]:
    """A model of the recipe as shapes alone: (graph, {name: Variable of ShapeDtypeStruct}), nothing allocated.

    Args:
      recipe: the recipe; its model, data, train.precision and jax sections are read.
      classes: size of the vocabulary, or number of classes.
      example_shape: (T,) for text, (H, W, C) for images.
    Returns: the static graph for `nnx.merge`, and its tensors by dotted path. Where the recipe scans over blocks the
      path `blocks.NAME` holds the tensors `block_0.NAME`, `block_1.NAME`, ... stacked along a first axis. Adapters,
      which the graph has not, are among the tensors: `adapters.adapted` makes of all what `merge` takes.
    """
    policy = one_of(POLICIES, recipe.train.precision, "train.precision")
    masters = jnp.float64 if policy == jnp.float64 else jnp.float32
    kinds = {"dtype": policy, "param_dtype": masters}
    module = nnx.eval_shape(lambda: builder(recipe)(recipe, classes, example_shape, kinds))
    module = one_of(PRODUCTS, recipe.train.products, "train.products")(module)
    graph, state = nnx.split(module)
    variables = {".".join(path): variable  # type: ignore[arg-type]  # of modules, whose paths are texts
                 for path, variable in nnx.to_flat_state(state)}
    return graph, variables | beside(recipe, variables, masters)


def builder(recipe: "Recipe") -> Callable[..., nnx.Module]:
    """The function that builds a recipe's model here."""
    return builder_of(recipe.model, "jax", OWN)


def merge(graph: nnx.GraphDef, variables: Mapping[str, nnx.Variable]) -> Any:
    """The module of a graph and {dotted path: Variable}."""
    return nnx.merge(graph, nnx.from_flat_state([(tuple(name.split(".")), v) for name, v in variables.items()]))


def by_path(path: str, canonical: Callable[[str], Any], model: Any) -> np.ndarray:
    """The tensor at a path, of a function from canonical name to NumPy array: stacked where the path is of blocks."""
    if not path.startswith("blocks."):
        return canonical(path)
    return np.stack([canonical(path.replace("blocks.", f"block_{i}.", 1)) for i in range(traits_of(model).blocks)])


def canonical_variables(tensors: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """{canonical name: array} of {dotted path: array}: stacked blocks come apart."""
    named = {}
    for path, tensor in tensors.items():
        if path.startswith("blocks."):
            # By index: of what several hosts share JAX takes no turns.
            named |= {f"block_{i}.{path.removeprefix('blocks.')}": tensor[i] for i in range(tensor.shape[0])}
        else:
            named[path] = tensor
    return named
