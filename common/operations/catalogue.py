"""The operations of our models, and how far rounding alone may carry the result of each.

An error is |found - wanted| / scale in eps of the dtype. Bounds are derived in the same unit, from three parts:

  1/2     a correct rounding: +, -, x, /, a cast
  UNARY   exp, log, tanh, erf, sin, cos, pow, rsqrt: 4, OpenCL's table for most of these (CUDA grants 1 or 2)
  walk(n) a sum of n terms in any order: n roundings of 1/2 at worst, or 7 sqrt(n) of them where rounding errors are
          independent (Higham & Mary 2019, theorem 2.4, with lambda = 7: fails for one sum in 1e7 of the longest here)

bfloat16 computes in float32 and rounds to bfloat16 at the places that `narrow` counts: its bound is narrow + 2^-16 of
the float32 bound. Numbers below the smallest normal one may be flushed to zero: that error is absolute, so no scale is
less than tiny / eps (of float32 under bfloat16), relative to which a flush counts as one eps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinscale.common import registry
from twinscale.common.numbers.formats import EPS, walk
from twinscale.common.operations import references as ref
from twinscale.common.operations import references_training
from twinscale.common.operations.inputs import (
    attention,
    clip_cases,
    conv_cases,
    dropout_cases,
    elementwise,
    embedding_cases,
    loss_cases,
    optimizer_cases,
    pool_cases,
    product,
    rotary_cases,
    rows,
)
from twinscale.common.operations.references import (
    CHANNELS,
    CLASSES,
    HEAD,
    HIDDEN,
    IMAGE,
    PLANE,
    SMOOTHING,
    WIDTH,
    Z_LOSS,
    B,
    T,
)
from twinscale.common.optimizers import OPTIMIZERS

UNARY = 4.0
NARROWING = EPS["float32"] / EPS["bfloat16"]  # eps of float32 over eps of bfloat16


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
    narrow: Any
    why: str

    def bound(self, f: ref.Format) -> float:
        """The bound in eps of a format."""
        return self.narrow + self.wide * NARROWING if f.name == "bfloat16" else self.wide


def catalogue() -> dict[str, Operation]:
    """{name: Operation}, the models' in forward order, then the loss and the optimizers."""
    return {operation.name: operation for operation in [
        *tables(), *norms(), *products(), *positions_and_attention(), *activations(), *tied_heads(), *images(),
        *losses(),
        Operation("clip", clip_cases, references_training.clip, walk(136) / 2 + 2, None,
                  "half of walk(136) for the norm, root, division, product"),
        *(optimizer_operation(name) for name in OPTIMIZERS.builtin if registry.load(OPTIMIZERS, name).reference),
    ]}


def tables() -> list[Operation]:
    """Embeddings, and the dropout after them."""
    dy = True
    return [
        Operation("embedding", embedding_cases(), ref.embedding, 1, 0.5,
                  "a copy: one flush; bfloat16 rounds once"),
        Operation("embedding gradient", embedding_cases(dy), ref.embedding_gradient, walk(B * T), 0,
                  f"walk({B * T}) of each row's sum of |dy|, in the masters' dtype"),
        Operation("dropout", dropout_cases, references_training.dropout, 1.5, 1.5,
                  "1 - rate is rounded, x divided (by its reciprocal: once more), all in the compute dtype"),
    ]


def norms() -> list[Operation]:
    """The decoder's norms; the convnet's is with what images take."""
    layer, x, dy = walk(WIDTH), (B, T, WIDTH), True
    return [
        Operation("layer norm", rows(x, 2), ref.norm(True), 2 * layer + UNARY + 4, 0.5,
                  f"walk({WIDTH}) for the mean, half of it for the deviation, rsqrt, 6 roundings, of |scale| (|z| + "
                  "mean |x| / deviation) + |bias|; bfloat16 rounds once"),
        Operation("layer norm gradient", rows(x, 2, dy), ref.norm_gradient(True), 5 * layer + 2 * UNARY + 10, 0.5,
                  "both means of dx, and z twice, of the sum of its terms; bfloat16 rounds once"),
        Operation("rms norm", rows(x, 1), ref.norm(False), layer + UNARY + 4, 0.5,
                  f"half of walk({WIDTH}) for the mean square, rsqrt, 6 roundings; bfloat16 rounds once"),
        Operation("rms norm gradient", rows(x, 1, dy), ref.norm_gradient(False), 4 * layer + 2 * UNARY + 10, 0.5,
                  "the mean of dx, and z twice, of the sum of its terms; bfloat16 rounds once"),
    ]


