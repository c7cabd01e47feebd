"""Inputs that try the operations of our models, each case in values of a dtype."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.operations.references import (
    CHANNELS,
    CLASSES,
    ELEMENTS,
    HEAD,
    HEADS,
    IMAGE,
    KV,
    PLANE,
    WIDTH,
    B,
    T,
)

if TYPE_CHECKING:
    from twinscale.common.operations.references import Format


def rounded(x: Any, f: "Format") -> np.ndarray:
    """An array in values of a format: float64, or float32 that holds bfloat16's values; integers as they are."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    x = x.astype(np.float64 if f.name == "float64" else np.float32)
    if f.name != "bfloat16":
        return x
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) & np.uint32(0xFFFF0000)).view(np.float32)


def sizes(f: "Format", rng: np.random.Generator, shape: Sequence[int]) -> dict[str, Any]:
    """{case: array}: random signs of every size from the largest tried to subnormal."""
    normal = rng.standard_normal
    return {"normal": normal(shape), "large": normal(shape) * f.large, "tiny": normal(shape) / f.large,
            "subnormal": rng.uniform(-1, 1, shape) * f.tiny,
            "all sizes": normal(shape) * 10.0 ** rng.uniform(-12, 12, shape)}


def elementwise(others: Any = (), shape: Any = ELEMENTS) -> Callable[..., dict[str, tuple]]:
    """Cases of a function of x, where it bends and where it is flat, and `others` normal arrays of the same shape."""
    def cases(f, rng):
        found = sizes(f, rng, shape) | {"bend": np.linspace(-12, 12, math.prod(shape)).reshape(shape),
                                        "zero": rng.choice([0.0, -0.0, f.tiny, -f.tiny, 1.0, -1.0], shape)}
        return {case: (x, *(rng.standard_normal(shape) for _ in others)) for case, x in found.items()}

    return cases


def product(inputs: int, outputs: int, gradient: bool = False, tied: bool = False) -> Callable[..., dict[str, tuple]]:
    """Cases of x (B, T, inputs) @ w (inputs, outputs) + b, and for the gradient dy; `tied`: no b, and w transposed."""
    def cases(f, rng):
        normal = rng.standard_normal
        w, b = normal((inputs, outputs)) / np.sqrt(inputs), normal(outputs)
        x = normal((B, T, inputs))
        pairs, twice = np.repeat(x[..., ::2], 2, -1), np.repeat(w[::2], 2, 0)
        pairs[..., 1::2] *= -1 - 2.0**-5  # neighbours all but cancel under equal weights
        found = {case: (x, w) for case, x in sizes(f, rng, x.shape).items()}
        found |= {"cancellation": (1e3 * pairs, twice), "one sign": (np.abs(x), np.abs(w))}
        found = {case: (x, w.T) if tied else (x, w, b) for case, (x, w) in found.items()}
        dy = normal((B, T, outputs))
        return {case: (*arrays, np.abs(dy) if case == "one sign" else dy) if gradient else arrays
                for case, arrays in found.items()}

    return cases


