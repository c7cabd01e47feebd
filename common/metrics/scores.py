"""What the shares of classes are worth: how well they part one class from the rest (ROC-AUC), and how well they say
how often they are right (calibration error). Both are of histograms, whose counts add up, and have their number of bins
in their names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.common.metrics.base import Metric
from twinscale.common.metrics.classes import each, names_of
from twinscale.common.metrics.flips import EXACT, expected, most, near_of

SIDE, REACH = 32, 16.0  # bins are SIDE squared, of log odds from -REACH to REACH
BINS, WIDTH = SIDE**2, 2 * REACH / SIDE**2
CONFIDENCES = 15  # bins of confidence, as Guo et al. (2017) have them
AUC, ERROR = f"roc_auc_{BINS}", f"calibration_error_{CONFIDENCES}"


def like(x: Any, values: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """Numbers in the dtype of a tensor of any framework."""
    return np.asarray(values, str(getattr(x.dtype, "name", x.dtype)))


def log_shares(xp: Any, logits: Any) -> Any:
    """Logarithms of the softmax over the last axis."""
    shifted = xp.subtract(logits, xp.max(logits, axis=-1, keepdims=True))
    return xp.subtract(shifted, xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True)))


# ---- ROC-AUC

def auc_sums(xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """{"of", "rest"} (classes, BINS): weights of the positions that are of a class, and of those that are not, by the
    bin of the log odds of its share; the outer bins have all that is beyond them.

    A bin's number is written with two digits, of base SIDE: the count of a pair of digits is a product of matrices.
    """
    classes = logits.shape[-1]
    logits, weights = xp.reshape(logits, (-1, classes)), xp.reshape(weights, (-1,))
    shares, tiny = log_shares(xp, logits), like(logits, np.finfo(like(logits, 0).dtype).tiny)
    rest = xp.log(xp.maximum(xp.negative(xp.expm1(shares)), tiny))
    place = xp.floor(xp.multiply(xp.add(xp.subtract(shares, rest), like(logits, REACH)), like(logits, 1 / WIDTH)))
    place = xp.minimum(xp.maximum(place, like(logits, 0)), like(logits, BINS - 1))
    high = xp.floor(xp.divide(place, like(logits, SIDE)))
    low = xp.subtract(place, xp.multiply(high, like(logits, SIDE)))
    digits, nothing = like(logits, np.arange(SIDE)), xp.zeros_like(xp.expand_dims(place, -1))
    ones = xp.ones_like(nothing)
    at_high, at_low = (xp.where(xp.equal(xp.expand_dims(digit, -1), digits), ones, nothing) for digit in (high, low))
    own = each(xp, xp.reshape(labels, (-1,)), weights, classes)
    found = {}
    for name, counted in {"of": own, "rest": xp.subtract(xp.expand_dims(weights, -1), own)}.items():
        weighed = xp.multiply(at_high, xp.expand_dims(counted, -1))
        found[name] = xp.reshape(xp.einsum("nch,ncl->chl", weighed, at_low), (classes, BINS))
    return found


def parted(of: np.ndarray, rest: np.ndarray) -> float | None:
    """The area under the ROC of histograms (BINS,): the chance that one of the class has a higher score than one of the
    rest, half of it where both are in one bin. None where either is empty."""
    if not of.sum() or not rest.sum():
        return None
    below = np.concatenate([[0.0], np.cumsum(rest)[:-1]])
    return float(of @ (below + rest / 2) / (of.sum() * rest.sum()))


def tables(sums: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The histograms (classes, BINS) of positions of a class and of the rest."""
    return sums["of"].reshape(-1, BINS), sums["rest"].reshape(-1, BINS)


def auc(sums: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """{AUC: of two classes that of the second, of more the mean over those that some positions are of and some are not;
    and of more than two each, AUC/CLASS}. 0.5, nothing known, where there is none."""
    of, rest = tables(sums)
    each_one = [parted(*pair) for pair in zip(of, rest, strict=True)]
    known = [x for x in each_one if x is not None]
    if len(each_one) == 2:
        return {AUC: 0.5 if each_one[1] is None else each_one[1]}
    called = names_of(len(each_one), names)
    return {AUC: float(np.mean(known)) if known else 0.5} | {
        f"{AUC}/{name}": 0.5 if x is None else x for name, x in zip(called, each_one, strict=True)}


def auc_bound(sums: Mapping[str, Any], loss: float, names: Sequence[str]) -> dict[str, float]:
    """How far `auc` may move: where scores differ by sqrt(N) loss each, as many change their bin as are that near to
    one's border, and one that moves to the next bin changes places with half of what is in both of the other side."""
    of, rest = tables(sums)
    crossing = most(expected(sums["weight"], sums["weight"], loss, WIDTH))

    def one(of, rest):
        pairs = of.sum() * rest.sum()
        largest = max(float((x[1:] + x[:-1]).max()) / 2 for x in (of, rest))
        return min(1.0, crossing * largest / pairs) + EXACT if pairs else EXACT

    bounds = [one(*pair) for pair in zip(of, rest, strict=True)]
    return dict.fromkeys(auc(sums, names), max(bounds))


# ---- calibration error

def calibration_sums(xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """{"correct", "confidence", "count"} (CONFIDENCES,): weights of hits, of the share of what is predicted, and of all
    positions, by the bin of that share, and "near", a scalar."""
    best = xp.argmax(logits, axis=-1)
    share = xp.exp(xp.max(log_shares(xp, logits), axis=-1))
    place = xp.subtract(xp.ceil(xp.multiply(share, like(share, CONFIDENCES))), like(share, 1))
    place = xp.minimum(xp.maximum(place, like(share, 0)), like(share, CONFIDENCES - 1))
    inside = xp.equal(xp.expand_dims(place, -1), like(share, np.arange(CONFIDENCES)))
    axes = tuple(range(len(labels.shape)))

    def binned(x):
        x = xp.expand_dims(x, -1)
        return xp.sum(xp.where(inside, x, xp.zeros_like(x)), axis=axes)

    hits = xp.where(xp.equal(best, labels), weights, xp.zeros_like(weights))
    return {"correct": binned(hits), "confidence": binned(xp.multiply(weights, share)),
            "count": binned(weights), "near": near_of(xp, logits, weights)}


def calibration(sums: Mapping[str, Any]) -> dict[str, float]:
    """{ERROR: the mean over positions of the distance, in their bin, of the share of hits from the mean confidence}."""
    return {ERROR: float(np.abs(sums["correct"] - sums["confidence"]).sum() / sums["weight"])}


def calibration_bound(sums: Mapping[str, Any], loss: float) -> dict[str, float]:
    """How far `calibration` may move: a log odds that moves by d = sqrt(N) loss moves a share by d / 4 at most, and
    so CONFIDENCES d / 4 of all cross into another bin, where both bins' sums move by 1; and hits flip, by 1 each."""
    weight, moved = sums["weight"], math.sqrt(sums["weight"]) * loss / 4
    crossing = most(min(weight, weight * CONFIDENCES * moved) + expected(sums["near"], weight, loss))
    return {ERROR: min(1.0, moved + 2 * crossing / max(weight, 1.0)) + EXACT}


ROC_AUC = Metric("roc-auc-1024", auc_sums, auc, auc_bound, named=True, classes=True, apart=True,
                 better={f"{AUC}*": "higher"})
CALIBRATION = Metric("calibration-15", calibration_sums, calibration, calibration_bound, classes=True, apart=True,
                     better={ERROR: "lower"})
