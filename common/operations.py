"""The operations of our models: inputs that try them, and how far rounding alone may carry a result.

A room's `operations(dtype)` runs the very layers and functions that its models and its trainer use; `operation_rows`
feeds them, and compares what comes back with `common/references.py`. Where longdouble is no wider than float64, float64
goes unjudged.

An error is |found - wanted| / scale in eps of the dtype. Bounds are derived in the same unit, from three parts:

  1/2     a correct rounding: +, -, x, /, a cast
  UNARY   exp, log, tanh, erf, sin, cos, pow, rsqrt: 4, OpenCL's table for most of these (CUDA grants 1 or 2)
  walk(n) a sum of n terms in any order: n roundings of 1/2 at worst, or 7 sqrt(n) of them where rounding errors are
          independent (Higham & Mary 2019, theorem 2.4, with lambda = 7: fails for one sum in 1e7 of the longest here)

bfloat16 computes in float32 and rounds to bfloat16 at the places that `narrow` counts: its bound is narrow + 2^-16 of
the float32 bound. Numbers below the smallest normal one may be flushed to zero: that error is absolute, so no scale is
less than tiny / eps (of float32 under bfloat16), relative to which a flush counts as one eps.
"""

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NotRequired

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from twinscale.common import references as ref
from twinscale.common import registry
from twinscale.common.files import read_toml
from twinscale.common.formats import EPS, walk
from twinscale.common.kinds import STRICT, Backend
from twinscale.common.optimizers import OPTIMIZERS
from twinscale.common.parameters import stream
from twinscale.common.references import (
    CHANNELS,
    CLASSES,
    DTYPES,
    ELEMENTS,
    FORMATS,
    HEAD,
    HEADS,
    HIDDEN,
    IMAGE,
    KV,
    PLANE,
    SMOOTHING,
    WIDTH,
    Z_LOSS,
    B,
    T,
    Wide,
)

UNARY = 4.0
NARROWING = EPS["float32"] / EPS["bfloat16"]  # eps of float32 over eps of bfloat16
KNOWN = Path(__file__).with_name("known_deviations.toml")


@dataclass(frozen=True)
class Operation:
    """An operation of the catalogue.

    `cases(f, rng)`: {case: tuple of arrays}, before rounding to the Format `f`. `reference(f, *arrays)`: a list of
    (wanted, scale), one for each output. `wide`: the bound in eps; `narrow`: the roundings to bfloat16 in eps of that,
    None where the operation runs on masters alone. `why`: where the bound comes from.
    """

    name: str
    cases: Callable
    reference: Callable
    wide: float
    narrow: float | None
    why: str

    def bound(self, f):
        """The bound in eps of a format."""
        return self.narrow + self.wide * NARROWING if f.name == "bfloat16" else self.wide


# ---- inputs

