"""What shared, addressed bits change of rows of word pieces: what is hidden to be predicted (Devlin et al. 2019), words
that are dropped, and second texts that are another row's. What happens to row r of a step depends on (seed, step, r)
alone, and to a held-out row on its number alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data.word_pieces import PieceKinds
from twinscale.common.errors import one_of
from twinscale.common.numbers.bits import draw, fold_in, key, name_word, step_key
from twinscale.common.sources import Data

if TYPE_CHECKING:
    from twinscale.common.data.dataset import Examples

HIDDEN, ANOTHER = 0.8, 0.1  # shares of what is to be predicted that show [MASK] or another piece; the rest stay
Batch = dict[str, np.ndarray]
Bits = Callable[[str, int], np.ndarray]  # a place's name and how many -> uint32 (B, how many)


@dataclass(frozen=True)
class Drawn:
    """What a Dataset of word pieces draws: by which pieces, and by which keys of [data]."""

    table: PieceKinds
    data: Data
    second: int = 0  # of pairs of halves, the column at which the second text begins


def in_training(drawn: Drawn, batch: Batch, part: "Examples", index: np.ndarray, address: tuple[int, int],
                rows: np.ndarray) -> Batch:
    """A batch of the examples `index` (integers (B,)) of a `part` after all that bits change: `address` is (seed,
    step), `rows` uint32 (B,) the rows' numbers in the global batch."""
    seed, step = address

    def bits(place, size):
        return draw(step_key(fold_in(key(seed), name_word(place)), step), rows, size)

    for choice in drawn.data.augment:
        batch = one_of(CHOICES, choice, "data.augment")(drawn, batch, bits)
    return judged(drawn, batch, part, index, bits)


def in_evaluation(drawn: Drawn, batch: Batch, part: "Examples", index: np.ndarray) -> Batch:
    """A held-out batch of the examples `index` (integers (B,)) as it is judged, whatever the recipe's seed."""
    return judged(drawn, batch, part, index, lambda place, size: draw(
        fold_in(key(0), name_word(f"held_out.{place}")), index.astype(np.uint32), size))


def judged(drawn: Drawn, batch: Batch, part: "Examples", index: np.ndarray, bits: Bits) -> Batch:
    """A batch with labels that bits decide, where the data have none of their own."""
    if drawn.data.next_sentence:
        return followed(drawn, batch, part, index, bits)
    return masked(drawn, batch, bits) if drawn.data.masked else batch


def followed(drawn: Drawn, batch: Batch, part: "Examples", index: np.ndarray, bits: Bits) -> Batch:
    """Second texts that are those of another row of the part, half of the time: label 1 there, and 0 where a text
    follows the first (Devlin et al. 2019)."""
    if len(part) < 2:
        return batch
    swapped = bits("next.swapped", 1) >> 31 == 1
    further = 1 + bits("next.which", 1)[:, 0].astype(np.int64) % (len(part) - 1)
    other = part.take((index + further) % len(part))
    swaps = swapped & (np.arange(batch["ids"].shape[1]) >= drawn.second)
    changed = {name: np.where(swaps, other[name], batch[name]) for name in ("ids", "mask", "types")}
    return batch | changed | {"labels": swapped[:, 0].astype(np.int32)}


def masked(drawn: Drawn, batch: Batch, bits: Bits) -> Batch:
    """Pieces hidden: `labels` has them, and `weights` 1 where they are; of them 8 in 10 read [MASK], 1 another piece,
    any that is not special, and 1 stays."""
    table, data, ids = drawn.table, drawn.data, batch["ids"]
    hidden = chosen(drawn, batch, data.masked, data.masked_by, named(bits, "masked"))
    how, which = (bits(f"masked.{place}", ids.shape[1]) for place in ("how", "which"))
    ordinary = np.flatnonzero(~table.special).astype(ids.dtype)
    shown = np.where(how < below(HIDDEN), ids.dtype.type(table.mask),
                     np.where(how < below(HIDDEN + ANOTHER), ordinary[which % np.uint32(len(ordinary))], ids))
    return batch | {"ids": np.where(hidden, shown, ids), "labels": np.where(hidden, ids, 0).astype(np.int32),
                    "weights": hidden.astype(np.float32)}


def chosen(drawn: Drawn, batch: Mapping[str, np.ndarray], share: float, by: str, bits: Bits) -> np.ndarray:
    """bool (B, L): a share of a row's pieces, special ones and padding apart, whole units at a time in an order that
    bits decide, as many as come nearest to it; one at least.

    by: a unit is a "piece", a "word", or a "span" of words, whose number is geometric with the mean `data.span`: a word
    begins one with the probability 1 / data.span (Joshi et al. 2020, without a longest one).
    """
    table, ids = drawn.table, batch["ids"]
    rows, length = np.arange(len(ids))[:, None], ids.shape[1]
    free = (batch["mask"] == 1) & ~table.special[ids]
    starts = one_of({"piece": lambda: free, "word": lambda: table.begins[ids], "span": lambda: table.begins[ids] & (
        bits("span", length) < below(1 / drawn.data.span))}, by, "data.masked_by")()
    starts = free & (starts | ~np.pad(free, ((0, 0), (1, 0)))[:, :-1])
    unit = np.where(free, np.cumsum(starts, 1) - 1, length)
    sizes = np.zeros((len(ids), length + 1), np.int64)
    np.add.at(sizes, (rows, unit), free)
    order = np.argsort(np.where(starts, bits("which", length).astype(np.int64), 1 << 32), axis=1, kind="stable")
    first, units = np.take_along_axis(starts, order, 1), np.take_along_axis(unit, order, 1)
    size = np.where(first, sizes[rows, units], 0)
    ends, wanted = np.cumsum(size, 1), share * free.sum(1, keepdims=True)
    taken = np.zeros_like(sizes, bool)
    at, place = np.nonzero(first & ((ends - size / 2 <= wanted) | (ends == size)))
    taken[at, units[at, place]] = True
    return free & taken[rows, unit]


def dropped(drawn: Drawn, batch: Batch, bits: Bits) -> Batch:
    """Words, `data.augment_share` of the pieces, that read as unknown (Bowman et al. 2016); labels stay."""
    found = chosen(drawn, batch, drawn.data.augment_share, "word", named(bits, "augment.word-dropout"))
    return batch | {"ids": np.where(found, np.int32(drawn.table.unknown), batch["ids"])}


def spans_masked(drawn: Drawn, batch: Batch, bits: Bits) -> Batch:
    """Spans of words, `data.augment_share` of the pieces, that read [MASK]; labels stay."""
    found = chosen(drawn, batch, drawn.data.augment_share, "span", named(bits, "augment.span-mask"))
    return batch | {"ids": np.where(found, np.int32(drawn.table.mask), batch["ids"])}


def named(bits: Bits, name: str) -> Bits:
    """Bits of places below a name."""
    return lambda place, size: bits(f"{name}.{place}", size)


def below(share: float) -> Any:
    """The bound (integer) below which uint32 bits are with the probability `share`."""
    return np.uint64(round(share * 2**32))


CHOICES = {"word-dropout": dropped, "span-mask": spans_masked}
