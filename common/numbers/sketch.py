"""A tensor in a few numbers, to compare two of which neither can be copied: norm, largest element, signed projections.

Projection k of a matrix x is sum_ij x[i, j] r[i, k] s[j, k], with signs r and s from the shared bits; axes before the
last count as one. Its square is |x|^2 on average, and as it is linear, two tensors' projections differ by those of
their difference: so the root mean square of 16 differences estimates |x - y|, though neither is at hand. It is within
a factor of 2 of it as a rule: the square of one projection varies by 8 |x|^4 at most, in a matrix of rank one, and by
little more than 2 |x|^4 in most.
Sources: Achlioptas 2003 (signs); Sun, Guo, Tropp & Udell 2018 (products of signs).
"""

import functools
import math
from typing import Any

import numpy as np

from twinscale.common.numbers import bits
from twinscale.common.numbers.formats import EPS, TINY

PROJECTIONS = 16
NORM, LARGEST, ROUNDING, FIRST = range(4)  # what the first numbers of a sketch are, and where its projections begin
SIZE = FIRST + PROJECTIONS


def sketch(xp: Any, x: Any) -> Any:
    """The sketch of a tensor of any shape, of SIZE numbers: its norm, its largest |element|, what the projections may
    have lost to rounding (relative to the norm), the projections.

    Sums over the leading axes go in blocks, so that the longest sum is of n = d + 2 sqrt(L) terms, for a last axis of d
    and L rows; its roundings walk sqrt(n) eps (Higham & Mary 2019).

    Args:
      xp: numpy, jax.numpy or keras.ops. Its products must not round to less than float32.
      x: float32 or float64.
    """
    kind, last = np.dtype(getattr(x.dtype, "name", x.dtype)), x.shape[-1] if x.shape else 1
    x = xp.reshape(x, (-1, last))
    leading = math.prod(x.shape[:-1])
    block = math.isqrt(leading - 1) + 1
    rows = xp.matmul(x, signs("last", last).astype(kind)) * signs("leading", leading).astype(kind)
    blocks = xp.reshape(xp.pad(rows, ((0, block * block - leading), (0, 0))), (block, block, PROJECTIONS))
    lost = np.asarray(EPS[kind.name] * math.sqrt(last + 2 * block), kind)
    norm, largest = xp.sqrt(xp.sum(xp.square(x))), xp.max(xp.abs(x))
    return xp.concatenate([xp.stack([norm, largest, lost]), xp.sum(xp.sum(blocks, 1), 0)])


@functools.cache
def signs(role: str, count: int) -> np.ndarray:
    """Random signs, int8, (count, PROJECTIONS), the same wherever they are asked for."""
    key = bits.fold_in(bits.key(0), bits.name_word(f"sketch {role}"))
    drawn = bits.draw(key, np.arange(PROJECTIONS, dtype=np.uint32), count)
    return (1 - 2 * (drawn >> np.uint32(31)).astype(np.int8)).T


def distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """(|x - y|, what of it may be rounding of the sketches, |y|) of two tensors, estimated from their sketches, the
    first two relative to |y|; infinite where either is not finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf, math.inf, math.inf
    apart = np.sqrt(np.mean(np.square(a[FIRST:] - b[FIRST:])))
    return float(apart / max(b[NORM], TINY["float64"])), float(max(a[ROUNDING], b[ROUNDING])), float(b[NORM])
