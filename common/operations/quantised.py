"""How far a product in 8 bits may be from the same in float64 (`train.products = "int8"`).

A factor is rounded to a grid whose step is the largest magnitude of its row / 127, so each value is off by half a step
at most. Of sum_k x_k w_k, with steps s of x's row and t of w's column, that is

  sum_k |x_k| t/2 + |w_k| s/2 + s t/4   at worst,
  RARE / sqrt(3) of the root of the sum of squares of the same terms,   where roundings are independent:

a rounding is sub-Gaussian with a third of its half step squared, and variances add up (Boucheron, Lugosi and Massart,
Concentration Inequalities, 2013, section 2.3). The smaller of both is the quantum of a value. The terms themselves are
whole numbers, whose sum int32 has exactly.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from twinscale.common.families.places import places
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.references import FORMATS
from twinscale.common.operations.rounding import RARE

LARGEST = 127  # of int8, on both sides of 0
MOST_TERMS = (2**31 - 1) // LARGEST**2  # whose sum int32 holds, whatever they are
# What is divided by a step in float32 before it is rounded is off by 1.5 eps of 127 at most, a part of half a step.
DIVISION = 1 + 2 * 1.5 * LARGEST * FORMATS["float32"].eps


def is_in_eight_bits(name: str, place: Any) -> bool:
    """Whether the product of a place is in 8 bits where a recipe says so: those of blocks, not the head."""
    return place.operation == "linear" and name.startswith("block_")


def quantum(x: np.ndarray, w_KxM: np.ndarray) -> np.ndarray:
    """How far rounding both factors to 8 bits may carry each value of x (..., K) by w, (..., M) in float64."""
    x, w = np.abs(np.asarray(x, np.float64)), np.abs(np.asarray(w_KxM, np.float64))
    s, t = (most / LARGEST * DIVISION for most in (x.max(-1, keepdims=True), w.max(0)))
    terms = x.shape[-1]
    worst = x.sum(-1, keepdims=True) * t / 2 + s * w.sum(0) / 2 + terms * s * t / 4
    squares = (x**2).sum(-1, keepdims=True) * t**2 / 4 + s**2 * (w**2).sum(0) / 4 + terms * (s * t / 4) ** 2
    return np.minimum(worst, RARE / math.sqrt(3) * np.sqrt(squares))


def quanta(model: Any, given: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray], precision: str
           ) -> dict[str, np.ndarray]:
    """{"forward/PLACE", "backward/PLACE": the quantum of each value} of all that products in 8 bits make of `given`
    numbers, as `common.operations.in_place.place_rows` has them; a place that several products read adds up theirs.

    Args:
      model: the recipe's section. given: the numbers that every place was fed with.
      weights: {"weights/NAME": array} of the state. precision: of the recipe, in which products read them.
    """
    found: dict[str, Any] = {}
    for name, place in places(model).items():
        if is_in_eight_bits(name, place):
            kernel = rounded(np.asarray(weights[f"weights/{place.holds}.kernel"]), FORMATS[precision])
            kernel = kernel.reshape(-1, kernel.shape[-1]) if kernel.ndim > 2 else kernel
            found[f"forward/{name}"] = quantum(given[f"forward/{place.reads[0]}"], kernel)
            key = f"backward/{place.reads[0]}"
            found[key] = found.get(key, 0) + quantum(given[f"backward/{name}"], kernel.T)
    return found
