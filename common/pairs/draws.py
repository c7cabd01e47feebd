"""Dropout of a pair's programs that draws from the shared bits: by the order of its calls within a forward pass, each
call at a place of its own, `dropout_0` and so on. Both sides' calls have to be the same ones."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.numbers.bits import name_word

Call = tuple[float, tuple[int, ...]]  # (rate, shape of a row's mask)
OFF = 'or set model.dropout = "off"'


@dataclass(frozen=True)
class Draws:
    """What the dropout of one forward pass draws from, and what has been drawn."""

    key: Any  # uint32 (2,), already folded with the step
    rows: Any  # uint32 (B,): global numbers of the batch's rows
    calls: list[Call] = field(default_factory=list)


def draws_of(batch: Mapping[str, Any]) -> Draws | None:
    """The Draws of a batch's own key and rows, or None where it has none."""
    return Draws(batch["key"], batch["row"]) if "key" in batch else None


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
    return name_word(f"dropout_{number}")


def check_same(side: str, calls: Sequence[Call], wanted: Sequence[Call] | None) -> None:
    """Raises BadInput where a side's calls of dropout are not those of the first program, as `twinscale match` noted
    them: with the first that is another."""
    if wanted is None:
        raise BadInput('model.dropout = "shared": model.weights does not say what dropout the first program has: '
                       "`twinscale match RECIPE` again")
    for number in range(max(len(calls), len(wanted))):
        ours, theirs = (found[number] if number < len(found) else None for found in (calls, wanted))
        if ours and theirs and math.isclose(ours[0], theirs[0], rel_tol=1e-6) and ours[1] == theirs[1]:
            continue
        alike = Counter((round(rate, 6), shape) for rate, shape in calls) == Counter(
            (round(rate, 6), shape) for rate, shape in wanted)
        order = ": the same ones, in another order" if alike else ""
        raise BadInput(f"model.{side}: dropout number {number + 1} of a forward pass {said(ours)}, that of the first "
                       f"program as it was matched {said(theirs)}{order}; they draw shared bits by the order of their "
                       f"calls: make them alike, {OFF}")


def said(call: Call | None) -> str:
    """A call of dropout in words."""
    return "is not there" if call is None else f"drops {call[0]:g} of {call[1]} a row"


def refused(side: str, what: str) -> BadInput:
    """The error for what draws random numbers by itself."""
    return BadInput(f"model.{side}: {what} draws random numbers of its own: stock dropout alone draws from the shared "
                    f"bits; leave it out, {OFF}")
