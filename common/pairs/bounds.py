"""What rounding alone may make of a program's numbers: twins, whose weights and inputs are changed within half a unit
of their last place, and the walk of the longest sum's roundings (Higham and Mary 2019)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.common.families.parameters import dithering
from twinscale.common.numbers.formats import EPS, MASTERS, RESOLVED, walk
from twinscale.common.pairs.tensors import Tensor

TWINS = 4  # a bound is so many times a twin's noise
# Bounds are so much wider: one twin of few numbers may see little noise; what is no rounding is millions of float64's.
WIDER = {"float64": 16, "float32": 1, "bfloat16": 1}
# A gradient that its twin shares no more digits with is zero but for rounding.
NULL = {"float64": 1e-2, "float32": 1e-2, "bfloat16": 0.5}


def dithered(inputs: Any, dither: float) -> Any:
    """Inputs, or tensors, with floats changed within half a unit of their last place, `dither` of themselves."""
    if isinstance(inputs, Mapping):
        return {name: dithered(x, dither) for name, x in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(dithered(x, dither) for x in inputs)
    x = np.asarray(inputs)
    if not dither or x.dtype.kind != "f" or (np.trunc(x) == x).all():  # such as a mask, which no rounding has touched
        return x
    return np.asarray(x * dithering(1, "inputs", dither, x.shape), x.dtype)


def floor(tensors: Sequence[Tensor], precision: str) -> float:
    """The walk of the roundings of the longest sum over a program's tensors, relative."""
    longest = max((math.prod(tensor.shape[:-1]) for tensor in tensors if len(tensor.shape) > 1), default=1)
    return max(walk(longest) * EPS[MASTERS[precision]], RESOLVED[precision])


def allowed(tensors: Sequence[Tensor], precision: str, noise: float) -> float:
    """What numbers may be apart whose twins are `noise` apart, relative."""
    return WIDER[precision] * max(TWINS * noise, floor(tensors, precision))