def rounded(x, f):
    """An array in values of a format: float64, or float32 that holds bfloat16's values; integers as they are."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    x = x.astype(np.float64 if f.name == "float64" else np.float32)
    if f.name != "bfloat16":
        return x
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) & np.uint32(0xFFFF0000)).view(np.float32)


def sizes(f, rng, shape):
    """{case: array}: random signs of every size from the largest tried to subnormal."""
    normal = rng.standard_normal
    return {"normal": normal(shape), "large": normal(shape) * f.large, "tiny": normal(shape) / f.large,
            "subnormal": rng.uniform(-1, 1, shape) * f.tiny,
            "all sizes": normal(shape) * 10.0 ** rng.uniform(-12, 12, shape)}


def elementwise(others=(), shape=ELEMENTS):
    """Cases of a function of x, where it bends and where it is flat, and `others` normal arrays of the same shape."""
    def cases(f, rng):
        found = sizes(f, rng, shape) | {"bend": np.linspace(-12, 12, math.prod(shape)).reshape(shape),
                                        "zero": rng.choice([0.0, -0.0, f.tiny, -f.tiny, 1.0, -1.0], shape)}
        return {case: (x, *(rng.standard_normal(shape) for _ in others)) for case, x in found.items()}

    return cases


def product(inputs, outputs, gradient=False, tied=False):
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


def attention(what, gradient=False):
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


def rows(shape, tensors, gradient=False):
    """Cases of a norm of x: sizes, a mean that drowns the deviations, constant rows; then scale (and bias, and for
    batch norm the running mean and variance)."""
    def cases(f, rng):
        normal, width = rng.standard_normal, shape[-1]
        found = sizes(f, rng, shape) | {"cancellation": 1000 + normal(shape), "constant": np.full(shape, 3.0),
                                        "one outlier": np.where(np.arange(width) == 1, 1e4, 1.0) * normal(shape)}
        others = [1 + 0.1 * normal(width), normal(width), normal(width), rng.uniform(0.5, 2, width)][:tensors]
        return {case: (x, *others, *[normal(shape)] * gradient) for case, x in found.items()}

    return cases


def rotary_cases(f, rng):
    x = sizes(f, rng, (B, T, HEADS, HEAD))
    positions = np.stack([rng.permutation(T) for _ in range(B)]).astype(np.int32)
    return {case: (values, positions) for case, values in x.items()}


def embedding_cases(gradient=False):
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


def conv_cases(stride, gradient=False):
    """Cases of x (B, 9, 8, C), kernel (3, 3, C, D)."""
    def cases(f, rng):
        inputs, outputs = CHANNELS[0], CHANNELS[stride - 1]
        x, kernel = rng.standard_normal((B, *IMAGE, inputs)), rng.standard_normal((3, 3, inputs, outputs)) / 8
        found = {case: (x, kernel) for case, x in sizes(f, rng, x.shape).items()}
        found |= {"one sign": (np.abs(x), np.abs(kernel)), "cancellation": (1e3 + x, kernel - kernel.mean((0, 1, 2)))}
        dy = rng.standard_normal((B, *(-(-n // stride) for n in IMAGE), outputs))
        return {case: (*arrays, *[dy] * gradient) for case, arrays in found.items()}

    return cases


def pool_cases(f, rng):
    x = sizes(f, rng, (B, *PLANE, CHANNELS[0]))
    x["one sign"] = np.abs(x["normal"])
    return {case: (v,) for case, v in x.items()} | {"cancellation": (1e3 * (-1.0) ** np.arange(PLANE[1])[:, None]
                                                                     + x["normal"],)}


def loss_cases(gradient=False):
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


def dropout_cases(f, rng):
    key, row = np.array([0, 11], np.uint32), np.arange(B, dtype=np.uint32)
    return {case: (x, row, key) for case, x in sizes(f, rng, (B, T, WIDTH)).items()}


def clip_cases(f, rng):
    """Two gradients under, at and far above the limit; `overflow`: the sum of their squares is."""
    kernel, bias = rng.standard_normal((16, 8)), rng.standard_normal(8)
    top = float(np.finfo(np.float64 if f.name == "float64" else np.float32).max)
    found = {"above": 1.0, "below": 1e-3, "large": f.large, "tiny": 1 / f.large, "subnormal": f.tiny / 8,
             "overflow": top / 1e3}
    return {case: (kernel * by, bias * by) for case, by in found.items()}


def optimizer_cases(f, rng):
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


# ---- the catalogue

def catalogue():
    """{name: Operation}, the models' in forward order, then the loss and the optimizers."""
    softmax = 2 * UNARY + walk(HEAD) + 1
    image, channel, plane = 9 * CHANNELS[0], B * IMAGE[0] * IMAGE[1], math.prod(PLANE)
    layer, batch = walk(WIDTH), walk(B * plane)
    x, dy, act = (B, T, WIDTH), True, elementwise
    conv_why = f"walk({image}) of |x| * |kernel|; bfloat16 rounds once"
    listed = [
        Operation("embedding", embedding_cases(), ref.embedding, 1, 0.5,
                  "a copy: one flush; bfloat16 rounds once"),
        Operation("embedding gradient", embedding_cases(dy), ref.embedding_gradient, walk(B * T), 0,
                  f"walk({B * T}) of each row's sum of |dy|, in the masters' dtype"),
        Operation("dropout", dropout_cases, ref.dropout, 1.5, 1.5,
                  "1 - rate is rounded, x divided (by its reciprocal: once more), all in the compute dtype"),
        Operation("layer norm", rows(x, 2), ref.norm(True), 2 * layer + UNARY + 4, 0.5,
                  f"walk({WIDTH}) for the mean, half of it for the deviation, rsqrt, 6 roundings, of |scale| (|z| + "
                  "mean |x| / deviation) + |bias|; bfloat16 rounds once"),
        Operation("layer norm gradient", rows(x, 2, dy), ref.norm_gradient(True), 5 * layer + 2 * UNARY + 10, 0.5,
                  "both means of dx, and z twice, of the sum of its terms; bfloat16 rounds once"),
        Operation("rms norm", rows(x, 1), ref.norm(False), layer + UNARY + 4, 0.5,
                  f"half of walk({WIDTH}) for the mean square, rsqrt, 6 roundings; bfloat16 rounds once"),
        Operation("rms norm gradient", rows(x, 1, dy), ref.norm_gradient(False), 4 * layer + 2 * UNARY + 10, 0.5,
                  "the mean of dx, and z twice, of the sum of its terms; bfloat16 rounds once"),
        Operation("dense", product(HIDDEN, WIDTH), ref.dense, walk(HIDDEN) + 0.5, 1,
                  f"walk({HIDDEN}) of |x| @ |w|, the bias; bfloat16 rounds the product and the sum"),
        Operation("dense gradient", product(HIDDEN, WIDTH, dy), ref.dense_gradient, walk(max(WIDTH, B * T)), 0.5,
                  f"walk({WIDTH}) of |dy| @ |w|^T, walk({B * T}) of |x|^T @ |dy| and |dy|; bfloat16 rounds once"),
        Operation("rotary", rotary_cases, ref.rotary, 3.5, 0.5,
                  "cos or sin, the product, the sum; a float64 angle 2 eps of itself; bfloat16 rounds once"),
        Operation("attention scores", attention("scores"), ref.attend(False), walk(HEAD) + softmax + 1, 1.5,
                  f"seen through the shares: walk({HEAD}) of |q| |k| and the softmax; bfloat16 rounds scores, shares, "
                  "output"),
        Operation("softmax", attention("softmax"), ref.attend(True), softmax, 1,
                  f"exp above and below, walk({HEAD}) of the sum, the division; bfloat16 rounds shares and output"),
        Operation("softmax gradient", attention("softmax", dy), ref.attend_gradient,
                  2 * softmax + 2 * walk(HEAD) + 2, 1.5,
                  f"the shares twice, walk({HEAD}) of their sum with dp, of p (|dp| + sum p |dp|); for v walk({HEAD}) "
                  "of p^T |dy|; bfloat16 rounds shares, ds and the result"),
        Operation("attention mix", attention("mix"), ref.attend(True), softmax + walk(HEAD), 1,
                  f"the shares and walk({HEAD}) of shares @ |v|; bfloat16 rounds shares and output"),
        Operation("gelu", act(), ref.gelu, UNARY + 2, 0.5, "erf, its argument and two products, of |x|"),
        Operation("gelu gradient", act(["dy"]), ref.gelu_gradient, 2 * UNARY + 4, 1,
                  "erf, exp, of |dy| (1 + |x| density (1 + x^2))"),
        Operation("gelu_tanh", act(), ref.gelu_tanh, UNARY + 3, 0.5, "tanh, its argument and two products, of |x|"),
        Operation("gelu_tanh gradient", act(["dy"]), ref.gelu_tanh_gradient, 2 * UNARY + 6, 1,
                  "tanh twice, of |dy| (1 + |x| slope)"),
        Operation("swiglu", act(["up"]), ref.swiglu, UNARY + 2, 1,
                  "exp and 4 roundings, of |gate| |up|; bfloat16 rounds silu and the product"),
        Operation("swiglu gradient", act(["up", "dy"]), ref.swiglu_gradient, 2 * UNARY + 4, 1.5,
                  "exp twice, of |dy| |up| (1 + |gate|) and |dy| |gate|; bfloat16 rounds silu, dy up, the result"),
        Operation("relu", act(), ref.relu, 1, 0.5, "exact but for one flush"),
        Operation("relu gradient", act(["dy"]), ref.relu_gradient, 1, 0.5, "exact but for one flush"),
        Operation("tied head", product(WIDTH, CLASSES, tied=True), ref.tied_head, walk(WIDTH), 0.5,
                  f"walk({WIDTH}) of |x| @ |table|^T; bfloat16 rounds once"),
        Operation("tied head gradient", product(WIDTH, CLASSES, dy, tied=True), ref.tied_head_gradient,
                  walk(max(CLASSES, B * T)), 0.5,
                  f"walk({CLASSES}) of |dy| @ |table|, walk({B * T}) of |dy|^T @ |x|; bfloat16 rounds once"),
        Operation("conv stride 1", conv_cases(1), ref.conv(1), walk(image), 0.5, conv_why),
        Operation("conv stride 2", conv_cases(2), ref.conv(2), walk(image), 0.5, conv_why),
        Operation("conv gradient", conv_cases(2, dy), ref.conv_gradient(2), walk(channel), 0.5,
                  f"walk({channel}) positions of |x| |dy|, fewer for x; bfloat16 rounds once"),
        Operation("batch norm", rows((B, *PLANE, CHANNELS[0]), 4), ref.norm(True, (0, 1, 2)),
                  2 * batch + UNARY + 4, 0.5,
                  f"as layer norm with walk({B * plane}); running statistics in the masters' dtype"),
        Operation("batch norm gradient", rows((B, *PLANE, CHANNELS[0]), 4, dy), ref.norm_gradient(True, (0, 1, 2)),
                  5 * batch + 2 * UNARY + 10, 0.5, "as the layer norm gradient"),
        Operation("pool", pool_cases, ref.pool, walk(plane) + 0.5, 0.5,
                  f"walk({plane}) of mean |x|, the division; bfloat16 rounds once"),
    ]
    position = 2 * UNARY + walk(CLASSES) + 4
    listed += [Operation("cross-entropy", loss_cases(), ref.loss, position + walk(B * T), None,
                         f"exp, log and walk({CLASSES}) of a position's |logits|, walk({B * T}) of their sum")]
    listed += [Operation(name, loss_cases(dy), ref.loss_gradient(*terms), 2 * position, None,
                         f"shares twice, walk({CLASSES}), of share + target; by the weights: each position's loss")
               for name, terms in {"cross-entropy gradient": (0, 0), "label smoothing gradient": (SMOOTHING, 0),
                                   "z-loss gradient": (0, Z_LOSS)}.items()]
    return {operation.name: operation for operation in [
        *listed,
        Operation("clip", clip_cases, ref.clip, walk(136) / 2 + 2, None,
                  "half of walk(136) for the norm, root, division, product"),
        *map(optimizer_operation, OPTIMIZERS.builtin),
    ]}


