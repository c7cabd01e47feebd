"""Low-rank adapters beside a model's kernels; see `common/families/adapters.py`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.families.adapters import DROPOUT, A, B, has_products, is_adapter, kernel_of, shapes_beside
from twinscale.common.numbers.bits import name_word
from twinscale.common.optimizers.factors import BLOCK, STACKED
from twinscale.jaxscale import bits

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def beside(recipe: "Recipe", variables: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """{canonical name: Param of ShapeDtypeStruct} of the adapters of a model's variables, {path: Variable}: stacked
    blocks have each their own."""
    shapes = {}
    for path, x in variables.items() if has_products(recipe) else ():
        if path.startswith(STACKED):
            shapes |= {path.replace(STACKED, f"block_{i}.", 1): x.shape[1:] for i in range(x.shape[0])}
        else:
            shapes[path] = x.shape
    return {name: nnx.Param(jax.ShapeDtypeStruct(shape, dtype)) for name, shape in shapes_beside(
        recipe, shapes).items()}


def adapted(recipe: "Recipe", values: Mapping[str, Any], key: Any = None) -> dict[str, Any]:
    """{path: array} that a model computes with, of its weights and adapters by path: W + (alpha / rank) A B in the
    masters' dtype; in training, by the step's `key`, with dropout of A's rows. Adapters have canonical names; kernels
    of blocks may be stacked."""
    if not has_products(recipe):
        return dict(values)
    found = {path: x for path, x in values.items() if not is_adapter(path)}
    products = {kernel_of(name): recipe.adapt.scale * (dropped(recipe, name, x, key) @ values[name.removesuffix(A) + B])
                for name, x in values.items() if name.endswith(A)}
    stacks: dict[str, dict[int, Any]] = {}
    for name, product in products.items():
        block = BLOCK.match(name)
        if name in found:
            found[name] = found[name] + product
        elif block:
            stacks.setdefault(BLOCK.sub(STACKED, name, count=1), {})[int(block[1])] = product
    for path, blocks in stacks.items():
        nothing = jnp.zeros(found[path].shape[1:], found[path].dtype)
        found[path] = found[path] + jnp.stack([blocks.get(i, nothing) for i in range(len(found[path]))])
    return found


def dropped(recipe: "Recipe", name: str, a: Any, key: Any) -> Any:
    """A (inputs, rank) of the name `name` after dropout of whole rows: of inputs of the kernel; as it is without a
    `key`."""
    if key is None or not recipe.adapt.dropout:
        return a
    place = name_word(name.removesuffix(A) + DROPOUT)
    one = jnp.ones((1, a.shape[0]), a.dtype)
    return a * bits.dropout(one, key, jnp.zeros(1, jnp.uint32), recipe.adapt.dropout, place)[0][:, None]
