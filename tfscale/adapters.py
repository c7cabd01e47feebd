"""Low-rank adapters beside a model's kernels; see `common/families/adapters.py`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from twinscale.common.families.adapters import DROPOUT, A, B, has_products, is_adapter, kernel_of, shapes_beside
from twinscale.common.numbers.bits import name_word
from twinscale.tfscale import bits

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def beside(recipe: "Recipe", variables: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """{canonical name: variable of zeros} of the adapters of a model's variables, by canonical name."""
    shapes = {name: tuple(v.shape) for name, v in variables.items()}
    return {name: keras.Variable("zeros", shape, dtype, name=name.replace(".", "_")) for name, shape in shapes_beside(
        recipe, shapes).items()}


def adapted(recipe: "Recipe", values: Mapping[str, Any], key: Any = None) -> dict[str, Any]:
    """{canonical name: tensor} that a model computes with, of its weights and adapters by canonical name:
    W + (alpha / rank) A B in the masters' dtype; in training, by the step's `key`, with dropout of A's rows."""
    if not has_products(recipe):
        return dict(values)
    found = {name: x for name, x in values.items() if not is_adapter(name)}
    for name in (name for name in values if name.endswith(A)):
        a, b, w = (ops.convert_to_tensor(values[part]) for part in (name, name.removesuffix(A) + B, kernel_of(name)))
        found[kernel_of(name)] = w + recipe.adapt.scale * ops.matmul(dropped(recipe, name, a, key), b)
    return found


def dropped(recipe: "Recipe", name: str, a: Any, key: Any) -> Any:
    """A (inputs, rank) of the name `name` after dropout of whole rows: of inputs of the kernel; as it is without a
    `key`."""
    if key is None or not recipe.adapt.dropout:
        return a
    place = name_word(name.removesuffix(A) + DROPOUT)
    one = ops.ones((1, a.shape[0]), a.dtype)
    return a * bits.dropout(one, key, ops.zeros((1,), "uint32"), recipe.adapt.dropout, place)[0][:, None]
