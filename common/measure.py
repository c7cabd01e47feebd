"""Step times side by side: the trainer's loop against bare steps over a resident batch, and the data pipeline alone."""

import tempfile
import time

from common.data import training_batches
from common.loop import InFlight, Ledger
from common.run import Logger
from common.trace import fresh

BENCHES = {}  # one a process: the state that a recipe's measurements go on from


def measure_start(room, recipe):
    """Compiles the step and makes it warm; returns the device kind."""
    dataset, devices, state = fresh(room, recipe)
    step = room.make_step(recipe, state, devices)
    batch = next(training_batches(dataset, recipe, 0, 1))[1]
    BENCHES[recipe.hash] = bench = {"dataset": dataset, "devices": devices, "state": state, "step": step, "number": 0,
                                    "batch": batch}
    bare(recipe, bench, 2)
    return devices.kind


def measure_steps(room, recipe, kind, count):
    """Seconds a step over `count` steps, of "bare" steps over one resident batch or of the trainer's "loop"."""
    bench = BENCHES[recipe.hash]
    start = time.perf_counter()
    {"bare": bare, "loop": loop}[kind](recipe, bench, count)
    return (time.perf_counter() - start) / count


def bare(recipe, bench, count):
    metrics = None
    for _ in range(count):
        bench["state"], metrics = bench["step"](bench["state"], bench["number"], bench["batch"])
        bench["number"] += 1
    float(metrics["loss"])


def loop(recipe, bench, count):
    first = bench["number"]
    with tempfile.TemporaryDirectory() as folder, Logger(folder) as logger:
        ledger = Ledger(recipe, bench["dataset"], bench["devices"], logger, lambda *_, **__: None, 1)
        batches = training_batches(bench["dataset"], recipe, first, first + count)
        for number, batch, digest in ledger.waiting(batches):
            bench["state"], metrics = ledger.dispatch(bench["step"], bench["state"], number, batch)
            ledger.take(InFlight(number, metrics, digest, batch))
        ledger.settle()
    bench["number"] += count


def measure_data(room, recipe, count):
    """Seconds a batch of the data pipeline with nobody waiting for it."""
    dataset = BENCHES[recipe.hash]["dataset"]
    start = time.perf_counter()
    for _ in training_batches(dataset, recipe, 0, count):
        pass
    return (time.perf_counter() - start) / count
