"""What predicted classes are made of: precision, recall and F1 of each, the confusion matrix, and hits among the first
k. They are those of scikit-learn, with 0 for what is divided by nothing, and all classes of the data in each mean."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from twinscale.common.metrics.base import Metric
from twinscale.common.metrics.flips import EXACT, NEAR, expected, most, near_of, shares, shares_bounds

CELLS = 32  # classes up to which each cell of a confusion matrix is a value of its own
PARTS = ("precision", "recall", "f1")


def each(xp: Any, chosen: Any, weights: Any, classes: int) -> Any:
    """The weights (..., classes) of positions, each at the class that is chosen there, 0 at the others."""
    at = xp.equal(xp.expand_dims(chosen, -1), xp.arange(classes))
    weights = xp.expand_dims(weights, -1)
    return xp.where(at, weights, xp.zeros_like(weights))


def per_class(xp: Any, x: Any) -> Any:
    """The sums over all positions, (classes,), of values (..., classes)."""
    return xp.sum(x, axis=tuple(range(len(x.shape) - 1)))


# ---- classification report

def report_sums(xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """{"right", "predicted", "labelled"} (classes,): weights of positions by their class, and "near", a scalar."""
    best, classes = xp.argmax(logits, axis=-1), logits.shape[-1]
    hits = xp.where(xp.equal(best, labels), weights, xp.zeros_like(weights))
    return {"right": per_class(xp, each(xp, best, hits, classes)),
            "predicted": per_class(xp, each(xp, best, weights, classes)),
            "labelled": per_class(xp, each(xp, labels, weights, classes)), "near": near_of(xp, logits, weights)}


def names_of(count: int, names: Sequence[str]) -> list[str]:
    """The names of `count` classes, by their numbers where they have none."""
    return list(names) if len(names) == count else [str(i) for i in range(count)]


def report(sums: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """{"precision/CLASS", "recall/CLASS", "f1/CLASS", and each with _micro, _macro and _weighted: from 0 to 1}."""
    right, predicted, labelled = (sums[key] for key in ("right", "predicted", "labelled"))
    found, called = {}, names_of(len(right), names)
    totals = shares(right.sum(), predicted.sum(), labelled.sum())
    for part, values, whole in zip(PARTS, shares(right, predicted, labelled), totals, strict=True):
        found |= {f"{part}/{name}": float(x) for name, x in zip(called, values, strict=True)}
        found |= {f"{part}_micro": float(whole), f"{part}_macro": float(values.mean()),
                  f"{part}_weighted": float(values @ labelled / max(labelled.sum(), 1e-300))}
    return found


def report_bound(sums: Mapping[str, Any], loss: float, names: Sequence[str]) -> dict[str, float]:
    """How far the values of `report` may move by what may flip: a flip takes a position out of one class's and puts it
    into another's."""
    moved = most(expected(sums["near"], sums["weight"], loss))
    predicted, labelled = sums["predicted"], sums["labelled"]
    found, called = {}, names_of(len(predicted), names)
    micro = min(1.0, moved / max(labelled.sum(), 1e-300)) + EXACT
    for part, values in zip(PARTS, shares_bounds(predicted, labelled, moved), strict=True):
        found |= {f"{part}/{name}": float(x) for name, x in zip(called, values, strict=True)}
        found |= {f"{part}_micro": micro, f"{part}_macro": float(values.mean()),
                  f"{part}_weighted": float(values @ labelled / max(labelled.sum(), 1e-300)) + EXACT}
    return found


# ---- confusion matrix

def confusion_sums(xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """{"table" (classes, classes): weights of positions by their label and what is predicted, and "near"}."""
    best, classes = xp.argmax(logits, axis=-1), logits.shape[-1]
    rows = xp.reshape(each(xp, labels, weights, classes), (-1, classes))
    columns = xp.reshape(each(xp, best, xp.ones_like(weights), classes), (-1, classes))
    return {"table": xp.einsum("nl,np->lp", rows, columns), "near": near_of(xp, logits, weights)}


def cells(sums: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """"confusion/LABEL/PREDICTED" of each cell, row by row; none above CELLS classes, whose sums are kept alone."""
    called = names_of(math.isqrt(len(sums["table"])), names)
    return [f"confusion/{label}/{other}" for label in called for other in called] if len(called) <= CELLS else []


def confusion(sums: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """{"confusion/LABEL/PREDICTED": weight of the positions}."""
    return dict(zip(cells(sums, names), map(float, sums["table"]), strict=False))


def confusion_bound(sums: Mapping[str, Any], loss: float, names: Sequence[str]) -> dict[str, float]:
    """As many positions as may flip may come into a cell, or leave it; of those that leave, no more than there are."""
    moved = most(expected(sums["near"], sums["weight"], loss))
    return dict.fromkeys(cells(sums, names), moved)


# ---- hits among the first k

def top_sums(k: int, xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """{"hits": weight of positions whose label's logit is among the k largest, the first of equal ones going before,
    "near": that of positions where a change of NEAR would decide it otherwise}."""
    own = xp.take_along_axis(logits, xp.expand_dims(labels, -1), axis=-1)
    before = xp.less(xp.arange(logits.shape[-1]), xp.expand_dims(labels, -1))
    others = xp.not_equal(xp.arange(logits.shape[-1]), xp.expand_dims(labels, -1))
    ahead = xp.logical_or(xp.greater(logits, own), xp.logical_and(xp.equal(logits, own), before))
    nothing = xp.zeros_like(weights)

    def within(which):
        return xp.less(xp.sum(xp.where(xp.logical_and(which, others), 1, 0), axis=-1), k)

    surely, perhaps = (within(xp.greater(xp.subtract(logits, own), width)) for width in (-NEAR, NEAR))
    return {"hits": xp.sum(xp.where(within(ahead), weights, nothing)),
            "near": xp.sum(xp.where(xp.not_equal(surely, perhaps), weights, nothing))}


def top(k: int, sums: Mapping[str, Any]) -> dict[str, float]:
    """{"top_K": share of the weight}."""
    return {f"top_{k}": float(sums["hits"] / sums["weight"])}


def top_bound(k: int, sums: Mapping[str, Any], loss: float) -> dict[str, float]:
    """As the accuracy's: by how many may flip."""
    return {f"top_{k}": most(expected(sums["near"], sums["weight"], loss)) / max(sums["weight"], 1.0) + EXACT}


REPORT = Metric("report", report_sums, report, report_bound, named=True, classes=True, apart=True,
                better={f"{part}[_/]*": "higher" for part in PARTS})
CONFUSION = Metric("confusion", confusion_sums, confusion, confusion_bound, named=True, classes=True, counts=True,
                   apart=True)
TOP_3, TOP_5, TOP_10 = (Metric(f"top-{k}", partial(top_sums, k), partial(top, k), partial(top_bound, k), classes=True,
                               apart=True, better={f"top_{k}": "higher"})
                        for k in (3, 5, 10))
