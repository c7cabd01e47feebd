"""Products of a transformer's blocks in 8 bits, for `train.products = "int8"`.

A factor is rounded to 255 steps along what is summed over, each row by its own largest magnitude, and the products add
up exactly in int32. Forward and the gradient of what comes in are such products; the gradient of the weights, a sum
over all positions, is left in the compute dtype, as in SwitchBack (Wortsman et al. 2023, section 2.2). Rounding has
the gradient of its identity (Bengio et al. 2013).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.errors import BadInput
from twinscale.common.operations.quantised import LARGEST, MOST_TERMS
from twinscale.jaxscale.models.layers import Linear
from twinscale.jaxscale.models.matmul import kept


def rounded(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """(int8, float32 steps with 1 along `axis`) of an array: x is their product to half a step. Zeros have step 1."""
    wide = x.astype(jnp.float32)
    most = jnp.abs(wide).max(axis, keepdims=True)
    step = jnp.where(most > 0, most / LARGEST, 1)
    return jnp.clip(jnp.round(wide / step), -LARGEST, LARGEST).astype(jnp.int8), step


def product(x: jax.Array, w_KxM: jax.Array) -> jax.Array:
    """(..., K) by (K, M) in 8 bits, in x's dtype."""
    (x, x_step), (w, w_step) = rounded(x, -1), rounded(w_KxM, 0)
    sums = jax.lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
    return sums.astype(jnp.float32) * x_step * w_step[0]


@jax.custom_vjp
def int8_matmul(x: jax.Array, w_KxM: jax.Array) -> jax.Array:
    """(..., K) by (K, M), its product and what goes back to x in 8 bits."""
    return product(x, w_KxM).astype(x.dtype)


def int8_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(dx (..., K), dw (K, M)) of dy (..., M) and the forward pass' (x, w)."""
    (x, w), dy = saved, kept(dy)
    positions = tuple(range(x.ndim - 1))
    dw = jax.lax.dot_general(x, dy, ((positions, positions), ((), ())))
    return product(dy, w.T).astype(x.dtype), dw


int8_matmul.defvjp(lambda x, w: (int8_matmul(x, w), (x, w)), int8_backward)


def int8_dot_general(x: jax.Array, w: jax.Array, dimension_numbers: Any, **_: Any) -> jax.Array:
    """`nnx.Linear`'s product over the last axis, in 8 bits."""
    return int8_matmul(x, w)


def in_eight_bits(module: nnx.Module) -> nnx.Module:
    """The module, the products of whose blocks are in 8 bits. Raises BadInput where there are none, or int32 may not
    hold their sums."""
    products = {".".join(map(str, path)): part for path, part in nnx.iter_graph(module)
                if isinstance(part, Linear) and str(path[0]).startswith("block")}
    if not products:
        raise BadInput('train.products="int8": the blocks of this model have no products of ours: set "full"')
    for name, part in products.items():
        longest = max(part.kernel.shape[-2:])
        if longest > MOST_TERMS:
            raise BadInput(f'train.products="int8": {name} sums up {longest} terms, and int32 holds the sum of '
                           f'{MOST_TERMS} for certain: set "full"')
        part.dot_general = int8_dot_general
    return module
