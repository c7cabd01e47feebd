"""What is a runtime's own on a CPU: the single operations of a decoder's step, with nothing of ours around them, beside
what this machine's memory and multiply units do at best.

    python -m twinscale.benchmarks.timing.operations RECIPE [KEY=VALUE ...]

Each operation is timed at the recipe's sizes in jitted JAX, in TensorFlow with XLA and, where `make peers` has made its
environment or TWINSCALE_PEERS names one, in PyTorch: in alternating rounds with a copy of as many bytes. It can be no
faster than both that copy and its products at the machine's best rate. How many times as long it takes is printed with
its 95 % interval; --json prints the seconds too.
"""

import argparse
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.peers.operations import CALL, SIDE, SQUARED, Operation, operations
from twinscale.benchmarks.rounds import in_turns, median_interval, ratio_interval
from twinscale.benchmarks.timing.peers import Peer, job, opened, python_of
from twinscale.common import process
from twinscale.common.data import open_dataset
from twinscale.common.errors import DID_IT, BadInput, MissingEnvironment
from twinscale.common.families.parameters import parameters
from twinscale.common.files.output import answer, safe_console, table_of
from twinscale.common.machine.flops import best_rate, numpy_product, product_rate
from twinscale.common.recipe.file import given
from twinscale.common.recipe.schema import Recipe

# {side: (its module of `benchmarks/peers/`, what that imports)}
SIDES = {"JAX": ("operations_jax", ("jax",)), "TensorFlow": ("operations_tensorflow", ("tensorflow",)),
         "PyTorch": ("operations_torch", ("torch",))}
ROUNDS, ROUND, CALLS = 10, 0.1, 100  # about how many seconds a round of an operation takes, and its most calls
RATED, TRIED = 4, 5  # calls for a rate of products, and for which way of copying is the faster
COPY = "copy"


def asked_of(recipe: Recipe, dataset: Any) -> dict[str, Any]:
    """The job of `benchmarks/peers/operations.py`. Raises BadInput for what is no decoder, in float32, of
    those that peers train."""
    found = job(recipe, dataset)
    if not found["causal"] or found["precision"] != "float32":
        raise BadInput('model.family, train.precision: single operations are those of a decoder in "float32"')
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    return found | {"shapes": [list(x.shape) for x in tree.values()]}


