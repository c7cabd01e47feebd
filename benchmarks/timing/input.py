"""How fast examples come without any training: the order, the rows gathered, the hashes, and the hand-over to devices.

    python -m twinscale.benchmarks.timing.input RECIPE [KEY=VALUE ...]

prints how many examples a second one core makes at each stage, by its own CPU seconds, which other work beside it does
not count into; and for each backend that is installed how many come onto its devices, by the clock.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.rounds import in_turns, median_interval
from twinscale.benchmarks.workers import ROOMS, Trainer, open_workers
from twinscale.common import process
from twinscale.common.data import Dataset, open_dataset
from twinscale.common.data.batches import digest, made
from twinscale.common.data.order import examples
from twinscale.common.errors import DID_IT
from twinscale.common.need import BACKENDS, lacking
from twinscale.common.recipe.file import given
from twinscale.common.recipe.schema import Recipe

BATCHES, ROUNDS = 100, 5


def stages(recipe: Recipe, dataset: Dataset, count: int) -> dict[str, float]:
    """{"order", "batches", "hash": examples a second of one core}: which examples a row has; the order and the rows
    gathered, augmented where the recipe says so; and the SHA-256 of what was gathered. Of `count` batches."""
    rows = count * recipe.train.global_batch
    number = list(range(recipe.train.global_batch))
    kept: list[dict[str, Any]] = []

    def batches():
        for _, batch in made(dataset, recipe, 0, count, 0, 1, False):
            kept[:] = [batch]

    def order():
        steps = [[step] for step in range(count)]
        examples(number, steps, recipe.train.global_batch, len(dataset.train), recipe.seed)

    found = {"order": rows / seconds(order), "batches": rows / seconds(batches)}
    return found | {"hash": recipe.train.global_batch / seconds(lambda: digest(kept[0]))}


def seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of this thread for a call, after one that finds memory and files cold."""
    function()
    start = time.thread_time()
    function()
    return max(time.thread_time() - start, 1e-9)


def handed_over(recipe: Recipe, workers: Mapping[str, Trainer], count: int, rounds: int
                ) -> dict[str, tuple[float, float, float]]:
    """{backend: (low, median, high) of the examples a second that come onto its devices}, over rounds that
    alternate."""
    taken = in_turns({backend: functools.partial(worker.ask, "measure_input", recipe, count=count)
                      for backend, worker in workers.items()}, rounds)
    return {backend: median_interval(rates) for backend, rates in taken.items()}


def main(words: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(description="How fast examples come without any training.")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args(words)
    recipe = given(asked.recipe, asked.overrides)
    process.keep_memory()  # as trainers do
    found = stages(recipe, open_dataset(recipe), asked.batches)
    print("one core: " + ", ".join(f"{name} {sig(rate, 3)}" for name, rate in found.items()) + " examples/s")
    rooms = {backend: module for backend, module in ROOMS.items() if lacking(BACKENDS[backend]) is None}
    with open_workers({}, rooms) as workers:
        for backend, (low, rate, high) in handed_over(recipe, workers, asked.batches, asked.rounds).items():
            print(f"{backend}: {sig(rate, 3)} [{sig(low, 3)} - {sig(high, 3)}] examples/s on the devices")
    return DID_IT


if __name__ == "__main__":
    sys.exit(main())
