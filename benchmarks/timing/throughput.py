"""Step times of both backends side by side in one run: machines drift, so that only ratios of neighbours count."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.rounds import median_interval, ratio_interval
from twinscale.benchmarks.sides import HERE, framework_of
from twinscale.benchmarks.workers import Worker, each
from twinscale.common.backends import BACKENDS, RUNTIMES
from twinscale.common.machine.flops import best_rate, numpy_product, peak_flops, product_rate, train_flops
from twinscale.common.recipe.schema import Recipe, positions

if TYPE_CHECKING:
    from twinscale.common.data import Dataset

KINDS = ("bare", "loop")  # steps over one resident batch, and those of the trainer's loop
STEPS, ROUND = (2, 64), 0.06  # fewest and most steps of a round, and about how many seconds it should take
ROUNDS, SECONDS = (6, 24), 0.8  # fewest and most rounds, and about how long those of a backend may take
FEW = 6  # rounds of what is cheap or stands for itself: data


def side_by_side(recipe: Recipe, dataset: "Dataset", workers: Mapping[str, Worker], performance: dict[str, Any]
                 ) -> dict[str, Any]:
    """Each backend's performance, with step times that were taken while the other waited.

    Rounds alternate between backends, and between the trainer's loop and bare steps over one resident batch, which of
    them goes first by turns. Throughput and MFU follow the loop's median round; the MFU is of one peak for all.
    """
    each(workers, lambda worker: worker.ask("measure_start", recipe))
    devices = each(workers, lambda worker: worker.ask("measure_device", recipe))
    slowest = max(side["step_ms_median"] for side in performance.values()) / 1e3
    steps = int(np.clip(ROUND / slowest, *STEPS))
    taken = take_turns(recipe, workers, steps, int(np.clip(SECONDS / (2 * steps * slowest), *ROUNDS)))
    data = {backend: [] for backend in workers}
    for _ in range(FEW):
        for backend, worker in workers.items():
            data[backend].append(worker.ask("measure_data", recipe, count=100))
    measured, flops = common_peak(recipe, workers), train_flops(recipe.model, dataset.classes, dataset.example_shape)
    sides = {}
    for backend in workers:
        side = performance[backend] | summary(steps, **taken[backend][0], data=data[backend])
        side["throughput"] = 1e3 * positions(recipe) / side["step_ms_median"]
        sides[backend] = side | utilisation(recipe, devices[backend], flops, side["step_ms_median"] / 1e3, measured)
    return sides


def take_turns(recipe: Recipe, workers: Mapping[str, Worker], steps: int, rounds: int,
               say: Callable[[int], Any] = lambda turn: None, peers: Sequence[Callable[[int], float]] = ()
               ) -> dict[str, Any]:
    """{backend: (seconds, walls)}: seconds of each round of `steps` by kind, and as it looked from here. Who goes
    first, and with what, changes each round; a first one warms up, and is left out. `say` is told each. `peers` take
    their turns after the backends in one round, before them in the next; each keeps its seconds."""
    taken = {backend: ({kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}) for backend in workers}
    for turn in range(rounds + 1):
        say(turn)
        order = slice(None, None, -1 if turn % 2 else 1)
        for peer in peers[order] if turn % 2 else ():
            peer(steps)
        for backend in list(workers)[order]:
            for kind in KINDS[order]:
                start = time.perf_counter()
                seconds = workers[backend].ask("measure_steps", recipe, kind=kind, count=steps)
                if turn:
                    taken[backend][0][kind].append(seconds)
                    taken[backend][1][kind].append(time.perf_counter() - start)
        for peer in () if turn % 2 else peers:
            peer(steps)
    return taken


def common_peak(recipe: Recipe, workers: Mapping[str, Worker]) -> Callable[[str], Any]:
    """What `peak_flops` asks for a rate that is measured: the best product that NumPy or any of the workers' frameworks
    reaches, asked in turns while the others wait, once for all backends."""
    @functools.cache
    def measured(wide):
        names, own = {b: RUNTIMES[each.runtime] for b, each in BACKENDS.items()}, framework_of(recipe.model)
        return best_rate({"NumPy": functools.partial(product_rate, numpy_product, wide)} | {
            names.get(own or HERE.get(backend, backend), backend):
                functools.partial(worker.ask, "measure_product", recipe, dtype=wide)
            for backend, worker in workers.items()})

    return measured


def utilisation(recipe: Recipe, device: Mapping[str, Any], flops: float, seconds: float,
                measured: Callable[[str], Any]) -> dict[str, Any]:
    """{"mfu", "mfu_convention"} of steps of so many seconds, None where nobody knows the device's peak."""
    peak, peak_from = peak_flops(device["kind"], recipe.train.precision, len(device["names"]), measured)
    known = device["kind"].lower() == "cpu" or "matrix product" not in peak_from
    return {"mfu": recipe.train.global_batch * flops / seconds / peak if known else None,
            "mfu_convention": f"causal FLOPs / {peak_from}" if known else None}


def summary(steps: int, bare: Sequence[float], loop: Sequence[float], data: Sequence[float]) -> dict[str, Any]:
    """What the rounds say: seconds of each round of `steps`, bare and of the loop, and of one batch of data in each of
    some rounds. Every ratio is of pairs and has its interval."""
    bares, loops = (np.asarray(rounds) / steps for rounds in (bare, loop))
    low, median, high = (1e3 * x for x in median_interval(loops))
    overhead, ahead = (ratio_interval(*pair) for pair in (
        (loops.tolist(), bares.tolist()), (bares[:len(data)].tolist(), data)))
    return {"round_steps": steps, "step_ms": (1e3 * loops).tolist(), "step_ms_median": median,
            "step_ms_interval": [low, high], "bare_step_ms": (1e3 * bares).tolist(),
            "bare_step_ms_median": 1e3 * float(np.median(bares)),
            **named("loop_overhead_percent", overhead, lambda x: 100 * (x - 1)), **named("data_ratio", ahead)}


def named(key: str, interval: Any, change: Callable[[float], float] = lambda x: x
          ) -> dict[str, Any]:
    """A figure under its key and its interval under another."""
    low, middle, high = map(change, interval)
    return {key: middle, f"{key}_interval": [low, high]}
