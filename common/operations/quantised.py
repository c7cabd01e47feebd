"""Products in 8 bits (`train.products`): what their factors are rounded to, and how far that carries a product.

A row of a factor, along what is summed over, is divided by its step, its largest magnitude / the largest of the grid,
and rounded to the nearest value of the grid, ties to even: to half an ulp, which is half a step in int8, and 2^-4
(e4m3) or 2^-3 (e5m2) of a value, or half of the smallest step if that is more. The same is done here in float64, to the
very numbers that a program was given, so that what it makes is known but for two things:

  ties      step and quotient have two roundings each at most in float32, 2 eps of the quotient. Where a tie lies within
            that, the value may be the other neighbour's, one ulp away.
  scaling   steps are off by 1 eps each, and what was summed up is multiplied by both with a rounding each: 3 eps.

Sums of whole numbers are exact in int32; those of floating grids are float32's, whose products are exact (they have
8 bits of 24), and are in the bound of the place as those of any product are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscale.common.errors import one_of
from twinscale.common.families.places import places
from twinscale.common.numbers.formats import EIGHT_BITS, EPS, TINY
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.references import FORMATS

SLIP = 2 * EPS["float32"]  # of a quotient, relative
SCALING = 3 * EPS["float32"]  # of a product, relative


@dataclass(frozen=True)
class Grid:
    """The values of 8 bits: their dtype's name, the largest magnitude, eps (0 where all steps are alike) and the
    smallest step."""

    name: str
    largest: float
    eps: float
    least: float


@dataclass(frozen=True)
class Products:
    """Of a `train.products`: the Grid of both factors forward and of the kernel back, that of what arrives from behind,
    the dtype of sums, and how many terms it holds for certain."""

    forward: Grid
    back: Grid
    sums: str
    most_terms: float = math.inf


INT8, E4M3, E5M2 = (Grid(name, *numbers) for name, numbers in EIGHT_BITS.items())
PRODUCTS = {"int8": Products(INT8, INT8, "int32", (2**31 - 1) // INT8.largest**2),
            "fp8": Products(E4M3, E5M2, "float32")}


def is_in_eight_bits(name: str, place: Any) -> bool:
    """Whether the product of a place is in 8 bits where a recipe says so: those of blocks, not the head."""
    return place.operation == "linear" and name.startswith("block_")


def on_grid(x: np.ndarray, axis: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(x as the grid has it, how far each value may be from that) in float64, of an array, rows along `axis`."""
    x = np.asarray(x, np.float64)
    step = np.maximum(np.abs(x).max(axis, keepdims=True) / grid.largest, TINY["float32"])
    quotient = x / step
    ulp = np.maximum(np.ldexp(grid.eps, np.frexp(quotient)[1] - 1), grid.least)
    in_ulps = quotient / ulp
    tie = np.abs(in_ulps - np.floor(in_ulps) - 0.5) <= SLIP * np.abs(in_ulps)
    return np.rint(in_ulps) * ulp * step, tie * ulp * step


def carried(x: np.ndarray, w_KxM: np.ndarray, of_x: Grid, of_w: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(how far rounding both factors to 8 bits carries each value of x (..., K) by w, and how far it may be from that),
    (..., M) in float64."""
    (near, x_ties), (near_w, w_ties) = on_grid(x, -1, of_x), on_grid(w_KxM, 0, of_w)
    product, full = near @ near_w, np.asarray(x, np.float64) @ np.asarray(w_KxM, np.float64)
    ties = x_ties @ (np.abs(near_w) + w_ties) + np.abs(near) @ w_ties
    return product - full, ties + SCALING * (np.abs(product) + ties)


def quanta(model: Any, given: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray], precision: str, kind: str
           ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{"forward/PLACE", "backward/PLACE": what `carried` says of each value} of all that products in 8 bits make of
    `given` numbers, as `common.operations.in_place.place_rows` has them; the sum, where several products read a place.

    Args:
      model: the recipe's section. given: the numbers that every place was fed with.
      weights: {"weights/NAME": array} of the state. precision: of the recipe, in which products read them.
      kind: `train.products`; BadInput where it is none of PRODUCTS.
    """
    of, found = one_of(PRODUCTS, kind, "train.products"), dict[str, tuple[Any, Any]]()
    for name, place in places(model).items():
        if is_in_eight_bits(name, place):
            kernel = rounded(np.asarray(weights[f"weights/{place.holds}.kernel"]), FORMATS[precision])
            kernel = kernel.reshape(-1, kernel.shape[-1]) if kernel.ndim > 2 else kernel
            found[f"forward/{name}"] = carried(given[f"forward/{place.reads[0]}"], kernel, of.forward, of.forward)
            key = f"backward/{place.reads[0]}"
            far, more = carried(given[f"backward/{name}"], kernel.T, of.back, of.forward)
            found[key] = (found[key][0] + far, found[key][1] + more) if key in found else (far, more)
    return found