def commands(wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """({side: (its command, its job)} of those whose packages are found, why others are left out)."""
    found, absent = {}, []
    for side, (module, imports) in SIDES.items():
        try:
            python = python_of(side, imports)
        except MissingEnvironment as error:
            absent.append(str(error).removeprefix("--peers "))
            continue
        found[side] = [python, "-P", "-m", f"twinscale.benchmarks.peers.{module}"], wanted
    return found, absent


# ---- what is measured

def copier(values: int) -> Callable[[], Any]:
    """What copies half of so many float32 values onto the other half: by one thread for each core, or by one alone
    where that is the faster."""
    cores = len(os.sched_getaffinity(0))
    source, target = (np.ones(max(1, values // 2), np.float32) for _ in range(2))
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    pool = ThreadPoolExecutor(cores)

    def alone():
        np.copyto(target, source)

    def shared():
        for done in [pool.submit(np.copyto, *part) for part in parts]:
            done.result()

    return min(alone, shared, key=lambda copy: min(copied(copy, 1) for _ in range(TRIED)))


def copied(copy: Callable[[], None], count: int) -> float:
    """Seconds of so many copies."""
    start = time.perf_counter()
    for _ in range(count):
        copy()
    return time.perf_counter() - start


def copies_of(values: int) -> Callable[..., float]:
    """What times copies as a side times an operation: (its name, count) to seconds."""
    copy = copier(values)
    return lambda name, count: copied(copy, count)


def rate_of(peers: Mapping[str, Callable[..., float]], turns: int) -> tuple[float, str]:
    """(operations a second, whose) of the best product that NumPy or any side manages in so many turns."""
    def rate(ask):
        return RATED * 2 * SIDE**3 / ask(SQUARED, RATED)

    for ask in peers.values():
        ask(SQUARED, 1)
    return best_rate({"NumPy": functools.partial(product_rate, numpy_product, "float32")}
                     | {side: functools.partial(rate, ask) for side, ask in peers.items()}, turns)


def rounds_of(name: str, sides: Mapping[str, Callable[..., float]], rounds: int) -> dict[str, list[float]]:
    """{side: seconds of a call in each round} of an operation, by `in_turns`. Calls of a round are as many for all;
    what compiles, and what says how many there are, is left out."""
    for ask in sides.values():
        ask(name, 1)
    count = int(np.clip(math.ceil(ROUND / max(1e-9, *(ask(name, 1) for ask in sides.values()))), 1, CALLS))
    taken = in_turns({side: functools.partial(ask, name, count) for side, ask in sides.items()}, rounds)
    return {side: [seconds / count for seconds in each] for side, each in taken.items()}


def figures(operation: Operation, taken: Mapping[str, Sequence[float]], rate: float) -> dict[str, Any]:
    """An operation's least seconds, of which of the two bounds, and of each side its seconds and how many times the
    bound of the same round they are. `taken` has the rounds of the copy too."""
    multiplied = operation.flops / rate
    least = [max(seconds, multiplied) for seconds in taken[COPY]]
    bound = median_interval(least)[1]
    found: dict[str, Any] = {}
    for side, seconds in taken.items():
        if side != COPY:
            low, middle, high = ratio_interval(seconds, least) or (math.nan,) * 3
            found[side] = {"seconds": median_interval(seconds)[1], "times": middle, "times_interval": [low, high]}
    return {"least_seconds": bound, "bound": "products" if multiplied >= bound else "memory",
            "bytes": 4 * operation.values, "flops": operation.flops, "sides": found}


def measured(recipe: Recipe, rounds: int = ROUNDS) -> dict[str, Any]:
    """{"recipe", "rounds", "versions", "absent": [why], "rate", "rate_from", "operations": {name: `figures`},
    "call_seconds": {side: of a call that computes next to nothing}}. Raises MissingEnvironment where no side is
    here."""
    wanted = asked_of(recipe, open_dataset(recipe))
    process.keep_memory()
    found, absent = commands(wanted)
    if not found:
        raise MissingEnvironment("; ".join(absent))
    with opened(found) as peers:
        asks: dict[str, Callable[..., float]] = {peer.name: functools.partial(seconds_of, peer) for peer in peers}
        rate, whose = rate_of(asks, rounds)
        made = {}
        for name, operation in operations(wanted).items():
            sides = {COPY: copies_of(operation.values), **asks}
            made[name] = figures(operation, rounds_of(name, sides, rounds), rate)
        calls = {side: median_interval(seconds)[1] for side, seconds in rounds_of(CALL, asks, rounds).items()}
        versions = {peer.name: peer.versions for peer in peers}
    return {"recipe": recipe.name, "rounds": rounds, "versions": versions, "absent": absent, "rate": rate,
            "rate_from": whose, "operations": made, "call_seconds": calls}


def seconds_of(peer: Peer, name: str, count: int) -> float:
    """Seconds of so many calls of an operation in a side's process."""
    return peer.ask({"name": name, "count": count})["seconds"]


# ---- what is said

def show(result: Mapping[str, Any]) -> None:
    """Prints a table, a row for each operation, and what it goes by."""
    columns = ("operation", "best, ms", "of", "", "ms", "times as long")
    table = table_of(columns, title=result["recipe"], right=(1, 4), tight=True)
    for name, each in result["operations"].items():
        bound = (name, sig(1e3 * each["least_seconds"], 3), each["bound"])
        for number, (side, found) in enumerate(each["sides"].items()):
            table.add_row(*(("", "", "") if number else bound), side, sig(1e3 * found["seconds"], 3),
                          f"{sig(found['times'])} [{' – '.join(map(sig, found['times_interval']))}]")
    console = safe_console()
    console.print(table)
    console.print(f"[ ]: 95 % intervals over {result['rounds']} rounds. Best: as many bytes copied, or the best "
                  f"float32 matrix product of {result['rate_from']} here ({sig(result['rate'] / 1e9, 3)} GFLOP/s), "
                  "whichever takes longer. Of its time a call that computes nothing takes " + ", ".join(
                      f"{side} {sig(1e3 * seconds)} ms" for side, seconds in result["call_seconds"].items()) + ".")
    for why in result["absent"]:
        console.print(f"left out: {why}")


def main(words: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(description="What is a runtime's own on a CPU: single operations of a step.")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(words)
    answer(measured(given(asked.recipe, asked.overrides), asked.rounds), show, asked.json)
    return DID_IT


if __name__ == "__main__":
    sys.exit(main())
