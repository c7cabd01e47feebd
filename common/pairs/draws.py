"""Dropout of a pair's programs that draws from the shared bits: by the order of its calls within a forward pass, each
call at a place of its own, `dropout_0` and so on. Both sides' calls have to be the same ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.numbers.bits import name_word

if TYPE_CHECKING:
    from twinscale.common.pairs.match import Match

Call = tuple[float, tuple[int, ...]]  # (rate, shape of a row's mask)
OFF = 'or set model.dropout = "off"'


@dataclass(frozen=True)
class Draws:
    """What the dropout of one forward pass draws from, and what has been drawn."""

    key: Any  # uint32 (2,), already folded with the step
    rows: Any  # uint32 (B,): global numbers of the batch's rows
    order: tuple[int, ...] = ()  # for each call the number of its place, where that is not its own
    calls: list[Call] = field(default_factory=list)


def draws_of(batch: Mapping[str, Any], match: "Match | None" = None) -> Draws | None:
    """The Draws of a batch's own key and rows, in the order of a match, or None where it has none."""
    return Draws(batch["key"], batch["row"], match.dropout if match else ()) if "key" in batch else None


def nothing_drawn(rows: int) -> Draws:
    """Draws of a batch of so many rows, for a pass that is made to see what it draws."""
    return Draws(np.zeros(2, np.uint32), np.arange(rows, dtype=np.uint32))


def noted(draws: Draws, side: str, rate: float, shape: Sequence[int], rows: int) -> int:
    """Notes a call of dropout over a mask of a shape, rows first, in a batch of so many; returns the word of its place.

    Raises BadInput where it is not of rows.
    """
    number = len(draws.calls)
    if not shape or shape[0] is None or not rows or shape[0] % rows:
        raise BadInput(f"model.{side}: dropout number {number + 1} of a forward pass is over {tuple(shape)}, which is "
                       f"not of the batch's {rows} rows: a row's bits are its own; apply it to (rows, ...), {OFF}")
    draws.calls.append((float(rate), (shape[0] // rows, *shape[1:]) if shape[0] != rows else tuple(shape[1:])))
    return name_word(f"dropout_{draws.order[number] if number < len(draws.order) else number}")


def order_of(calls: Sequence[Call], wanted: Sequence[Call]) -> tuple[int, ...]:
    """For each call the first of those `wanted` that has its rate and shape and no other call has; () where they are
    the same ones in the same order, or are not the same ones."""
    left: list[Call | None] = [*map(_alike, wanted)]
    found: list[int] = []
    for call in map(_alike, calls):
        if call not in left:
            return ()
        found.append(left.index(call))
        left[found[-1]] = None
    return () if any(left) or found == sorted(found) else tuple(found)


def check_same(side: str, calls: Sequence[Call], wanted: Sequence[Call] | None, order: Sequence[int] = ()) -> None:
    """Raises BadInput where a side's calls of dropout are not those of the first program, as `twinscale match` noted
    them, one after the other or by the `order` of a match: with the first that is another."""
    if wanted is None:
        raise BadInput('model.dropout = "shared": model.weights does not say what dropout the first program has: '
                       "`twinscale match RECIPE` again")
    if order and len(order) != len(calls):
        raise BadInput(f"model.{side}: a forward pass has {len(calls)} calls of dropout, but dropout.order of the "
                       f"match says {len(order)}: `twinscale match RECIPE --overwrite`, {OFF}")
    for number in range(max(len(calls), len(wanted))):
        theirs_at = order[number] if number < len(order) else number
        ours, theirs = (found[at] if at < len(found) else None for found, at in ((calls, number), (wanted, theirs_at)))
        if ours and theirs and math.isclose(ours[0], theirs[0], rel_tol=1e-6) and ours[1] == theirs[1]:
            continue
        how, fix = "", "make them alike"
        if order_of(calls, wanted):
            how, fix = ": the same ones, in another order", "`twinscale match RECIPE --overwrite` writes it down"
        raise BadInput(f"model.{side}: dropout number {number + 1} of a forward pass {said(ours)}, that of the first "
                       f"program as it was matched {said(theirs)}{how}; they draw shared bits by the order of their "
                       f"calls, or by dropout.order of the match: {fix}, {OFF}")


def _alike(call: Call) -> Call:
    return round(call[0], 6), tuple(call[1])


def said(call: Call | None) -> str:
    """A call of dropout in words."""
    return "is not there" if call is None else f"drops {call[0]:g} of {call[1]} a row"


def refused(side: str, what: str) -> BadInput:
    """The error for what draws random numbers by itself."""
    return BadInput(f"model.{side}: {what} draws random numbers of its own: stock dropout alone draws from the shared "
                    f"bits; leave it out, {OFF}")