def attention(what: str, gradient: bool = False) -> Callable[..., dict[str, tuple]]:
    """Cases of q (2, T, HEADS, D), k and v (2, T, KV, D), segments; T = D, so that identities show what is between.

    scores: v = I, the output is the shares. softmax: k = I too, and q holds the logits times 8, so that scores are
    exact. mix: q = 0, the shares are equal.
    """
    def cases(f, rng):
        normal = rng.standard_normal
        q, k, v = normal((2, HEAD, HEADS, HEAD)), normal((2, HEAD, KV, HEAD)), normal((2, HEAD, KV, HEAD))
        eye = np.broadcast_to(np.eye(HEAD)[:, None], k.shape)
        segments = np.sort(rng.integers(0, 3, (2, HEAD)), -1).astype(np.int32)
        if what == "scores":
            pairs, twice = np.repeat(q[..., ::2], 2, -1), np.repeat(k[..., ::2], 2, -1)
            pairs[..., 1::2] *= -1 - 2.0**-5  # neighbours all but cancel
            found = {"normal": (q, k, eye), "large": (10 * q, 3 * k, eye), "tiny": (q / f.large, k, eye),
                     "cancellation": (30 * pairs, twice, eye)}
        elif what == "softmax":
            top = np.where(rng.random(q.shape) < 0.1, 1e4, 0.0)
            found = {"normal": (8 * q, eye, eye), "equal": (np.full(q.shape, 8e3), eye, eye),
                     "big": (8 * (1e4 + 3 * q), eye, eye), "far apart": (8 * (3 * q + top), eye, eye),
                     "near the mask": (np.full(q.shape, -1e30), eye, eye),
                     "subnormal": (rng.uniform(-1, 1, q.shape) * f.tiny, eye, eye)}
        else:
            found = {case: (0 * q, k, x) for case, x in sizes(f, rng, v.shape).items()}
            found |= {"one sign": (0 * q, k, np.abs(v)), "cancellation": (0 * q, k, v + 1e3 * (-1.0) ** np.arange(
                HEAD)[:, None, None])}
        dy = normal((2, HEAD, HEADS * HEAD))
        return {case: (*arrays, segments, *[dy] * gradient) for case, arrays in found.items()}

    return cases


def rows(shape: Any, tensors: int, gradient: bool = False) -> Callable[..., dict[str, tuple]]:
    """Cases of a norm of x: sizes, a mean that drowns the deviations, constant rows; then scale (and bias, and for
    batch norm the running mean and variance)."""
    def cases(f, rng):
        normal, width = rng.standard_normal, shape[-1]
        found = sizes(f, rng, shape) | {"cancellation": 1000 + normal(shape), "constant": np.full(shape, 3.0),
                                        "one outlier": np.where(np.arange(width) == 1, 1e4, 1.0) * normal(shape)}
        others = [1 + 0.1 * normal(width), normal(width), normal(width), rng.uniform(0.5, 2, width)][:tensors]
        return {case: (x, *others, *[normal(shape)] * gradient) for case, x in found.items()}

    return cases


def rotary_cases(f: "Format", rng: np.random.Generator) -> dict[str, tuple]:
    """Cases of values to rotate and their positions."""
    x = sizes(f, rng, (B, T, HEADS, HEAD))
    positions = np.stack([rng.permutation(T) for _ in range(B)]).astype(np.int32)
    return {case: (values, positions) for case, values in x.items()}


def embedding_cases(gradient: bool = False) -> Callable[..., dict[str, tuple]]:
    """Cases of ids (B, T) and a table; for the gradient rows' gradients instead of sizes of the table."""
    def cases(f, rng):
        ids = {"all ids": rng.integers(0, CLASSES, (B, T)), "one id": np.full((B, T), 7),
               "few ids": rng.integers(0, 3, (B, T))}
        table, dy = rng.standard_normal((CLASSES, WIDTH)), rng.standard_normal((B, T, WIDTH))
        found = {case: (i.astype(np.int32), table, *[dy] * gradient) for case, i in ids.items()}
        for case, x in sizes(f, rng, dy.shape if gradient else table.shape).items():
            i = ids["few ids"].astype(np.int32)
            found[case] = (i, table, x) if gradient else (i, x)
        if gradient:
            found["cancellation"] = (ids["one id"].astype(np.int32), table,
                                     dy + 1e3 * (-1.0) ** np.arange(T)[:, None])
        return found

    return cases


