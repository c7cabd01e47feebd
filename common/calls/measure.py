"""Rounds of steps: of the trainer's loop, bare over a resident batch, and what else a step costs, each timed as a
whole."""

import itertools
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscale.common.data import open_dataset, training_batches
from twinscale.common.machine.flops import product_rate
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.ledger import InFlight, Ledger
from twinscale.common.training.room import Room
from twinscale.common.training.run_metrics import Logger
from twinscale.common.training.session import Session, open_session

BENCHES = {}  # by recipe: the session that its measurements go on from


@dataclass
class Bench:
    """A session, the state and the number of its next step, and a batch that stays."""

    session: Session
    state: Any
    number: int
    batch: dict


def measure_start(room: Room, recipe: Recipe) -> None:
    """Compiles the step and makes it warm."""
    with room.numerics(recipe):
        session = open_session(room, recipe)
        batch = next(training_batches(session.dataset, recipe, 0, 1))[1]
        BENCHES[recipe] = bench = Bench(session, session.state, 0, batch)
        bare(recipe, bench, 2)


def measure_steps(room: Room, recipe: Recipe, kind: str, count: int) -> float:
    """Seconds of a round of `count` steps, from before the first dispatch until the last is waited for: of "bare" steps
    over one resident batch or of the trainer's "loop". Both read metrics a step late, so that one step alone has no
    time of its own."""
    with room.numerics(recipe):
        return {"bare": bare, "loop": loop}[kind](recipe, BENCHES[recipe], count)


def bare(recipe: Recipe, bench: Any, count: int) -> float:
    """Seconds of steps over one resident batch."""
    start, in_flight = time.perf_counter(), {}
    for _ in range(count):
        bench.state, metrics = bench.session.step(bench.state, bench.number, bench.batch)
        wait(in_flight)
        in_flight = metrics
        bench.number += 1
    wait(in_flight)
    return time.perf_counter() - start


def wait(metrics: Any) -> None:
    """Reads a step's metrics, and so waits for it."""
    for value in metrics.values():
        np.asarray(value)


def loop(recipe: Recipe, bench: Any, count: int) -> float:
    """Seconds of steps as the trainer takes them."""
    with tempfile.TemporaryDirectory() as folder, Logger(folder) as logger:
        ledger = Ledger(recipe, bench.session.dataset, bench.session.devices, logger, lambda *_, **__: None, None)
        batches = training_batches(bench.session.dataset, recipe, bench.number, bench.number + count)
        ledger.compiled = 0.0  # nothing is left to compile
        first = next(batches)  # the pipeline starts once a training, and not once a round
        start = time.perf_counter()
        for number, batch, digest in ledger.waiting(itertools.chain([first], batches)):
            bench.state, metrics = ledger.dispatch(bench.session.step, bench.state, number, batch)
            ledger.take(InFlight(number, metrics, digest, batch))
        ledger.finish()
        taken = time.perf_counter() - start
    bench.number += count
    return taken


def measure_data(room: Room, recipe: Recipe, count: int) -> float:
    """Seconds a batch of the data pipeline with nobody waiting for it."""
    dataset = BENCHES[recipe].session.dataset
    start = time.perf_counter()
    for _ in training_batches(dataset, recipe, 0, count):
        pass
    return (time.perf_counter() - start) / count


def measure_input(room: Room, recipe: Recipe, count: int) -> float:
    """Examples a second of the data pipeline as a training has it, made ahead and handed over to the devices, with no
    step to wait for: of `count` batches after the first."""
    with room.numerics(recipe):
        dataset, devices = open_dataset(recipe), room.open_devices(recipe)
        with closing(training_batches(dataset, recipe, 0, count + 1)) as batches:
            placed = room.place(devices, next(batches)[1])
            start = time.perf_counter()
            for _, batch, _ in batches:
                placed = room.place(devices, batch)
            wait({"row": placed["row"]} if hasattr(placed["row"], "__array__") else {})
            return count * recipe.train.global_batch / (time.perf_counter() - start)


def measure_product(room: Room, recipe: Recipe, dtype: Any) -> float:
    """Operations a second of the best of this framework's own matrix products, for `common.machine.flops.best_rate`."""
    with room.numerics(recipe):
        (_, product), = BENCHES[recipe].session.devices.libraries
        return product_rate(product, dtype)


def measure_device(room: Room, recipe: Recipe) -> dict[str, Any]:
    """What the steps run on: the devices' names and kind, and of the first, where the framework says so, platform,
    capability, and the most bytes that it has held at once of those that it may."""
    devices = BENCHES[recipe].session.devices
    first = devices.mesh.devices.flat[0] if hasattr(devices, "mesh") else None
    memory = (first.memory_stats() if first else None) or {}
    return {"names": devices.names, "kind": devices.kind, "platform": getattr(first, "platform", None),
            "capability": getattr(first, "compute_capability", None), "peak_bytes": memory.get("peak_bytes_in_use"),
            "limit_bytes": memory.get("bytes_limit")}
