"""Floating-point operations of a training step, counted from the recipe. A multiply-add is two.

Conventions, named in every MFU: `6N` (Kaplan et al. 2020: six operations for each trained value and token),
`full` (every matrix product of the model, attention over all T x T pairs) and `causal` (attention over the pairs that
the mask lets through). Norms, activations and the optimizer are left out, as is customary.
"""

import functools
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.common.errors import one_of
from twinscale.common.families import family_of
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.machine.chips import CHIPS
from twinscale.common.numbers.formats import MASTERS


def forward_flops(model: Any, classes: int, example_shape: Sequence[int], convention: str = "causal") -> Any:
    """Forward operations of one example (a row of T tokens, or an image). Backward costs twice as much."""
    tree, family = parameters(model, classes, example_shape), family_of(model)
    if convention == "6N":
        return 2 * trained_size(tree) * (example_shape[0] if family.text else 1)
    return family.flops(model, tree, classes, example_shape, convention)


def train_flops(model: Any, classes: int, example_shape: Sequence[int], convention: str = "causal") -> Any:
    """Operations of one example's forward and backward pass."""
    return 3 * forward_flops(model, classes, example_shape, convention)


# Dense peak operations a second in bfloat16 with sums in float32, by words of the frameworks' names. TPUs: of
# `common/machine/chips.py`; A100, H100, H200, L4, L40S, T4: NVIDIA's data sheets, of which those since the A100 print
# the double, for sparse matrices; RTX: the appendices of NVIDIA's white papers on GA102 and Ada.
PEAKS = {kind: chip.peak for chip in CHIPS.values() for kind in chip.kinds} | {
    "A100": 312e12, "H100": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H200": 989e12, "H200 NVL": 835e12,
    "GH200": 989e12, "L4": 121e12, "L40S": 362e12, "T4": 65e12, "RTX 4090": 165.2e12, "RTX 3090": 71e12}
FLOAT16 = ("T4",)  # has no bfloat16: its float16 peak
OTHERS = r"(?! (D|Ti|SUPER|Laptop|Max-Q))"  # of almost the same name, and slower or faster


def peak_flops(kind: str, precision: str, count: int = 1, measured: Callable | None = None) -> tuple[float, str]:
    """(operations a second, where the figure is from) of `count` devices of a kind, as the framework names it.

    Accelerators: the maker's bfloat16 peak, whatever the recipe's precision. Anything else, however many devices are
    made of it, and parts of a GPU: the best matrix product that this host managed just now, so that an MFU on a CPU is
    a share of something measured. `measured`, from "float32" or "float64" to that rate and whose it is, says what was
    asked; by default NumPy alone.
    """
    for name in sorted(PEAKS, key=len, reverse=True):
        if re.search(rf"\b{name}\b{OTHERS}", kind) and " MIG " not in kind:
            return count * PEAKS[name], f"{'float16' if name in FLOAT16 else 'bfloat16'} peak of {name}"
    wide = one_of(MASTERS, precision, "train.precision")
    rate, whose = (measured or measured_peak)(wide)
    return rate, f"best {wide} matrix product of {whose} here"


@functools.cache
def measured_peak(dtype: str, libraries: Any = ()) -> tuple[float, str]:
    """`best_rate` of NumPy and of what this process has besides: ((name, product), ...)."""
    return best_rate({name: functools.partial(product_rate, product, dtype)
                      for name, product in (("NumPy", numpy_product), *libraries)})


def best_rate(rates: Mapping[str, Callable[[], float]], turns: int = 3) -> tuple[float, str]:
    """(operations a second, whose): the most that any of {name: () -> operations a second} reaches when they take
    turns. One rate serves all whose MFU is compared: each against its own would say who multiplies badly."""
    best = dict.fromkeys(rates, 0.0)
    for _ in range(turns):
        for name, rate in rates.items():
            best[name] = max(best[name], rate())
    first = max(best, key=lambda name: best[name])
    *others, last = best
    return best[first], f"{', '.join(others)} and {last}, {first}'s," if others else last


def product_rate(product: Callable, dtype: str, size: int = 1024, calls: int = 2) -> float:
    """Operations a second of the best of some products. `product` makes of a square array a function that multiplies
    it by itself and waits."""
    multiply, least = product(np.ones((size, size), dtype)), math.inf
    multiply()
    for _ in range(calls):
        start = time.perf_counter()
        multiply()
        least = min(least, time.perf_counter() - start)
    return 2 * size**3 / least


def numpy_product(array: np.ndarray) -> Callable[[], Any]:
    """What multiplies a square array by itself."""
    return lambda: array @ array
