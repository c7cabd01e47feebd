"""The outline of every training: what a room's `train.py` fills in is the framework."""

import math
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np

from common.data import held_out_batches, open_dataset, training_batches
from common.errors import NonFinite
from common.flops import peak_flops, train_flops
from common.metrics import finish
from common.progress import training_progress
from common.recipe import micro_batch
from common.run import Logger, open_run, write_json
from common.tensors import save_tensors


@dataclass(frozen=True)
class Room:
    """What a backend gives to the loop: its functions of these names."""

    backend: str  # "keras" or "jax"
    numerics: Callable  # (recipe) -> a context in which the recipe's precision holds
    open_devices: Callable  # (recipe) -> devices
    new_state: Callable  # (recipe, dataset, devices, dither) -> state
    make_step: Callable  # (recipe, state, devices) -> (state, number, batch) -> (state, metrics)
    make_evaluate: Callable  # (recipe, state, devices) -> (state, batches) -> summed statistics
    state_tensors: Callable  # (state) -> {"weights/NAME", "m/NAME", ...: array}
    step_tensors: Callable  # (recipe, state, devices, number, batch) -> {"logits", "loss", "gradients/NAME": array}
    shared_tensors: Callable  # (recipe) -> {what: array} that the backends must share bit for bit
    apply_gradients: Callable  # (recipe, state, devices, updates) -> the state after one update for each of `updates`
    Checkpoints: Callable  # (path, state, keep) -> .restore(state) .save(state) .close()


def run_training(room, recipe, run_dir, *, overwrite=False, permuted=False, dither=0.0, trace=None,
                 log_every=None, stop=None, evaluated=True, progress=True):
    """Trains a recipe into a run directory, on from its last checkpoint if it has one, and returns its final metrics.

    Args:
      room: the backend.
      overwrite: remove a finished run first.
      permuted: shuffle the rows within each batch, which changes the rounding alone (the twin).
      dither: relative size of a random change of the first weights (the twin of a run in bfloat16).
      trace: steps before which the state is written to `trace/step_N.safetensors`, and the end to
        `trace/final.safetensors`; None writes neither.
      log_every: in place of the recipe's train.log_every.
      stop: updates to end after, of the recipe's train.steps; the schedules stay those of all.
      evaluated: evaluate at the end.
    Raises: BadInput before anything is compiled or written; NonFinite with the step, the batch's hash and the first
      bad tensor.
    """
    dataset = open_dataset(recipe)
    with room.numerics(recipe), open_run(run_dir, recipe, room.backend, overwrite=overwrite) as run:
        devices = room.open_devices(recipe)
        state = room.new_state(recipe, dataset, devices, dither)
        checkpoints = room.Checkpoints(run.path / "checkpoints", state, recipe.train.keep)
        state = checkpoints.restore(state)
        step, evaluate = room.make_step(recipe, state, devices), room.make_evaluate(recipe, state, devices)
        start, steps = int(state.step), stop or recipe.train.steps
        run.update(devices=devices.names, data=dataset.manifest)

        with (closing(checkpoints), Logger(run.path, start) as logger,
              training_progress(steps, start, unit(dataset), progress) as report,
              closing(training_batches(dataset, recipe, start, steps, permuted=permuted)) as batches):
            ledger = Ledger(recipe, dataset, devices, logger, report, log_every or recipe.train.log_every,
                            run.info["seconds"])

            def save():
                with ledger.pause("checkpoint"):
                    checkpoints.save(state)
                run.update(seconds=ledger.seconds)

            try:
                for number, batch, digest in ledger.waiting(batches):
                    if number in (trace or ()):
                        with ledger.pause("trace"):
                            save_tensors(run.path / "trace" / f"step_{number}.safetensors", room.state_tensors(state))
                    state, metrics = ledger.dispatch(step, state, number, batch)
                    ledger.take(InFlight(number, metrics, digest, batch))
                    if due(number + 1, recipe.train.eval_every, steps):
                        with ledger.pause("evaluate"):
                            ledger.evaluated(number + 1, held_out(evaluate, state, dataset, recipe))
                    if due(number + 1, recipe.train.save_every, steps):
                        save()
                ledger.settle()
                with ledger.pause("evaluate"):
                    final = held_out(evaluate, state, dataset, recipe) if evaluated else {}
                    if evaluated and start < steps:  # else a run cut short after its last checkpoint has logged it
                        ledger.evaluated(steps, final)
                if start < steps:
                    save()
            except BadLoss as bad:
                raise NonFinite(explain(room, recipe, state, devices, bad.step)) from None
            finally:
                run.update(seconds=ledger.seconds)
        if trace is not None:
            save_tensors(run.path / "trace" / "final.safetensors", room.state_tensors(state))
            write_json(run.path / "trace" / "batches.json", ledger.digests)
        run.update(final=final, performance=ledger.performance())
    return final


def due(done, every, steps):
    """Whether something is to happen after `done` steps; the last step has its own evaluation and checkpoint."""
    return every and done % every == 0 and done < steps


def unit(dataset):
    return "tokens/s" if dataset.kind == "text" else "examples/s"


