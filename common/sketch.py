"""A tensor in a few numbers, to compare two of which neither can be copied: norm, largest element, signed projections.

Projection k of a matrix x is sum_ij x[i, j] r[i, k] s[j, k], with signs r and s from the shared bits; axes before the
last count as one. Its square is |x|^2 on average, and as it is linear, two tensors' projections differ by those of
their difference: so the root mean square of K differences estimates |x - y|, though neither is at hand.
Sources: Achlioptas 2003 (signs); Sun, Guo, Tropp & Udell 2018 (products of signs). The square of one projection varies
by no more than 8 |x|^4 (2 |x|^4 for a vector), so the mean of 16 is within a factor of 2 of |x|^2 as a rule.
"""

import functools
import math

import numpy as np

from common import bits

PROJECTIONS = 16
SIZE = 2 + PROJECTIONS


def sketch(xp, x):
    """The sketch of a tensor of any shape, of SIZE numbers: its norm, its largest |element|, its projections.

    Args:
      xp: numpy, jax.numpy or keras.ops. Its products must not round to less than float32.
      x: float32 or float64.
    """
    x = x if len(x.shape) > 1 else xp.reshape(x, (1, -1))
    axes = "abcdefg"[:len(x.shape) - 1]
    kind = np.dtype(getattr(x.dtype, "name", x.dtype))
    rows = xp.einsum(f"{axes}j,jk->{axes}k", x, signs("last", tuple(x.shape[-1:])).astype(kind))
    projections = xp.einsum(f"{axes}k,{axes}k->k", rows, signs("leading", tuple(x.shape[:-1])).astype(kind))
    norm, largest = xp.sqrt(xp.sum(xp.square(x))), xp.max(xp.abs(x))
    return xp.concatenate([xp.stack([norm, largest]), projections])


@functools.cache
def signs(role, shape):
    """Random signs, int8, (*shape, PROJECTIONS), the same wherever they are asked for."""
    key = bits.fold_in(bits.key(0), bits.name_word(f"sketch {role}"))
    drawn = bits.draw(key, np.arange(PROJECTIONS, dtype=np.uint32), math.prod(shape))
    return (1 - 2 * (drawn >> np.uint32(31)).astype(np.int8)).T.reshape(*shape, PROJECTIONS)


def distance(a, b):
    """|x - y| of two tensors, estimated from their sketches; infinite where either is not finite."""
    apart = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(np.sqrt(np.mean(np.square(apart[2:])))) if np.isfinite(apart).all() else math.inf
