"""How sure each line of a match is, and why: by the sizes that there are, and by a few trials of what else it could be.
Two kinds that change places and leave the outputs equal are ambiguous: outputs cannot tell them apart.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from twinscale.common.pairs.match import Line
from twinscale.common.pairs.moves import Class, Move, State, kinds_moves, modules_moves, pattern_of, swaps
from twinscale.common.pairs.names import Sizes
from twinscale.common.pairs.tensors import Tensor

MOST, SECONDS = 24, 3.0  # trials for evidence alone, and how long they may take
Tried = tuple[Move, float]  # a decision made otherwise, and the outputs' difference then


def tried_otherwise(state: State, classes: Mapping[Class, tuple], sizes: Sizes, difference: Callable[[State], float]
                    ) -> list[Tried]:
    """What the outputs say when one decision of a match is made otherwise: two kinds in each other's place, the first
    two blocks of a kind, another layout of a kind; as many as there is time for."""
    found, ends = [], time.monotonic() + SECONDS
    for move in _otherwise(state, classes, sizes):
        if len(found) >= MOST or time.monotonic() > ends:
            break
        new = move.made(state)
        if new is not None:
            found.append((move, difference(new)))
    return found


def _otherwise(state, classes, sizes) -> Iterator[Move]:
    yield from swaps(classes, sizes)
    for members in classes:
        move = next(modules_moves(members, sizes), None)
        if move:
            yield replace(move, what="blocks", of=(pattern_of(members),))
    kernels = {part.kind[0] for part in state.parts if not part.one or part.one[0].role == "kernel"}
    for move in kinds_moves(state, {}, sizes):
        if move.what == "lie" and kernels.intersection(move.of):
            kernels.difference_update(move.of)
            yield move


def notes_of(tried: Sequence[Tried], agrees: float) -> tuple[str, ...]:
    """A line on each decision that outputs cannot make."""
    found = []
    for move, apart in tried:
        if apart <= agrees:
            what = {"swap": " and ".join(move.of) + ": these two in each other's place leave",
                    "blocks": " ".join(move.of) + ": two blocks of it in each other's place leave",
                    "lie": (" ".join(move.of) or "an image") + ": lying otherwise leaves"}[move.what]
            found.append(f"ambiguous: {what} outputs equal ({apart:.1e} apart)")
    return tuple(found)


def with_sure(lines: Sequence[Line], first: Sequence[Line], a: Sequence[Tensor], b: Sequence[Tensor],
              said: Mapping[str, str]) -> tuple[Line, ...]:
    """Lines with a word on how sure each is.

    Args:
      lines: of the match that was found.
      first: of the match by names.
      a: the tensors of one program.
      b: those of the other.
      said: {tensor of b: what trials say of it}, or {"": what they say of all}.
    """
    by_name = {line.b: line.text for line in first}
    counts = [Counter(math.prod(tensor.shape) for tensor in side) for side in (a, b)]
    sizes = {tensor.path: math.prod(tensor.shape) for tensor in b}
    found = []
    for line in lines:
        only = len(line.a) == 1 and all(count[sizes[line.b]] == 1 for count in counts)
        how = "the only one of its size" if only else "by name"
        if by_name.get(line.b) != line.text:
            how = f"{how}, lies so by trial" if only else "found by trial"
        rest = said.get(line.b, said.get("", ""))
        found.append(replace(line, sure="; ".join(filter(None, (how, rest)))))
    return tuple(found)


def said_of(state: State, classes: Mapping[Class, tuple], tried: Sequence[Tried], agrees: float) -> dict[str, str]:
    """{tensor of b: what trials say of it, "" of all others}: the swap or the layout that is hardest to tell from what
    was found."""
    nearest: dict = defaultdict(lambda: (math.inf, ""))
    patterns = {name: pattern_of(members) for members in classes for name in members}
    for move, apart in tried:
        does = "leaves outputs equal: ambiguous" if apart <= agrees else f"makes outputs differ by {apart:.1g}"
        for i, kind in enumerate(move.of):
            what = {"swap": f"a swap with {move.of[i - 1]}", "blocks": "a swap of two blocks",
                    "lie": "lying otherwise"}[move.what]
            key = kind, move.what == "lie"
            nearest[key] = min(nearest[key], (apart, f"{what} {does}"))
    found = {"": "outputs agree"}
    for part in state.parts:
        keys = [(part.kind[0], True)] + ([(patterns.get(part.modules[1]), False)] if part.one else [])
        known = min((nearest[key] for key in keys if key in nearest), default=None)
        if known:
            found |= dict.fromkeys(part.b, known[1])
    return found