def products() -> list[Operation]:
    """Dense layers."""
    dy = True
    return [
        Operation("dense", product(HIDDEN, WIDTH), ref.dense, walk(HIDDEN) + 0.5, 1,
                  f"walk({HIDDEN}) of |x| @ |w|, the bias; bfloat16 rounds the product and the sum"),
        Operation("dense gradient", product(HIDDEN, WIDTH, dy), ref.dense_gradient, walk(max(WIDTH, B * T)), 0.5,
                  f"walk({WIDTH}) of |dy| @ |w|^T, walk({B * T}) of |x|^T @ |dy| and |dy|; bfloat16 rounds once"),
    ]


def positions_and_attention() -> list[Operation]:
    """What queries, keys and values go through."""
    softmax, dy = 2 * UNARY + walk(HEAD) + 1, True
    return [
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
    ]


def activations() -> list[Operation]:
    """Functions of an element, gated ones among them."""
    act = elementwise
    return [
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
    ]


def tied_heads() -> list[Operation]:
    """A head that shares the embedding's table."""
    dy = True
    return [
        Operation("tied head", product(WIDTH, CLASSES, tied=True), ref.tied_head, walk(WIDTH), 0.5,
                  f"walk({WIDTH}) of |x| @ |table|^T; bfloat16 rounds once"),
        Operation("tied head gradient", product(WIDTH, CLASSES, dy, tied=True), ref.tied_head_gradient,
                  walk(max(CLASSES, B * T)), 0.5,
                  f"walk({CLASSES}) of |dy| @ |table|, walk({B * T}) of |dy|^T @ |x|; bfloat16 rounds once"),
    ]


def images() -> list[Operation]:
    """Convolutions, batch norm and pooling."""
    image, channel, plane = 9 * CHANNELS[0], B * IMAGE[0] * IMAGE[1], math.prod(PLANE)
    batch, dy = walk(B * plane), True
    conv_why = f"walk({image}) of |x| * |kernel|; bfloat16 rounds once"
    return [
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


def losses() -> list[Operation]:
    """Cross-entropy, and the gradients of the loss with each of its terms."""
    position = 2 * UNARY + walk(CLASSES) + 4
    listed = [Operation("cross-entropy", loss_cases(), references_training.loss, position + walk(B * T), None,
                         f"exp, log and walk({CLASSES}) of a position's |logits|, walk({B * T}) of their sum")]
    listed += [Operation(name, loss_cases(True), references_training.loss_gradient(*terms), 2 * position, None,
                         f"shares twice, walk({CLASSES}), of share + target; by the weights: each position's loss")
               for name, terms in {"cross-entropy gradient": (0, 0), "label smoothing gradient": (SMOOTHING, 0),
                                   "z-loss gradient": (0, Z_LOSS)}.items()]
    return listed


def optimizer_operation(name: str) -> Operation:
    """The Operation that an optimizer is, by its name or reference."""
    found = registry.load(OPTIMIZERS, name)
    return Operation(name, optimizer_cases, references_training.optimizer(name), found.eps, None,
                     f"{found.why} of |w| + lr |u|, conditions of bias correction in |u|")


OPERATIONS = catalogue()
# What the frameworks would do in the place of ours, judged as the operation that it would take the place of.
STOCK = {f"stock {name}": name for name in ("gelu", "gelu_tanh", "clip", "batch norm", "layer norm", "dense gradient",
                                            "embedding gradient")}
