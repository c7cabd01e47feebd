"""How much a cache of keys and values saves: seconds of the same tokens with it and without, in alternating rounds.

    python -m twinscale.benchmarks.timing.generation RECIPE [KEY=VALUE ...]

prints for each backend that is installed the seconds, tokens a second and their ratio with its 95 % interval, and exits
with 1 where the ratio is below LEAST. Without a cache each token reads all that stands before it, in the smallest power
of two of positions that holds it; both ways give the same tokens. First weights, prompts of 16 tokens, greedy.
"""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report.words import interval
from twinscale.benchmarks.rounds import in_turns, median_interval, ratio_interval
from twinscale.benchmarks.workers import ROOMS, Trainer, open_workers
from twinscale.common.errors import DID_IT, NO
from twinscale.common.need import BACKENDS, lacking
from twinscale.common.recipe.file import given
from twinscale.common.recipe.schema import Recipe

TOKENS, ROUNDS = 128, 6
LEAST = 5.0  # times as fast with a cache


def rounds_of(recipe: Recipe, workers: Mapping[str, Trainer], tokens: int, rounds: int) -> dict[str, dict[bool, Any]]:
    """{backend: {cached: seconds of each round}}, by `in_turns`."""
    taken = in_turns({(backend, cached): functools.partial(
        worker.ask, "measure_generation", recipe, tokens=tokens, cached=cached)
        for backend, worker in workers.items() for cached in (False, True)}, rounds)
    return {backend: {cached: taken[backend, cached] for cached in (True, False)} for backend in workers}


def summary(taken: Mapping[bool, Sequence[float]], tokens: int) -> dict[str, Any]:
    """Medians (seconds), tokens a second with a cache, and how many times as fast it is, with an interval."""
    low, ratio, high = ratio_interval(taken[False], taken[True])
    cached, uncached = (median_interval(taken[way])[1] for way in (True, False))
    return {"tokens": tokens, "cached_s": cached, "uncached_s": uncached,
            "tokens_per_s": tokens / cached, "times": ratio, "times_interval": [low, high]}


def line(backend: str, found: Mapping[str, Any]) -> str:
    """A backend's figures as text."""
    return (f"{backend}: {found['tokens']} tokens in {sig(found['cached_s'], 3)} s with a cache "
            f"({sig(found['tokens_per_s'], 3)} a second), {sig(found['uncached_s'], 3)} s without: "
            f"{sig(found['times'], 3)} [{interval(found['times_interval'])}] times as fast")


def measured(recipe: Recipe, tokens: int = TOKENS, rounds: int = ROUNDS) -> dict[str, dict[str, Any]]:
    """{backend: its `summary`} of the backends that are installed."""
    rooms = {backend: module for backend, module in ROOMS.items() if lacking(BACKENDS[backend]) is None}
    with open_workers({}, rooms) as workers:
        taken = rounds_of(recipe, workers, tokens, rounds)
    return {backend: summary(each, tokens) for backend, each in taken.items()}


def main(words: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(description="How much a cache of keys and values saves.")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args(words)
    found = measured(given(asked.recipe, asked.overrides), asked.tokens, asked.rounds)
    for backend, each in found.items():
        print(line(backend, each))
    return DID_IT if all(each["times"] >= LEAST for each in found.values()) else NO


if __name__ == "__main__":
    sys.exit(main())