def optimizer_operation(name):
    """The Operation that an optimizer is, by its name or reference."""
    found = registry.load(OPTIMIZERS, name)
    return Operation(name, optimizer_cases, ref.optimizer(name), found.eps, None,
                     f"{found.why} of |w| + lr |u|, conditions of bias correction in |u|")


OPERATIONS = catalogue()
# What the frameworks would do in the place of ours, judged as the operation that it would take the place of.
STOCK = {f"stock {name}": name for name in ("gelu", "gelu_tanh", "clip", "batch norm", "layer norm", "dense gradient",
                                            "embedding gradient")}


# ---- the verdict

def expected(dtype, added=()):
    """Names of the operations that a room must offer in a dtype, and those of optimizers that a recipe has `added`."""
    return [name for name in (*OPERATIONS, *added) if dtype != "bfloat16" or operation_of(name).narrow is not None]


def operation_of(name):
    """The Operation that a name is judged as: one of ours, or an optimizer that a recipe has added."""
    name = STOCK.get(name, name)
    return OPERATIONS[name] if name in OPERATIONS else optimizer_operation(name)


@functools.cache
def inputs_of(name, dtype):
    """{case: tuple of arrays} of an operation, in values of a dtype; the same in every process."""
    operation, f = operation_of(name), FORMATS[dtype]
    with np.errstate(over="ignore", under="ignore"):
        return {case: tuple(rounded(x, f) for x in arrays)
                for case, arrays in operation.cases(f, stream(0, "operations", registry.short(name))).items()}


