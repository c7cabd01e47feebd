"""Products of a transformer's blocks in 8 bits, for `train.products = "int8"` and `"fp8"`.

A factor is rounded along what is summed over, each row by its own largest magnitude: to 255 steps, whose products add
up exactly in int32; or to e4m3, and what arrives from behind to e5m2, whose products add up in float32 (Micikevicius et
al. 2022, "FP8 Formats for Deep Learning"). Forward and the gradient of what comes in are such products; the gradient of
the weights, a sum over all positions, is left in the compute dtype, as in SwitchBack (Wortsman et al. 2023, section
2.2). Rounding has the gradient of its identity (Bengio et al. 2013).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.errors import BadInput
from twinscale.common.numbers.formats import TINY
from twinscale.common.operations.quantised import PRODUCTS, Grid
from twinscale.jaxscale.models.layers import Linear
from twinscale.jaxscale.models.matmul import kept


def rounded(x: jax.Array, axis: int, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """(values of the grid, float32 steps with 1 along `axis`) of an array: x is their product to half an ulp. The step
    of a row that holds what is not finite is not finite either, and so is all that is made of it."""
    wide = x.astype(jnp.float32)
    step = jnp.maximum(jnp.abs(wide).max(axis, keepdims=True) / grid.largest, TINY["float32"])  # of zeros too
    values = wide / step
    return (values if grid.eps else jnp.round(values)).astype(grid.name), step


def product(x: jax.Array, w_KxM: jax.Array, kind: str, back: bool = False) -> jax.Array:
    """(..., K) by (K, M) in 8 bits, in float32; x is what arrives from behind, or what goes forward."""
    of = PRODUCTS[kind]
    (x, x_step), (w, w_step) = rounded(x, -1, of.back if back else of.forward), rounded(w_KxM, 0, of.forward)
    sums = jax.lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=of.sums)
    return sums.astype(jnp.float32) * x_step * w_step[0]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def eight_bit_matmul(x: jax.Array, w_KxM: jax.Array, kind: str) -> jax.Array:
    """(..., K) by (K, M), its product and what goes back to x in 8 bits, as a `train.products` has it."""
    return product(x, w_KxM, kind).astype(x.dtype)


def eight_bit_backward(kind: str, saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(dx (..., K), dw (K, M)) of dy (..., M) and the forward pass' (x, w)."""
    (x, w), dy = saved, kept(dy)
    positions = tuple(range(x.ndim - 1))
    dw = jax.lax.dot_general(x, dy, ((positions, positions), ((), ())))
    return product(dy, w.T, kind, back=True).astype(x.dtype), dw


eight_bit_matmul.defvjp(lambda x, w, kind: (eight_bit_matmul(x, w, kind), (x, w)), eight_bit_backward)


def eight_bit_dot_general(x: jax.Array, w: jax.Array, dimension_numbers: Any, *, kind: str, **_: Any) -> jax.Array:
    """`nnx.Linear`'s product over the last axis, in 8 bits."""
    return eight_bit_matmul(x, w, kind)


# Once for each, since two models are alike to Flax where their functions are the same objects.
DOT_GENERALS = {kind: partial(eight_bit_dot_general, kind=kind) for kind in PRODUCTS}


def in_eight_bits(module: nnx.Module, kind: str) -> nnx.Module:
    """The module, the products of whose blocks are in 8 bits, as a `train.products` has them. Raises BadInput where
    there are none, or the dtype of sums may not hold them."""
    products = {".".join(map(str, path)): part for path, part in nnx.iter_graph(module)
                if isinstance(part, Linear) and str(path[0]).startswith("block")}
    said, of = f'train.products="{kind}"', PRODUCTS[kind]
    if not products:
        raise BadInput(f'{said}: the blocks of this model have no products of ours: set "full"')
    for name, part in products.items():
        longest = max(part.kernel.shape[-2:])
        if longest > of.most_terms:
            raise BadInput(f"{said}: {name} sums up {longest} terms, and {of.sums} holds the sum of "
                           f'{of.most_terms:.0f} for certain: set "full"')
        part.dot_general = DOT_GENERALS[kind]
    return module
