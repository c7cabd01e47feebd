"""The shared random bits of `common/numbers/bits.py`, drawn on Keras' runtime: Threefry-2x32, bit for bit."""

import math
from typing import Any

import numpy as np
from keras import ops

from twinscale.common.numbers.bits import PARITY, ROTATIONS, keep_below
from twinscale.common.numbers.bits import key as root_key

Tensor = Any  # of Keras' runtime, whichever that is


def threefry_2x32(key: Tensor, hi: Tensor, lo: Tensor) -> tuple[Tensor, Tensor]:
    """Two uint32 tensors encrypted under `key` (uint32, shape (2,)); returns two uint32 tensors."""
    schedule = key[0], key[1], ops.bitwise_xor(ops.bitwise_xor(key[0], key[1]), word(PARITY))
    hi, lo = hi + schedule[0], lo + schedule[1]
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            hi = hi + lo
            left, right = ops.left_shift(lo, word(r)), ops.right_shift(lo, word(32 - r))
            lo = ops.bitwise_xor(ops.bitwise_or(left, right), hi)
        hi = hi + schedule[(i + 1) % 3]
        lo = lo + schedule[(i + 2) % 3] + word(i + 1)
    return hi, lo


def fold_in(key: Tensor, data: Tensor | int) -> Tensor:
    """A key of its own for `data` (a uint32 scalar, or an integer): uint32, shape (2,)."""
    data = word(data) if isinstance(data, int) else ops.cast(data, "uint32")
    return ops.stack(threefry_2x32(key, ops.zeros((), "uint32"), data))


def step_key(seed: int, number: Tensor | int) -> Tensor:
    """The key that whatever step `number` (a uint32 scalar, or an integer) draws is folded from. Nothing else folds a
    step into a recipe's seed."""
    return fold_in(ops.convert_to_tensor(root_key(seed), "uint32"), number)


def draw(key: Tensor, rows_B: Tensor, size: int) -> Tensor:
    """uint32 bits, shape (B, size), of the global rows `rows_B` (uint32)."""
    column = ops.cast(ops.arange(size), "uint32")[None]
    hi, lo = threefry_2x32(key, rows_B[:, None] + ops.zeros_like(column), ops.zeros_like(rows_B)[:, None] + column)
    return ops.bitwise_xor(hi, lo)


def dropout(x: Tensor, key: Tensor, rows_B: Tensor, rate: float, place: int) -> Tensor:
    """x with elements kept with probability 1 - rate and scaled by 1 / (1 - rate).

    Args:
      x: float, shape (B, ...). key: uint32 (2,), already folded with the step. rows_B: uint32 (B,), global rows.
      place: `name_word` of the canonical name of the place that draws.
    """
    bits = draw(fold_in(key, place), rows_B, math.prod(x.shape[1:]))
    keep = ops.right_shift(bits, word(9)) < word(keep_below(rate))
    return ops.where(ops.reshape(keep, ops.shape(x)), x / (1 - rate), ops.zeros_like(x))


def word(value: int) -> Tensor:
    """An integer as a uint32 constant: TensorFlow would take a Python integer for an int32, and Keras on JAX, in a
    program of bfloat16, NumPy's for a float."""
    return ops.convert_to_tensor(np.uint32(value), "uint32")
