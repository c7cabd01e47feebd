"""Tokens one after another, from a sampler of either backend; which comes next is `common/generation/sample.py`'s.

What a backend compiles has a static shape: a batch of rows, and a power of two of positions that holds the prompts, or
prompts and what is to follow. So a longer prompt of the same bucket compiles nothing anew.

A sampler whose calls cost more than a token goes on by itself (`ahead`) with the tokens that it guesses. Each is chosen
here all the same, from the logits that come back: where one was guessed wrong, what it computed after it is dropped.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.generation.sample import Choice, Drawing, choose, log_softmax, uniforms

LEAST = 8  # positions of the smallest bucket
AHEAD = 16  # tokens of a call at most
BURST = 0.1  # seconds that a call should take at most: so long nothing is said


class Sampler(NamedTuple):
    """A backend's decoder. The logits (B, V) that it gives are those after each row's last token; a cache that was
    handed to `step` is gone.

    start: (ids int32 (B, T), lengths int32 (B,), slots, T of which or more) to (logits, a cache of `slots` positions).
    step: (ids int32 (B,), their positions int32 (B,), the cache) to (logits, the cache).
    ahead: (ids, positions, the cache, how many steps N, AHEAD at most, the Drawing, uniform numbers float64 (AHEAD, B)
      for them) to (the tokens that it guessed int32 (N, B), logits (N, B, V), the cache), or None.
    """

    start: Callable[[np.ndarray, np.ndarray, int], tuple[Any, Any]]
    step: Callable[[np.ndarray, np.ndarray, Any], tuple[Any, Any]]
    ahead: Callable[..., tuple[np.ndarray, np.ndarray, Any]] | None = None


@dataclass(frozen=True)
class Asked:
    """What is to be generated: at most so many `tokens` a row after prompts, of at most `length` positions together;
    `done` says of a row's ids whether it ends there, and why, and `cached` whether keys and values are kept. With
    `forced`, the tokens (B, N) that follow, nothing is drawn."""

    tokens: int
    length: int
    drawing: Drawing = Drawing()
    cached: bool = True
    done: Callable[[list[int]], str] = lambda ids: ""
    forced: Sequence[Sequence[int]] | None = None


@dataclass
class Row:
    """What was generated of a prompt, ids `prompt`: a Choice for each token, and why it ended: what `done` said, or
    "tokens"."""

    prompt: np.ndarray
    choices: list[Choice] = field(default_factory=list)
    ended: str = ""

    @property
    def ids(self) -> list[int]:
        """The tokens that were generated."""
        return [choice.token for choice in self.choices]


@dataclass
class Coming:
    """Steps that were computed ahead, (the tokens int32 (B,) that they follow, logits (B, V)) of each, and how many the
    next call is asked for: twice as many as the last where that took half a BURST or less."""

    steps: deque[tuple[np.ndarray, np.ndarray]] = field(default_factory=deque)
    count: int = 1

    def take(self, tokens: np.ndarray, rows: Sequence[Row]) -> np.ndarray | None:
        """Logits (B, V) that follow `tokens` (B,) in the rows that have not ended, or None; what follows others is
        dropped."""
        if self.steps:
            guessed, logits = self.steps.popleft()
            if all(row.ended or token == guess for row, token, guess in zip(rows, tokens, guessed, strict=True)):
                return logits
            self.steps.clear()
        return None

    def pace(self, seconds: float) -> None:
        """Sets `count` after a call of as many steps that took so long."""
        if seconds > BURST:
            self.count = max(1, self.count // 2)
        elif seconds <= BURST / 2:
            self.count = min(AHEAD, 2 * self.count)


def bucket(positions: int, most: int) -> int:
    """The power of two of positions that holds so many, `most` at most."""
    return min(most, max(LEAST, 1 << (positions - 1).bit_length()))


def check_room(prompts: Sequence[np.ndarray], tokens: int, length: int) -> None:
    """Raises BadInput where prompts are empty, or leave no room for so many tokens in `length` positions."""
    for number, prompt in enumerate(prompts, 1):
        if not len(prompt):
            raise BadInput(f"--prompt: number {number} is empty: a decoder continues at least one token")
        if len(prompt) >= length:
            raise BadInput(f"--prompt: number {number} has {len(prompt)} tokens, but the model reads {length} "
                           f"(data.sequence), of which it continues {length - 1} at most: shorten it")
    longest = max(map(len, prompts))
    if longest + tokens > length:
        raise BadInput(f"--tokens {tokens}: the longest prompt has {longest} tokens, and the model reads {length} "
                       f"(data.sequence): take --tokens {length - longest} at most")


def generate(sampler: Sampler, prompts: Sequence[np.ndarray], asked: Asked,
             tell: Callable[[list[Row]], Any] = lambda rows: None) -> list[Row]:
    """A Row for each prompt, ids int32 (T,); `tell` is called with them after every step, and must change none.

    A row's tokens do not depend on the others', for its bits are those of its number, and where it has ended it is only
    filled up. Raises BadInput as `check_room` does.
    """
    check_room(prompts, asked.tokens, asked.length)
    rows = [Row(prompt) for prompt in prompts]
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    ids = np.zeros((len(rows), asked.length), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[:len(prompt)] = prompt
    slots = bucket(int(lengths.max()) + asked.tokens - 1, asked.length)
    logits, cache, last, coming = None, None, np.zeros(len(rows), np.int32), Coming()
    for number in range(asked.tokens):
        if number and asked.cached:
            logits = coming.take(last, rows)
            if logits is None:
                step = further if sampler.ahead and asked.forced is None else one_step
                logits, cache = step(sampler, last, lengths + np.int32(number - 1), cache, (asked, number, coming))
        else:
            read = bucket(int(lengths.max()) + number, asked.length)
            logits, cache = sampler.start(ids[:, :read], lengths + np.int32(number), slots if asked.cached else read)
        last = taken(np.asarray(logits), rows, asked, number)
        ids[np.arange(len(rows)), lengths + number] = last
        tell(rows)
        if all(row.ended for row in rows):
            break
    return rows


def one_step(sampler: Sampler, last: np.ndarray, positions: np.ndarray, cache: Any, at: Any) -> tuple[Any, Any]:
    """(logits after tokens at their positions, the cache)."""
    return sampler.step(last, positions, cache)


def further(sampler: Sampler, last: np.ndarray, positions: np.ndarray, cache: Any, at: tuple[Asked, int, Coming]
            ) -> tuple[np.ndarray, Any]:
    """As `one_step`, by a sampler that goes on by itself: what it computes beyond is put into the Coming. `at` is what
    is asked for, the number of the token that comes next, and the Coming."""
    asked, number, coming = at
    count = min(coming.count, asked.tokens - number)
    drawn = np.zeros((AHEAD, len(last)))
    if not asked.drawing.likeliest:
        drawn[:count] = [uniforms(asked.drawing.seed, number + i, len(last)) for i in range(count)]
    assert sampler.ahead is not None
    start = time.perf_counter()
    tokens, logits, cache = sampler.ahead(last, positions, cache, count, asked.drawing, drawn)
    if count == coming.count:  # fewer at the end say nothing
        coming.pace(time.perf_counter() - start)
    coming.steps.extend(zip(tokens[:-1], logits[1:], strict=True))
    return logits[0], cache


def taken(logits: np.ndarray, rows: Sequence[Row], asked: Asked, number: int) -> np.ndarray:
    """The next token of each row, int32 (B,), put into the rows that have not ended; 0 for the others."""
    drawn = np.zeros(len(rows)) if asked.drawing.likeliest else uniforms(asked.drawing.seed, number, len(rows))
    last = np.zeros(len(rows), np.int32)
    for i, row in enumerate(rows):
        if row.ended:
            continue
        if asked.forced is None:
            choice = choose(logits[i], asked.drawing, drawn[i])
        else:
            token = asked.forced[i][number]
            choice = Choice(token, float(log_softmax(np.asarray(logits[i], np.float64))[token]), np.inf)
        row.choices.append(choice)
        last[i] = choice.token
        full = asked.tokens if asked.forced is None else len(asked.forced[i])
        row.ended = asked.done(row.ids) or ("tokens" if len(row.choices) == full else "")
    return last