def conv_cases(stride: int, gradient: bool = False) -> Callable[..., dict[str, tuple]]:
    """Cases of x (B, 9, 8, C), kernel (3, 3, C, D)."""
    def cases(f, rng):
        inputs, outputs = CHANNELS[0], CHANNELS[stride - 1]
        x, kernel = rng.standard_normal((B, *IMAGE, inputs)), rng.standard_normal((3, 3, inputs, outputs)) / 8
        found = {case: (x, kernel) for case, x in sizes(f, rng, x.shape).items()}
        found |= {"one sign": (np.abs(x), np.abs(kernel)), "cancellation": (1e3 + x, kernel - kernel.mean((0, 1, 2)))}
        dy = rng.standard_normal((B, *(-(-n // stride) for n in IMAGE), outputs))
        return {case: (*arrays, *[dy] * gradient) for case, arrays in found.items()}

    return cases


def pool_cases(f: "Format", rng: np.random.Generator) -> dict[str, tuple]:
    """Cases of x (B, H, W, C)."""
    x = sizes(f, rng, (B, *PLANE, CHANNELS[0]))
    x["one sign"] = np.abs(x["normal"])
    return {case: (v,) for case, v in x.items()} | {"cancellation": (1e3 * (-1.0) ** np.arange(PLANE[1])[:, None]
                                                                     + x["normal"],)}


def loss_cases(gradient: bool = False) -> Callable[..., dict[str, tuple]]:
    """Cases of logits (B, T, CLASSES), labels, weights: some rows weigh nothing."""
    def cases(f, rng):
        x = rng.standard_normal((B, T, CLASSES))
        labels = rng.integers(0, CLASSES, (B, T)).astype(np.int32)
        weights = rng.integers(0, 2, (B, T)).astype(np.float64)
        right = np.eye(CLASSES)[labels]
        logits = {"normal": 3 * x, "tiny": x / f.large, "equal": np.ones_like(x), "big": 1e4 * x,
                  "far from zero": 1000 + x, "sure and right": 60 * right + x, "sure and wrong": x - 60 * right,
                  "subnormal": rng.uniform(-1, 1, x.shape) * f.tiny}
        return {case: (v, labels, weights, *[np.float64(1)] * gradient) for case, v in logits.items()}

    return cases


def dropout_cases(f: "Format", rng: np.random.Generator) -> dict[str, tuple]:
    """Cases of x (B, T, C), the number of its first row and a key."""
    key, row = np.array([0, 11], np.uint32), np.arange(B, dtype=np.uint32)
    return {case: (x, row, key) for case, x in sizes(f, rng, (B, T, WIDTH)).items()}


def clip_cases(f: "Format", rng: np.random.Generator) -> dict[str, tuple]:
    """Two gradients under, at and far above the limit; `overflow`: the sum of their squares is."""
    kernel, bias = rng.standard_normal((16, 8)), rng.standard_normal(8)
    top = float(np.finfo(np.float64 if f.name == "float64" else np.float32).max)
    found = {"above": 1.0, "below": 1e-3, "large": f.large, "tiny": 1 / f.large, "subnormal": f.tiny / 8,
             "overflow": top / 1e3}
    return {case: (kernel * by, bias * by) for case, by in found.items()}


def optimizer_cases(f: "Format", rng: np.random.Generator) -> dict[str, tuple]:
    """Rows: weight, gradient, first and second moment, average; then the updates done."""
    def tensors(size, moments):
        state = []
        for shape in ((16, 8), (8,)):
            w, g, m, a = rng.standard_normal((4, *shape))
            g, m = g * size, m * size * moments
            state.append(np.stack([w, g, m, m**2 * rng.uniform(1, 3, shape), w + a / 100]))
        return state

    cases = {"first": (1.0, 0, 0), "later": (1e-2, 1, 9), "last": (1e-3, 1, 99), "large": (np.sqrt(f.large), 1, 9),
             "tiny": (1 / np.sqrt(f.large), 1, 9), "zero": (0.0, 0, 0), "subnormal": (f.tiny / 4, 0, 0)}
    found = {case: (*tensors(size, moments), np.int32(done)) for case, (size, moments, done) in cases.items()}
    kernel, bias = (x.copy() for x in found["later"][:2])
    for x in (kernel, bias):  # the moment all but cancels the gradient
        x[1] = -9 * x[2] * (1 + 2.0**-5)
    return found | {"cancellation": (kernel, bias, np.int32(9))}
