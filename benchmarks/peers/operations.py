"""The single operations of a decoder's step, for processes that each time one framework's own. It imports nothing but
the standard library and NumPy, as `serve.py` does, and of ours what imports no more.

A job is one of `serve.py`, with "shapes": of all weights. Each {"name", "count"} is answered with the seconds of so
many calls, one after another. What has a gradient takes what arrives at its result last, and gives the result and the
gradients of all the rest.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from twinscale.common import process

RATE, DECAY, MEAN, SQUARE, EPSILON = 1e-3, 0.1, 0.9, 0.95, 1e-8  # AdamW's, after one update
NORM = 1e-6  # a layer norm's epsilon
SQUARED, CALL = "square", "call"  # what the best product is measured by, and what a call costs that computes nothing
SIDE = 1024  # of that product
GRADIENT = ", gradient"  # ends the name of an operation with its gradient


class Operation(NamedTuple):
    """One operation: shapes of what it takes, values in and out of it together, and operations of its products. A
    multiply-add is two."""

    takes: tuple[tuple[int, ...], ...]
    values: int
    flops: int = 0


def operations(job: Mapping[str, Any]) -> dict[str, Operation]:
    """{name: Operation} at a job's sizes, in the order of a step. `values` are what has to be read and written once if
    nothing is kept between calls."""
    rows, width, hidden = job["batch"] * job["length"], job["width"], job["hidden"]
    heads = (job["batch"], job["heads"], job["length"], width // job["heads"])
    x, up, scores = (rows, width), (rows, hidden), (*heads[:3], job["length"])
    weights, pairs = sum(map(math.prod, job["shapes"])), 2 * rows * width * job["length"]
    kernel, narrow, wide = width * hidden, rows * width, rows * hidden
    return {
        "layer norm": Operation((x, (width,), (width,)), 2 * narrow + 2 * width),
        "layer norm" + GRADIENT: Operation((x, (width,), (width,), x), 4 * narrow + 4 * width),
        "transposing copy": Operation(((job["batch"], job["length"], *heads[1::2]),), 2 * narrow),
        "scores": Operation((heads, heads), 2 * narrow + math.prod(scores), pairs),
        "softmax": Operation((scores,), 2 * math.prod(scores)),
        "softmax" + GRADIENT: Operation((scores, scores), 4 * math.prod(scores)),
        "product": Operation((x, (width, hidden)), narrow + kernel + wide, 2 * rows * kernel),
        "product" + GRADIENT: Operation((x, (width, hidden), up), 2 * (narrow + kernel + wide), 6 * rows * kernel),
        "gelu": Operation((up,), 2 * wide),
        "gelu" + GRADIENT: Operation((up, up), 4 * wide),
        "update": Operation(tuple(map(tuple, job["shapes"])), 7 * weights)}


def arrays(job: Mapping[str, Any], name: str) -> list[np.ndarray]:
    """What an operation takes: float32, normal, the same in every process. An update takes its gradients."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in own(job)[name].takes]


def own(job: Mapping[str, Any]) -> dict[str, Operation]:
    """`operations`, and what is not of the step: the product that rates are measured by, and next to nothing."""
    return operations(job) | {SQUARED: Operation(((SIDE, SIDE),), 2 * SIDE**2, 2 * SIDE**3),
                              CALL: Operation(((1,),), 2)}


def timed(job: Mapping[str, Any], made: Callable[[str, list[np.ndarray]], Callable[[], Any]]
          ) -> Callable[..., float]:
    """What `serve` asks: (name, count) to seconds. `made` makes of an operation's name and arrays what computes it once
    and waits; the first call of each compiles it. What is freed is kept, as trainers keep it: else the kernel's
    clearing of pages would be taken for the runtime's."""
    process.keep_memory()
    ready: dict[str, Callable[[], Any]] = {}

    def seconds(name, count):
        if name not in ready:
            ready[name] = made(name, arrays(job, name))
            ready[name]()
        start = time.perf_counter()
        for _ in range(count):
            ready[name]()
        return time.perf_counter() - start

    return seconds
