"""The shared random bits of `common/numbers/bits.py`, drawn in JAX: Threefry-2x32, bit for bit.

Written out because `jax.random.bits` numbers the elements of a whole array: here a row's bits depend on its global
number alone, so that they are the same in any micro-batch and in any order of rows.
"""

import math

import jax
import jax.numpy as jnp

from twinscale.common.numbers.bits import PARITY, ROTATIONS, keep_below
from twinscale.common.numbers.bits import key as root_key


def threefry_2x32(key: jax.Array, hi: jax.Array, lo: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two uint32 arrays encrypted under `key` (uint32, shape (2,)); returns two uint32 arrays."""
    schedule = key[0], key[1], key[0] ^ key[1] ^ word(PARITY)
    hi, lo = hi + schedule[0], lo + schedule[1]
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            hi = hi + lo
            lo = ((lo << word(r)) | (lo >> word(32 - r))) ^ hi
        hi = hi + schedule[(i + 1) % 3]
        lo = lo + schedule[(i + 2) % 3] + word(i + 1)
    return hi, lo


def fold_in(key: jax.Array, data: jax.typing.ArrayLike) -> jax.Array:
    """A key of its own for `data` (a uint32 scalar): uint32, shape (2,)."""
    return jnp.stack(threefry_2x32(key, jnp.zeros((), jnp.uint32), jnp.asarray(data, jnp.uint32)))


def step_key(seed: int, number: jax.typing.ArrayLike) -> jax.Array:
    """The key that whatever step `number` (an integer scalar) draws is folded from. Nothing else folds a step into a
    recipe's seed."""
    return fold_in(jnp.asarray(root_key(seed)), number)


def draw(key: jax.Array, rows_B: jax.Array, size: int) -> jax.Array:
    """uint32 bits, shape (B, size), of the global rows `rows_B` (uint32)."""
    column = jnp.arange(size, dtype=jnp.uint32)[None]
    hi, lo = threefry_2x32(key, *jnp.broadcast_arrays(rows_B[:, None], column))
    return hi ^ lo


def dropout(x: jax.Array, key: jax.Array, rows_B: jax.Array, rate: float, place: jax.typing.ArrayLike) -> jax.Array:
    """x with elements kept with probability 1 - rate and scaled by 1 / (1 - rate).

    Args:
      x: float, shape (B, ...). key: uint32 (2,), already folded with the step. rows_B: uint32 (B,), global rows.
      place: `name_word` of the canonical name of the place that draws.
    """
    bits = draw(fold_in(key, place), rows_B, math.prod(x.shape[1:]))
    keep = bits >> word(9) < word(keep_below(rate))
    return jnp.where(keep.reshape(x.shape), x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))


def word(value: int) -> jax.Array:
    """An integer from 0 to 2^32 - 1 as a uint32 scalar: sums and shifts are modulo 2^32, in JAX's 64-bit mode too."""
    return jnp.uint32(value)
