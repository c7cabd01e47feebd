"""Entities in tags, as seqeval counts them: one is right where its beginning, its end and its type are.

Classes are O, and B- and I- of each type in turn, as `common.data.labelled` has them: 0, then 1 and 2 of the first.
Positions that weigh nothing, such as a word's later pieces and padding, are not there: a tag follows that of the
position before it which weighs something. An `I-` that continues nothing begins an entity, as in seqeval's default
mode; a row is a sentence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.metrics.base import Metric
from twinscale.common.metrics.flips import EXACT, expected, most, near_of, shares, shares_bounds

PARTS = ("precision", "recall", "f1")
TOUCHED = 2  # entities that one tag is part of, or parts


def statistics(xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """{"right", "predicted", "labelled"} (types,): numbers of entities, and "near", a scalar; arguments as at
    `classification.statistics`, with positions (rows, length). Raises BadInput where classes are no such tags.

    What is not judged goes behind what is, by a sort. Then a tag that goes on with the one before it, of its own side,
    is no border, and all others are. Borders of either side are put side by side by another sort: an entity is right
    where both sides begin one of a type at a border, and the next border is one of both.
    """
    classes = logits.shape[-1]
    if len(labels.shape) < 2 or classes < 3 or classes % 2 == 0:
        raise BadInput(f"train.metrics: entities: {classes} classes of labels {tuple(labels.shape[1:])} a row are no "
                       "tags of entities, O and a B- and an I- of each type: take data.source = \"conll:...\"")
    ends = xp.zeros_like(labels[..., :1])  # an O behind each row, at which what is left open ends
    order = in_front(xp, xp.greater(weights, xp.zeros_like(weights)))
    sides = []
    for tags in (labels, xp.argmax(logits, axis=-1)):
        tags = xp.where(xp.greater(weights, xp.zeros_like(weights)), tags, xp.zeros_like(tags))
        sides.append(spans(xp, xp.concatenate([xp.take_along_axis(tags, order, axis=-1), ends], axis=-1)))
    (begun, goes_on), (begun_too, goes_on_too) = sides
    borders = xp.logical_not(xp.logical_and(goes_on, goes_on_too))
    of_both = xp.logical_not(xp.logical_or(goes_on, goes_on_too))
    matching = xp.where(xp.equal(begun, begun_too), begun, xp.zeros_like(begun))
    order = in_front(xp, borders)
    first, closed = xp.take_along_axis(matching, order, axis=-1), xp.take_along_axis(xp.where(of_both, 1, 0), order, -1)
    right = xp.where(xp.equal(closed[..., 1:], 1), first[..., :-1], xp.zeros_like(first[..., :-1]))
    kinds = classes // 2
    return {"right": numbers(xp, right, kinds), "predicted": numbers(xp, begun_too, kinds),
            "labelled": numbers(xp, begun, kinds), "near": near_of(xp, logits, weights)}


def in_front(xp: Any, chosen: Any) -> Any:
    """The order (rows, length) in which the chosen positions stand first, and all in theirs."""
    length = chosen.shape[-1]
    return xp.argsort(xp.where(chosen, xp.arange(length), xp.arange(length, 2 * length)), axis=-1)


def spans(xp: Any, tags: Any) -> tuple[Any, Any]:
    """(the type, from 1, of the entity that begins at each position, 0 where none does; whether the position goes on
    with the entity of the one before it) of tags (rows, length)."""
    before = xp.concatenate([xp.zeros_like(tags[..., :1]), tags[..., :-1]], axis=-1)
    kind, last = (xp.floor_divide(xp.add(x, 1), 2) for x in (tags, before))
    inside = xp.logical_and(xp.equal(xp.mod(tags, 2), 0), xp.greater(tags, 0))
    goes_on = xp.logical_and(inside, xp.equal(kind, last))
    return xp.where(goes_on, xp.zeros_like(kind), kind), goes_on


def numbers(xp: Any, kinds: Any, count: int) -> Any:
    """How often each type from 1 to `count` is there, (count,)."""
    found = xp.equal(xp.expand_dims(kinds, -1), xp.arange(1, count + 1))
    return xp.sum(xp.where(found, 1.0, 0.0), axis=tuple(range(len(kinds.shape))))


def types_of(count: int, names: Sequence[str]) -> list[str]:
    """The names of types, by the names of the tags, or by their numbers."""
    return [name.partition("-")[2] for name in names[1::2]] if len(names) == 2 * count + 1 else [
        str(i) for i in range(count)]


def finish(sums: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """{"entity_precision", "entity_recall", "entity_f1" over all entities, and each with _macro, the mean over types
    that are there or predicted, _weighted, by how many there are, and /TYPE}."""
    right, predicted, labelled = (sums[key] for key in ("right", "predicted", "labelled"))
    found, seen = {}, (predicted + labelled) > 0
    totals = shares(right.sum(), predicted.sum(), labelled.sum())
    for part, values, whole in zip(PARTS, shares(right, predicted, labelled), totals, strict=True):
        found |= {f"entity_{part}": float(whole),
                  f"entity_{part}_macro": float(values[seen].mean()) if seen.any() else 0.0,
                  f"entity_{part}_weighted": float(values @ labelled / max(labelled.sum(), 1e-300))}
        found |= {f"entity_{part}/{name}": float(x)
                  for name, x in zip(types_of(len(right), names), values, strict=True)}
    return found


def bound(sums: Mapping[str, Any], loss: float, names: Sequence[str]) -> dict[str, float]:
    """How far the values may move by what may flip: a tag that flips changes, parts or joins TOUCHED entities at
    most. A type that is not there and may come to be predicted is one more in the mean over types."""
    moved = TOUCHED * most(expected(sums["near"], sums["weight"], loss))
    predicted, labelled = sums["predicted"], sums["labelled"]
    found, seen = {}, (predicted + labelled) > 0
    joins = moved > 0 and bool((labelled == 0).any())
    totals = shares_bounds(predicted.sum(), labelled.sum(), moved)
    for part, values, whole in zip(PARTS, shares_bounds(predicted, labelled, moved), totals, strict=True):
        macro = 1.0 if joins or not seen.any() else float(np.mean(values[seen]))
        found |= {f"entity_{part}": float(whole), f"entity_{part}_macro": macro + EXACT,
                  f"entity_{part}_weighted": float(values @ labelled / max(labelled.sum(), 1e-300)) + EXACT}
        found |= {f"entity_{part}/{name}": float(x)
                  for name, x in zip(types_of(len(predicted), names), values, strict=True)}
    return found


ENTITIES = Metric("entities", statistics, finish, bound, named=True, classes=True, better={"entity_*": "higher"})
