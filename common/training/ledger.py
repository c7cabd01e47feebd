"""What is known of a training's steps: their metrics, read a step late, how long they took, and where all time went."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common import process
from twinscale.common.machine.flops import measured_peak, peak_flops, train_flops
from twinscale.common.metrics.words import line
from twinscale.common.recipe.schema import positions

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.pulse import Pulse
    from twinscale.common.training.run_metrics import Logger


def unit(dataset: "Dataset") -> str:
    """What a rate counts: tokens of text, else examples."""
    return "tokens/s" if dataset.kind == "text" else "examples/s"


@dataclass(frozen=True)
class InFlight:
    """A dispatched step whose metrics have not been read, or of a call of several steps the first's number, and their
    digests and batches as lists."""

    number: int
    metrics: Mapping[str, Any]
    digest: Any
    batch: Any

    def steps(self) -> list["InFlight"]:
        """The steps one by one, their metrics read, as NumPy arrays."""
        read = {name: np.asarray(x) for name, x in self.metrics.items()}
        if isinstance(self.batch, Mapping):
            return [InFlight(self.number, read, self.digest, self.batch)]
        return [InFlight(self.number + i, {name: x[i] for name, x in read.items()}, self.digest[i], batch)
                for i, batch in enumerate(self.batch)]


@dataclass(frozen=True)
class Heard:
    """What the hosts together said a step ago."""

    stopping: bool = False  # some host was asked to stop
    overdue: bool = False  # a checkpoint is due by the clock
    written: int = 0  # hosts whose part of the last checkpoint is on disk


class BadLoss(Exception):
    """The loss of `step`, or its gradient, is not finite; the state has not moved since."""

    def __init__(self, step: Any) -> None:
        super().__init__(step.number)
        self.step = step


class Ledger:
    """What is known of the steps so far. Metrics are read a step late, so that the device never waits for the host.

    `seconds` go on from those of the run's earlier starts; durations and digests are of this start alone.
    """

    def __init__(self, recipe: "Recipe", dataset: "Dataset", devices: Any, logger: "Logger",
                 report: Callable[..., None], every: int | None, pulse: "Pulse | None" = None,
                 seconds: dict[str, float] | None = None) -> None:
        self.logger, self.report, self.every = logger, report, every or recipe.train.log_every
        rows, self.steps = recipe.train.global_batch, recipe.train.steps
        self.units, self.unit = positions(recipe), unit(dataset)
        self.flops = rows * train_flops(recipe.model, dataset.classes, dataset.example_shape)
        self.peak, self.peak_from, on_cpu = None, None, devices.kind.lower() == "cpu"
        # Else what runs beside it makes an MFU a figure of both, and of several hosts only this one's product is known.
        if not os.environ.get(process.SHARED) and not (on_cpu and devices.hosts > 1):
            self.peak, self.peak_from = peak_flops(
                devices.kind, recipe.train.precision, len(devices.names),
                lambda wide: measured_peak(wide, devices.libraries if on_cpu else ()))
        self.allow = pulse.allow if pulse else lambda *_, **__: None
        kinds = ("start", "compile", "train", "data_wait", "evaluate", "checkpoint", "trace", "lost")
        self.seconds = dict.fromkeys(kinds, 0.0) | (seconds or {})
        self.seconds["start"] += pulse.elapsed if pulse else 0.0
        self.compiled: float | None = None
        self.begun: float | None = None
        self.together = 1  # steps of the call dispatched last
        self.in_flight: InFlight | None = None
        self.heard, self.waited = Heard(), 0.0
        self.durations, self.digests, self.losses = [], [], []

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches; the time spent waiting for them is counted."""
        while True:
            start = time.perf_counter()
            item = next(batches, None)
            self.waited += time.perf_counter() - start
            if item is None:
                return
            yield item

    def dispatch(self, step: Callable, state: Any, number: int, batch: Any,
                 wishes: Sequence[int] = (0, 0, 0)) -> Any:
        """Runs the step, or those of a list of batches; `wishes` are what this host has to say of each field of Heard.
        The first call compiles; its time is kept apart."""
        self.allow(f"step {number}", patient=self.compiled is None)
        start = time.perf_counter()
        self.lap(start)
        self.together = 1 if isinstance(batch, Mapping) else len(batch)
        outcome = step(state, number, batch, wishes)
        if self.compiled is None:
            self.compiled = time.perf_counter() - start
            self.seconds["compile"] += self.compiled
        else:
            self.begun = start
        return outcome

    def lap(self, now: float) -> None:
        """Ends the duration of the step dispatched last: from its dispatch to the next, or to its settling where
        nothing follows at once. So it is the loop's whole period, whether dispatch waits for the device or not. Steps
        of one call have equal shares of it."""
        if self.begun is not None:
            self.durations += [(now - self.begun) / self.together] * self.together
            self.seconds["train"] += now - self.begun - self.waited
            self.begun = None
        self.seconds["data_wait"] += self.waited
        self.waited = 0.0

    def take(self, step: InFlight) -> Heard:
        """Settles the call before, and notes this one as in flight; returns what was heard last."""
        self.settle()
        self.in_flight = step
        return self.heard

    def settle(self) -> None:
        """Reads and logs the metrics of what is in flight; raises BadLoss of a step whose loss is not finite."""
        if self.in_flight is None:
            return
        call, self.in_flight = self.in_flight, None
        for step in call.steps():
            self.settle_one(step)

    def settle_one(self, step: InFlight) -> None:
        """The same of one step, whose metrics are read."""
        stopping, overdue, written = (round(float(x)) for x in step.metrics["signals"])
        self.heard = Heard(stopping > 0, overdue > 0, written)
        metrics = {name: float(value) for name, value in step.metrics.items() if name != "signals"}
        self.digests.append(step.digest)
        self.losses.append(metrics["loss"])
        # A framework may lose a NaN on its way forward: TensorFlow's fused product, bias and ReLU makes 0 of it.
        if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"])):
            raise BadLoss(step)
        rate = self.units / self.durations[-1] if self.durations else None
        mfu = self.flops / self.durations[-1] / self.peak if self.durations and self.peak else None
        # Above 1 where the host was busy while its peak was measured: then nothing is known.
        self.report(step.number + 1, loss=metrics["loss"], rate=rate, mfu=mfu if mfu and mfu <= 1 else None)
        if (step.number + 1) % self.every == 0:
            metrics |= {self.unit.replace("/s", "_per_second"): rate} if rate else {}
            self.logger.log(step.number, {f"train/{name}": value for name, value in metrics.items()})

    def finish(self) -> None:
        """Settles the step in flight, with nothing to follow at once."""
        self.settle()
        self.lap(time.perf_counter())

    @contextmanager
    def pause(self, kind: str) -> Iterator[None]:
        """Time that counts as `kind` and not as training; the step in flight is settled first."""
        self.finish()
        self.allow(f"to {kind}", patient=True)
        start = time.perf_counter()
        yield
        self.seconds[kind] += time.perf_counter() - start

    def evaluated(self, done: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of an evaluation after `done` steps under the last of them, as its training metrics are:
        a resumed run keeps all that is logged below its first step; and says what sums
        them up, but for the last, whose figures are the result."""
        if done < self.steps:
            self.report(done, held_out=line(metrics))
        self.logger.log(done - 1, {f"held_out/{name}": value for name, value in metrics.items()})

    def goodput(self) -> dict[str, Any]:
        """The share of all time so far, that of earlier starts too, in which steps were trained that are kept."""
        total = sum(self.seconds.values())
        return {"productive": self.seconds["train"], "total": total,
                "fraction": self.seconds["train"] / total if total else 0.0}

    def performance(self) -> dict[str, Any]:
        """Steady state: the first two steps are left out, the others given in milliseconds with quartiles."""
        steady = np.array(self.durations[1:] or self.durations or [math.nan])
        low, median, high = (float(x) for x in np.percentile(steady, [25, 50, 75]))
        return {"step_ms": [round(1e3 * d, 4) for d in self.durations], "step_ms_median": 1e3 * median,
                "step_ms_interval": [1e3 * low, 1e3 * high], "throughput": self.units / median, "unit": self.unit,
                "mfu": self.flops / median / self.peak if self.peak else None,
                "mfu_convention": f"causal FLOPs / {self.peak_from}" if self.peak else None,
                "compile_seconds": self.compiled or 0.0, "seconds": self.seconds,
                "goodput_percent": 100 * self.goodput()["fraction"]}
