"""How far rounding alone may carry what one place of a model makes of given numbers, forward and backward.

A place is fed with numbers that its precision has exactly, and what it makes of them is held beside what float64 makes
of the same. As in `common/operations/catalogue.py`, whose bounds these are, an error is counted in eps of the
precision: `wide` eps of what computes (float32 under bfloat16), and under bfloat16 `narrow` more, a half for each
rounding to it.

Two things are asked. No value is further off than its bound. And where bfloat16 is rounded to once, at the end, nearly
all values are the nearest ones: a second rounding on the way leaves a third of them beside it, though none far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscale.common.errors import one_of
from twinscale.common.numbers.formats import MASTERS, walk
from twinscale.common.operations.catalogue import UNARY
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.references import FORMATS

CENTRED = ("layer", "batch", "")  # norms that take a mean off; "": any
SMOOTH = ("gelu", "gelu_tanh", "swiglu", "tanh", "")  # activations that have a derivative everywhere; "": any
RARE = 7.0  # standard deviations of a count that is no accident


@dataclass(frozen=True)
class Bound:
    """Of one operation: `wide` and `narrow` as above, and what `wide` is relative to.

    `of`: "largest", the largest value of the tensor, or `least` if that is more, "value", each value itself, "share",
    each share and its logarithm, or "input", each value and what it was made of.
    """

    wide: float
    narrow: float
    of: str = "largest"
    least: float = 0.0  # size of what was summed, where the sum may cancel


def forward_bound(operation: str, terms: int, kind: str = "") -> Bound:
    """The Bound of what an operation gives; `terms` is the length of its sum, `kind` what the recipe calls a norm, an
    activation or ("biased") a product with a bias. Raises BadInput for a norm or an activation of another name."""
    centred = Bound(2 * walk(terms) + UNARY + 4, 0.5)
    kinds = {"norm": {"rms": Bound(walk(terms) + UNARY + 4, 0.5, "value"), **dict.fromkeys(CENTRED, centred)},
             "activation": {"relu": Bound(1, 0.5, "value")} | dict.fromkeys(SMOOTH, Bound(UNARY + 3, 0.5, "input"))}
    if operation in kinds:
        return one_of(kinds[operation], kind, operation)
    return {
        "embedding": Bound(1, 0.5, "value"), "sum": Bound(0.5, 0.5), "residual": Bound(0.5, 0.5),
        "gate": Bound(0.5, 0.5, "value"), "bias": Bound(0.5, 0.5),
        "linear": Bound(walk(terms) + 0.5, 1.0 if kind == "biased" else 0.5),
        "convolution": Bound(walk(terms), 0.5),
        "rotary positions": Bound(3.5, 0.5),
        "attention scores": Bound(walk(terms) + 1, 0.5),
        "attention mask": Bound(1, 0.0, "value"),
        "softmax": Bound(2 * UNARY + walk(terms) + 1, 0.0, "share"),
        "attention mix": Bound(walk(terms), 1.0),
        "random bits": Bound(1.5, 1.5, "value"),
        "pooling": Bound(walk(terms) + 0.5, 0.5), "max pooling": Bound(1, 0.5, "value"),
    }[operation]


def backward_bound(operation: str, terms: int, kind: str = "") -> Bound:
    """The Bound of the cotangent that an operation hands on to one of its inputs, and of the gradients of what it
    holds; `terms` is the length of the sum."""
    if operation == "activation":
        return one_of({"relu": Bound(1, 0.5, "value")} | dict.fromkeys(SMOOTH, Bound(2 * UNARY + 6, 1.0)), kind,
                      operation)
    return {
        "embedding": Bound(walk(terms), 0.5), "sum": Bound(0.5, 0.5), "residual": Bound(0.5, 0.5),
        "gate": Bound(1, 0.5), "bias": Bound(walk(terms) + 0.5, 0.5),
        "norm": Bound(5 * walk(terms) + 2 * UNARY + 10, 1.5),  # by x itself and by its statistics, and their sum
        "linear": Bound(walk(terms) + 0.5, 0.5), "convolution": Bound(walk(terms), 0.5),
        "rotary positions": Bound(3.5, 0.5),
        "attention scores": Bound(walk(terms) + 1, 1.0),
        "attention mask": Bound(1, 0.0),
        "softmax": Bound(2 * (2 * UNARY + walk(terms) + 1) + 2 * walk(terms) + 2, 0.0),
        "attention mix": Bound(walk(terms), 1.0),
        "random bits": Bound(1.5, 1.5), "pooling": Bound(2, 1.0),
        "max pooling": Bound(1.5, 1.5),  # a value may be the largest of four windows
        "loss": Bound(2 * (2 * UNARY + walk(terms) + 4), 0.5),
    }[operation]


def together(bounds: Sequence[Bound]) -> Bound:
    """The Bound of the sum of several contributions, each with its own: one rounding more for each addition, and as
    contributions may cancel in part, no more than half of them is taken to be left."""
    if len(bounds) == 1:
        return bounds[0]
    adding = 0.5 * (len(bounds) - 1)
    return Bound(2 * (sum(b.wide for b in bounds) + adding), 2 * (sum(b.narrow for b in bounds) + adding),
                 least=max(b.least for b in bounds))


def scores_size(arriving_BxKxGxTxS: np.ndarray, q_BxTxE: np.ndarray, k_BxSxF: np.ndarray, by: int) -> float:
    """The size of what scores' cotangents add up to that of queries (`by` 0) or of keys (1), each rounded to bfloat16
    before it is a term: the sum of the terms' magnitudes, or if that is less what as many independent roundings come
    to, RARE standard deviations of a uniform one, the largest of the tensor.

    Rounding moves a term by at most its half ulp, evenly: a sub-Gaussian of a third of that squared, and variances
    add up (Boucheron, Lugosi and Massart, Concentration Inequalities, 2013, section 2.3).
    """
    b, k, g, t, s = arriving_BxKxGxTxS.shape
    d = q_BxTxE.size // (b * k * g * t)
    q, keys = np.reshape(q_BxTxE, (b, t, k, g, d)), np.reshape(k_BxSxF, (b, s, k, d))
    other, way = ((keys, "bkgts,bskd->btkgd"), (q, "bkgts,btkgd->bskd"))[by]
    x, y = np.abs(arriving_BxKxGxTxS), np.abs(np.asarray(other, np.float64))
    sums, squares = (np.einsum(way, x**power, y**power, optimize=True) for power in (1, 2))
    return float(np.minimum(sums, RARE / math.sqrt(3) * np.sqrt(squares)).max(initial=0)) / math.sqrt(d)


def error(found: np.ndarray, wanted: np.ndarray, bound: Bound, precision: str, source: Any = None, more: Any = 0.0
          ) -> tuple[float, float]:
    """(worst, bound) in eps of the precision: the error of the value that is nearest to its own bound, or furthest
    above it. Infinite where a shape differs or a value is not finite.

    Args:
      found, wanted: arrays of one shape, the first as the precision has it, the second in float64.
      bound: the Bound. precision: of the recipe. source: the input, where the bound is of that.
      more: what each value may be off besides, in its own unit, before it is rounded.
    """
    eps, computed = FORMATS[precision].eps, FORMATS[MASTERS[precision]].eps
    nominal = bound.wide * computed / eps + bound.narrow * (precision == "bfloat16")
    found, wanted = np.atleast_1d(found), np.atleast_1d(wanted)  # a scalar comes out of a file as one value
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return math.inf, nominal
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    allowed = bound.wide * computed * scale(wanted, bound, source) + FORMATS[precision].tiny + more
    if precision == "bfloat16" and bound.narrow:
        # More than one rounding: the first ones are of what is summed, which may be larger than the sum.
        once = bound.narrow == 0.5 and not bound.least
        size = np.abs(wanted) if once else np.full(wanted.shape, np.abs(wanted).max(initial=bound.least))
        allowed = allowed + bound.narrow * eps * (size + more)
    return float((np.abs(found - wanted) / allowed).max(initial=0)) * nominal, nominal


def scale(wanted: np.ndarray, bound: Bound, source: Any) -> np.ndarray:
    """What the `wide` part of a bound is relative to, value by value."""
    size = np.abs(wanted)
    if bound.of == "share":  # exp's condition is its argument, the logarithm of the share
        return size * (1 + np.log(wanted.shape[-1]) - np.log(np.maximum(size, 1e-300)))
    if bound.of == "input":
        return size + np.abs(np.asarray(source, np.float64))
    return size if bound.of == "value" else np.full(wanted.shape, size.max(initial=bound.least))


def beside(found: np.ndarray, wanted: np.ndarray, bound: Bound, source: Any = None) -> tuple[float, float]:
    """(share, bound): the share of bfloat16 values that are not the nearest to float64's, and how large it may be.

    A value that was computed with an error of e and rounded once is not the nearest where a tie of the rounding lies
    within e: that is a share of 2 e / ulp of values, whose ulp is 2^-7 of their size at most and half that at least.
    """
    wanted = np.asarray(wanted, np.float64)
    wrong = np.mean(np.asarray(found, np.float64) != rounded(wanted, FORMATS["bfloat16"]))
    computed = bound.wide * FORMATS["float32"].eps * scale(wanted, bound, source)
    ulp = FORMATS["bfloat16"].eps / 2 * np.maximum(np.abs(wanted), FORMATS["bfloat16"].tiny)
    expected = np.minimum(1, 2 * computed / ulp).mean()
    return float(wrong), float(expected + RARE * np.sqrt(max(expected, 1 / wanted.size) / wanted.size))
