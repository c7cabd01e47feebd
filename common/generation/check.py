"""Whether a sampler is the trainer: log-probabilities of the tokens that it gave, against the trainer's forward pass.

Trainers of reinforcement learning weigh tokens by the ratio of the two, which is 1 but for rounding. Both are of the
same weights on the same tokens, so they may be apart by what rounding does to a forward pass, and no more. That is
measured by a twin, the trainer's forward pass with weights that are dithered within half a unit of their last place:

    allowed = max(4 x the twin's noise, 2 x walk(K) eps x the largest logit)    nats

K is the longest sum, over a kernel's inputs or the positions, `walk` what its roundings come to, and eps that of the
masters, or where values are rounded to bfloat16 once, half of bfloat16's. A log-probability is a logit less the logits'
soft maximum, each of which moves by no more than the largest move of a logit: hence the 2.

Logits of two backends are apart by as much: of either by max(4 x the twin's noise, walk(K) eps x the largest). A token
whose margin (`common/generation/sample.py`) is below that may be another one elsewhere: a *near tie*.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twinscale.common.families.parameters import dithering
from twinscale.common.generation.loop import Row
from twinscale.common.generation.sample import log_softmax
from twinscale.common.numbers.formats import DITHER, EPS, MASTERS, RESOLVED, walk
from twinscale.common.pairs.bounds import TWINS

Forward = Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]  # (tensors, ids (B, T)) to logits (B, T, V)


@dataclass(frozen=True)
class Trainer:
    """What the trainer makes of generated tokens: of each row the log-probabilities (nats), and what rounding may make
    of one (`allowed`, nats) and of a logit (`moves`)."""

    logprobs: list[np.ndarray]
    allowed: float
    moves: float
    bound_from: str


def trained(forward: Forward, tensors: Mapping[str, np.ndarray], rows: Sequence[Row], length: int, precision: str
            ) -> Trainer:
    """The Trainer of rows, by its forward pass over `length` positions, a row at a time so that one set of logits is in
    memory, with `tensors` {canonical name: array} and with those of a twin."""
    twin = {name: np.asarray(x * dithering(0, name, DITHER[precision], x.shape), x.dtype)
            for name, x in tensors.items()}
    given = [wanted(forward, tensors, row, length) for row in rows]
    again = [wanted(forward, twin, row, length) for row in rows]
    logprobs = [each(log_softmax(logits), row) for logits, row in zip(given, rows, strict=True)]
    noise = max(float(np.abs(each(log_softmax(logits), row) - found).max())
                for logits, row, found in zip(again, rows, logprobs, strict=True))
    moved = max(float(np.abs(a - b).max()) for a, b in zip(given, again, strict=True))
    floor = rounding(tensors, length, precision) * max(float(np.abs(logits).max()) for logits in given)
    return Trainer(logprobs, max(TWINS * noise, 2 * floor), max(TWINS * moved, floor),
                   f"{TWINS} x the {precision} twin's noise" if TWINS * noise > 2 * floor else
                   f"rounding of the longest sum in {precision}")


def wanted(forward: Forward, tensors: Mapping[str, np.ndarray], row: Row, length: int) -> np.ndarray:
    """Logits (N, V), float64, after which each of a row's N tokens came."""
    ids = np.zeros((1, length), np.int32)
    count, known = len(row.prompt), [*row.prompt, *row.ids]
    ids[0, :len(known)] = known
    return np.asarray(forward(tensors, ids)[0][count - 1:len(known) - 1], np.float64)


def each(logprobs: np.ndarray, row: Row) -> np.ndarray:
    """Those (N,) of a row's tokens."""
    return logprobs[np.arange(len(row.ids)), row.ids]


def rounding(tensors: Mapping[str, np.ndarray], length: int, precision: str) -> float:
    """What the roundings of the longest sum come to, relative to the largest value."""
    longest = max([length, *(x.shape[0] for name, x in tensors.items() if name.endswith(".kernel"))])
    return max(walk(longest) * EPS[MASTERS[precision]], RESOLVED[precision])


def apart(trainer: Trainer, rows: Sequence[Row]) -> float:
    """The largest difference (nats) of what rows say of their tokens and what the trainer says."""
    return max(float(np.abs(found - [choice.logprob for choice in row.choices]).max())
               for found, row in zip(trainer.logprobs, rows, strict=True))


def near_ties(trainer: Trainer, rows: Sequence[Row]) -> int:
    """Of how many tokens the margin is within what rounding may make of a logit."""
    return sum(choice.margin <= trainer.moves for row in rows for choice in row.choices)
