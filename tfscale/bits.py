"""The shared random bits of `common/bits.py`, drawn in TensorFlow: Threefry-2x32, bit for bit."""

import math

import tensorflow as tf

from common.bits import PARITY, ROTATIONS, keep_below


def threefry_2x32(key, hi, lo):
    """Two uint32 tensors encrypted under `key` (uint32, shape (2,)); returns two uint32 tensors."""
    schedule = key[0], key[1], tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key[0], key[1]), word(PARITY))
    hi, lo = hi + schedule[0], lo + schedule[1]
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            hi = hi + lo
            left, right = tf.bitwise.left_shift(lo, word(r)), tf.bitwise.right_shift(lo, word(32 - r))
            lo = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_or(left, right), hi)
        hi = hi + schedule[(i + 1) % 3]
        lo = lo + schedule[(i + 2) % 3] + word(i + 1)
    return hi, lo


def fold_in(key, data):
    """A key of its own for `data` (a uint32 scalar): uint32, shape (2,)."""
    return tf.stack(threefry_2x32(key, tf.zeros((), tf.uint32), tf.cast(data, tf.uint32)))


def draw(key, rows_B, size):
    """uint32 bits, shape (B, size), of the global rows `rows_B` (uint32)."""
    column = tf.cast(tf.range(size), tf.uint32)[None]
    hi, lo = threefry_2x32(key, rows_B[:, None] + tf.zeros_like(column), tf.zeros_like(rows_B)[:, None] + column)
    return tf.bitwise.bitwise_xor(hi, lo)


def dropout(x, key, rows_B, rate, place):
    """x with elements kept with probability 1 - rate and scaled by 1 / (1 - rate).

    Args:
      x: float, shape (B, ...). key: uint32 (2,), already folded with the step. rows_B: uint32 (B,), global rows.
      place: `name_word` of the canonical name of the place that draws.
    """
    bits = draw(fold_in(key, place), rows_B, math.prod(x.shape[1:]))
    keep = tf.bitwise.right_shift(bits, word(9)) < word(keep_below(rate))
    return tf.where(tf.reshape(keep, tf.shape(x)), x / tf.constant(1 - rate, x.dtype), tf.zeros_like(x))


def word(value):
    return tf.constant(value, tf.uint32)
