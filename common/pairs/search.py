"""Finds which tensors of two programs are one another's, without rules: by names (`common.pairs.names`), and then by
trial: two programs whose outputs agree on one batch, at weights that are nowhere zero, one or equal, have their tensors
matched.

Where the outputs differ under the names' match, one decision after the other is made otherwise. A decision is of a
kind, all blocks at once: how its tensors lie, and which of two kinds of equal sizes is which; then two decisions at
once; then which of two single modules is which. In the end it has to have brought the outputs to agree, or much nearer:
programs that truly differ keep the names' match.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from twinscale.common.pairs.evidence import Tried, notes_of, said_of, tried_otherwise, with_sure
from twinscale.common.pairs.match import Match
from twinscale.common.pairs.moves import (
    UNLIKELY,
    Class,
    Move,
    State,
    classes_of,
    kinds_moves,
    modules_moves,
    orders,
    regroupings,
)
from twinscale.common.pairs.names import Sizes, matched_by_names, sizes_of
from twinscale.common.pairs.tensors import Tensor

AGREES = 1e-4  # of outputs, relative: far above float32's rounding of a small program, far below any wrong tensor
MUCH_NEARER = 0.3  # what is left of a difference where a change is taken at once
NEARER = 0.98  # what is left where a change is worth going on with
PLAUSIBLE = 3.0  # a change that takes outputs further apart than so many times was no change for the better
FAR = 0.1  # outputs that differ by more say little of how many decisions are wrong
MOST = 100  # trials of two decisions at once, and as many of single modules
PATIENCE = 3  # modules of a kind that are tried, none of which was plausible
CONFIRMED = 16  # matches of equal outputs that a second judge is asked for
Judge = Callable[[Match], float]  # the difference of outputs under a match, relative


@dataclass
class Trial:
    """How far a search is."""

    judge: Callable[[State], float]
    ends: float  # time.monotonic() after which nothing more is tried
    tell: Callable[[str], None]
    state: State = State(())
    best: float = math.inf
    tried: int = 0
    seen: dict[Any, float] = field(default_factory=dict)
    way: list[tuple[State, float, float]] = field(default_factory=list)  # what was taken, and how near it had to be

    @property
    def over(self) -> bool:
        """Whether outputs agree, or time is."""
        return self.best <= AGREES or time.monotonic() > self.ends

    def difference(self, state: State) -> float:
        """What the judge says; each match is judged once."""
        lines = frozenset((line.b, line.text) for line in state.lines)
        if lines not in self.seen:
            self.tried += 1
            self.seen[lines] = self.judge(state)
        return self.seen[lines]

    def take(self, state: State, found: float, worth: float = UNLIKELY) -> None:
        """Goes on from another match, which is worth its change where it leaves no more of a difference than that."""
        self.state, self.best = state, found
        self.way.append((state, found, worth))
        self.tell(f"trial {self.tried}: outputs differ by {found:.1e}")


def find(a: Sequence[Tensor], b: Sequence[Tensor], judge: Judge, seconds: float = 60.0,
         tell: Callable[[str], None] = lambda said: None, confirm: Callable[[Match], Any] | None = None
         ) -> tuple[Match, float, int]:
    """(the match, the outputs' difference under it, how many were tried until it was found). Each line says how sure it
    is, and the match's notes what is ambiguous.

    Args:
      a: the tensors of the program whose layout is kept.
      b: the tensors of the other.
      judge: runs both programs once; infinite where the match does not fit.
      seconds: after which no further one is tried.
      tell: takes a line on how far it is.
      confirm: a second judge, true where programs are one under a match by gradients too. It is asked of what was
        found; where it says no though outputs agree, other matches of equal outputs are tried.
    """
    parts, left_a, left_b = matched_by_names(a, b)
    match, first = Match((), tuple(left_a), tuple(left_b)), State(tuple(parts))
    if left_a or left_b or not parts:
        return replace(match, lines=with_sure(first.lines, first.lines, a, b, {"": "not tried"})), math.inf, 0
    sizes = sizes_of(a, b)
    trial = Trial(lambda state: judge(replace(match, lines=state.lines)), time.monotonic() + seconds, tell)
    _search(trial, first, a, b, sizes)
    tried, classes = trial.tried, classes_of(trial.state)
    said, notes = {"": f"outputs differ by {trial.best:.1e} under it"}, tuple[str, ...]()
    if trial.best <= AGREES:
        otherwise = tried_otherwise(trial.state, classes, sizes, trial.difference)
        said, notes = said_of(trial.state, classes, otherwise, AGREES), notes_of(otherwise, AGREES)
        if confirm:
            notes += _confirmed(trial, lambda state: confirm(replace(match, lines=state.lines)),
                                _equals(trial, otherwise, classes, sizes))
    lines = with_sure(trial.state.lines, first.lines, a, b, said)
    return replace(match, lines=lines, notes=notes), trial.best, tried


# ---- the search

def _search(trial: Trial, first: State, a, b, sizes: Sizes) -> None:
    """Leaves the best match in a trial."""
    trial.take(first, trial.difference(first))
    parts, left_a, left_b = matched_by_names(a, b, by_order=True)
    starts = [first] if left_a or left_b else [first, State(tuple(parts))]
    for state in starts:  # as kernels lie, and all turned: agreement, or else much nearer than by names
        for new in filter(None, (state, *_turned(state, sizes))):
            if trial.over:
                break
            found = trial.difference(new)
            if found <= AGREES or (state is not first and found < UNLIKELY * trial.best):
                trial.take(new, found)
    classes = classes_of(trial.state)
    moved = True
    while moved and not trial.over:
        moves = list(kinds_moves(trial.state, classes, sizes))
        moved, plausible = _round(trial, moves)
        if not moved and not trial.over:
            pairs = sorted(itertools.combinations(plausible, 2), key=lambda two: two[0][0] * two[1][0])
            moved, _ = _round(trial, [_both(x, y) for (_, x), (_, y) in pairs[:MOST]])
        if not moved and trial.best > FAR and not trial.over:
            moved, _ = _round(trial, _orders(first, classes_of(first), sizes))
        if not moved and not trial.over:
            moved, _ = _round(trial, itertools.islice(regroupings(trial.state, a, sizes), MOST))
        if not moved and not trial.over:
            moved = _modules(trial, classes, sizes)
    if not trial.over and trial.state is not first:  # what strayed may have passed by one swap of names
        trial.take(first, trial.difference(first))
        _modules(trial, classes_of(first), sizes)
    if trial.best > AGREES:
        _worth_it(trial)


def _worth_it(trial: Trial) -> None:
    """Leaves in a trial whose outputs do not agree the last match that was worth its change."""
    trial.state, trial.best, _ = trial.way[0]
    for state, found, worth in trial.way[1:]:
        if found <= worth * trial.best:
            trial.state, trial.best = state, found


def _round(trial: Trial, moves: Iterable[Move]) -> tuple[bool, list[tuple[float, Move]]]:
    """(whether a trial went on, by the first move that is much nearer or the best of all; the moves that are plausible,
    each with its difference)."""
    start, plausible = trial.best, []
    nearest: tuple[float, State | None, float] = NEARER * trial.best, None, UNLIKELY
    for move in moves:
        new = move.made(trial.state)
        if new is None:
            continue
        found = trial.difference(new)
        if found < nearest[0]:
            nearest = found, new, move.worth
        if found <= max(AGREES, MUCH_NEARER * start):
            break
        if found <= PLAUSIBLE * start:
            plausible.append((found, move))
        if time.monotonic() > trial.ends:
            break
    if nearest[1] is not None:
        trial.take(nearest[1], nearest[0], nearest[2])
    return nearest[1] is not None, plausible


def _both(one: Move, other: Move) -> Move:
    def made(state):
        between = one.made(state)
        return between and other.made(between)

    return Move("both", (*one.of, *other.of), made, min(one.worth, other.worth))


def _turned(state: State, sizes: Sizes) -> list[State | None]:
    """A match with all kernels turned, where any can be."""
    return [move.made(state) for move in itertools.islice(kinds_moves(state, {}, sizes), 1) if move.what == "turned"]


def _orders(first: State, classes, sizes: Sizes) -> Iterator[Move]:
    """Every order of kinds of equal sizes, of the names' match, as kernels lie and all turned."""
    for move in itertools.islice(orders(classes, sizes), MOST):
        for start in filter(None, (first, *_turned(first, sizes))):
            yield replace(move, made=partial(lambda move, start, now: move.made(start), move, start))


def _modules(trial: Trial, classes: Iterable[Class], sizes: Sizes) -> bool:
    """Whether a trial went on by two single modules in each other's place."""
    moved, left = False, MOST
    for members in classes:
        moves = list(modules_moves(members, sizes))[:left]
        some, plausible = _round(trial, moves[:PATIENCE])
        if not trial.over and plausible and not some:
            some, _ = _round(trial, moves[PATIENCE:])
        moved, left = moved or some, left - len(moves)
        if trial.over or left <= 0:
            break
    return moved


# ---- a second judge

def _equals(trial: Trial, tried: Sequence[Tried], classes: Mapping[Class, tuple], sizes: Sizes) -> Iterator[State]:
    """Other matches whose outputs agree: one decision otherwise, then two."""
    start, moves = trial.state, []
    singles = (modules_moves(members, sizes) for members in classes)
    later = itertools.chain(kinds_moves(start, classes, sizes), *singles)
    for move in itertools.chain((move for move, _ in tried), itertools.islice(later, MOST)):
        if time.monotonic() > trial.ends:
            return
        new = move.made(start)
        if new is not None and new.lines != start.lines and trial.difference(new) <= AGREES:
            moves.append(move)
            yield new
    for one, other in itertools.combinations(moves, 2):
        new = _both(one, other).made(start)
        if new is not None and new.lines != start.lines and trial.difference(new) <= AGREES:
            yield new


def _confirmed(trial: Trial, confirm: Callable[[State], Any], others: Iterable[State]) -> tuple[str, ...]:
    """Leaves in a trial the match that a second judge confirms, where there is one; and says how it was."""
    if confirm(trial.state):
        return ("confirmed by the second judge",)
    asked = {frozenset((line.b, line.text) for line in trial.state.lines)}
    for state in others:
        lines = frozenset((line.b, line.text) for line in state.lines)
        if lines in asked:
            continue
        asked.add(lines)
        if confirm(state):
            trial.state, trial.best = state, trial.difference(state)
            return (f"confirmed by the second judge, at match {len(asked)} of equal outputs",)
        if len(asked) >= CONFIRMED:
            break
    return (f"outputs agree, but the second judge does not: {len(asked)} matches of equal outputs were asked",)