def held_out(evaluate, state, dataset, recipe):
    """Metrics over the whole held-out set: the remainder is padded with weight zero, never dropped."""
    label_bytes = None if dataset.token_bytes is None else 0

    def counted():
        nonlocal label_bytes
        for batch in held_out_batches(dataset, micro_batch(recipe)):
            if label_bytes is not None:
                label_bytes += int((dataset.token_bytes[batch["labels"]] * batch["weights"]).sum())
            yield batch

    sums = evaluate(state, counted())
    return finish(sums, label_bytes)


@dataclass(frozen=True)
class InFlight:
    """A dispatched step whose metrics have not been read."""

    number: int
    metrics: dict
    digest: str
    batch: dict


class BadLoss(Exception):
    """The loss of `step` is not finite; the state has not moved since."""

    def __init__(self, step):
        super().__init__(step.number)
        self.step = step


def explain(room, recipe, state, devices, step):
    """One line: the step, the batch and the first bad tensor, looked for in the order of computation."""
    tensors = {name: x for name, x in room.state_tensors(state).items() if name.startswith("weights/")}
    tensors |= room.step_tensors(recipe, state, devices, step.number, step.batch)
    first = next((name for name, x in tensors.items() if not np.isfinite(x.astype(np.float64)).all()), "the update")
    return (f"step {step.number}: the loss is {float(step.metrics['loss'])}; batch sha256 {step.digest}; "
            f"first bad tensor: {first}; lower optimizer.learning_rate, or set optimizer.clip_norm")


class Ledger:
    """What is known of the steps so far. Metrics are read a step late, so that the device never waits for the host.

    `seconds` go on from those of the run's earlier starts; durations and digests are of this start alone.
    """

    def __init__(self, recipe, dataset, devices, logger, report, every, seconds=None):
        self.logger, self.report, self.every = logger, report, every
        rows = recipe.train.global_batch
        self.units, self.unit = rows * (dataset.example_shape[0] if dataset.kind == "text" else 1), unit(dataset)
        self.flops = rows * train_flops(recipe.model, dataset.classes, dataset.example_shape)
        self.peak, self.peak_from = peak_flops(devices.kind, recipe.train.precision)
        kinds = ("compile", "train", "data_wait", "evaluate", "checkpoint", "trace")
        self.seconds = dict.fromkeys(kinds, 0.0) | (seconds or {})
        self.compiled, self.durations, self.digests, self.in_flight = 0.0, [], [], None
        self.clock = time.perf_counter()

    def waiting(self, batches):
        """The batches; the time spent waiting for them is counted."""
        while True:
            start = time.perf_counter()
            item = next(batches, None)
            self.seconds["data_wait"] += time.perf_counter() - start
            if item is None:
                return
            yield item

    def dispatch(self, step, state, number, batch):
        """Runs the step. The first call compiles; its time is kept apart."""
        start = time.perf_counter()
        outcome = step(state, number, batch)
        if not self.compiled:
            self.clock = time.perf_counter()
            self.compiled = self.clock - start
            self.seconds["compile"] += self.compiled
        return outcome

    def take(self, step):
        """Settles the step before, and notes this one as in flight."""
        self.settle()
        self.in_flight = step

    def settle(self):
        """Reads and logs the metrics of the step in flight; raises BadLoss where its loss is not finite."""
        if self.in_flight is None:
            return
        step, self.in_flight = self.in_flight, None
        metrics = {name: float(value) for name, value in step.metrics.items()}
        now = time.perf_counter()
        duration, self.clock = now - self.clock, now
        self.durations.append(duration)
        self.digests.append(step.digest)
        self.seconds["train"] += duration
        if not math.isfinite(metrics["loss"]):
            raise BadLoss(step)
        rate, mfu = self.units / duration, self.flops / duration / self.peak
        self.report(step.number + 1, loss=metrics["loss"], rate=rate, mfu=mfu)
        if (step.number + 1) % self.every == 0:
            metrics |= {self.unit.replace("/s", "_per_second"): rate}
            self.logger.log(step.number, {f"train/{name}": value for name, value in metrics.items()})

    @contextmanager
    def pause(self, kind):
        """Time that counts as `kind` and not as training; the step in flight is settled first."""
        self.settle()
        start = time.perf_counter()
        yield
        self.clock = time.perf_counter()
        self.seconds[kind] += self.clock - start

    def evaluated(self, done, metrics):
        """Logs the metrics of an evaluation after `done` steps under the last of them, as its training metrics are:
        a resumed run keeps all that is logged below its first step."""
        self.logger.log(done - 1, {f"held_out/{name}": value for name, value in metrics.items()})

    def performance(self):
        """Steady state: the first two steps are left out, the rest given in milliseconds with quartiles."""
        steady = np.array(self.durations[2:] or self.durations or [math.nan])
        low, median, high = (float(x) for x in np.percentile(steady, [25, 50, 75]))
        return {"step_ms": [round(1e3 * d, 4) for d in self.durations], "step_ms_median": 1e3 * median,
                "step_ms_interval": [1e3 * low, 1e3 * high], "throughput": self.units / median, "unit": self.unit,
                "mfu": self.flops / median / self.peak, "mfu_convention": f"causal FLOPs / {self.peak_from}",
                "compile_seconds": self.compiled, "seconds": self.seconds}