def wanted_of(name, dtype, arrays):
    """The reference's [(wanted, scale)] for an operation's inputs."""
    with np.errstate(all="ignore"):
        wide = [x.astype(Wide) if x.dtype.kind == "f" else x for x in arrays]
        return operation_of(name).reference(FORMATS[dtype], *wide)


@functools.cache
def all_wanted(name, dtype):
    """{case: what is wanted}: computed once for all ways to compile."""
    return {case: wanted_of(name, dtype, arrays) for case, arrays in inputs_of(name, dtype).items()}


def error_of(wanted, found, dtype):
    """The largest error of an operation's outputs, in eps of the dtype relative to their scales; infinite for a shape,
    a number of outputs or a NaN that is not the reference's."""
    f, worst = FORMATS[dtype], 0.0
    if [np.shape(value) for value, _ in wanted] != [np.shape(x) for x in found]:
        return math.inf
    with np.errstate(all="ignore"):
        for (value, scale), x in zip(wanted, found, strict=True):
            error = np.abs(np.asarray(x, Wide) - value) / (f.eps * f.size(scale))
            error = np.where(x == value, 0, np.where(np.isfinite(error), error, np.inf))
            worst = max(worst, float(error.max()))
    return worst


def operation_rows(backend, operations, dtypes=DTYPES, how="compiled", device="cpu"):
    """A backend's operations against their references.

    Args:
      backend: "keras" | "jax". operations: a function of a dtype to {name: function of NumPy arrays to a list of them}.
      dtypes: of DTYPES. how: how they are compiled. device: "cpu" | "gpu" | "tpu".
    Returns: one dict for each operation, dtype and case, of JSON's types: operation, backend, dtype, device, how, case,
      error and bound in eps, bound_from, agrees (within the bound), stock, and known: the reason of the listed
      deviation that excuses a row, or None. An error that is no number is the largest float.
    """
    deviations, found = known_deviations(), []
    for dtype in dtypes:
        if np.finfo(Wide).eps > FORMATS[dtype].eps / 256:
            continue
        for name, function in operations(dtype).items():
            operation = operation_of(name)
            wanted, bound = all_wanted(operation.name, dtype), operation.bound(FORMATS[dtype])
            for case, arrays in inputs_of(operation.name, dtype).items():
                error = min(error_of(wanted[case], function(*arrays), dtype), sys.float_info.max)
                row = {"operation": registry.short(name), "backend": backend, "dtype": dtype, "device": device,
                       "how": how, "case": case, "error": float(error), "bound": float(bound),
                       "bound_from": operation.why, "agrees": bool(error <= bound), "stock": name in STOCK}
                found.append(row | {"known": next((d["reason"] for d in deviations if excuses(d, row)), None)})
    return found


class Deviation(TypedDict):
    """Of KNOWN."""

    __pydantic_config__ = STRICT

    operation: str
    backend: Backend
    dtype: str
    device: str
    how: NotRequired[list[str]]
    cases: list[str]
    seen: Annotated[float, Field(gt=0, allow_inf_nan=True)]  # infinite where a backend is not finite
    reason: str
    link: str


class Known(TypedDict):
    """KNOWN."""

    __pydantic_config__ = STRICT

    deviation: list[Deviation]


@functools.cache
def known_deviations():
    """The listed deviations: [{operation, backend, dtype, device, cases, seen (eps), reason, link}], in some `how`."""
    return read_toml(KNOWN, Known)["deviation"]


def concerns(deviation, row):
    """Whether a row is of the operation, backend, dtype, device and cases of a listed deviation."""
    same = all(deviation[key] == row[key] for key in ("operation", "backend", "dtype", "device"))
    return same and row["case"] in deviation["cases"] and row["how"] in deviation.get("how", [row["how"]])


def excuses(deviation, row):
    """Whether a row is above its bound as a listed deviation says it is: by no more than twice what was seen."""
    return not row["agrees"] and concerns(deviation, row) and row["error"] <= 2 * deviation["seen"]


def stale_deviations(rows):
    """The listed deviations that rows were measured for but none shows any more."""
    return [d for d in known_deviations() if any(concerns(d, row) for row in rows)
            and not any(excuses(d, row) for row in rows)]
