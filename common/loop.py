"""The outline of every training: what a room's `train.py` fills in is the framework."""

import hashlib
import math
import os
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np

from twinscale.common import canonical, process
from twinscale.common.checkpoints import Checkpoints
from twinscale.common.data import held_out_batches, training_batches
from twinscale.common.data.kept import keep, kept_in, open_kept
from twinscale.common.errors import BadInput, HostLost, MissingEnvironment, NonFinite, Stopped, TwinscaleError
from twinscale.common.files import local, place, read_json
from twinscale.common.flops import measured_peak, peak_flops, train_flops
from twinscale.common.formats import DITHER
from twinscale.common.metrics import finish, finished
from twinscale.common.output import remove_ours
from twinscale.common.progress import training_progress
from twinscale.common.pulse import Beat, Pulse
from twinscale.common.recipe import micro_batch, positions
from twinscale.common.run import HOSTS, RUN, Logger, follow_run, open_run, read_run
from twinscale.common.session import open_session
from twinscale.common.tensors import save_tensors
from twinscale.common.trace import contract


@dataclass(frozen=True)
class Probe:
    """How a comparison sets a training apart, and what it wants left behind; a plain training has the defaults."""

    permuted: bool = False  # rows shuffled within each batch, which changes the rounding alone
    dither: float = 0.0  # relative size of a random change of the first weights; both make a twin
    trace: str | None = None  # form in which states are left in trace/: "full", "sketch"; None: nothing is left
    traced: tuple = ()  # steps before which the state is left, besides that of the end
    twin_steps: int = 0  # of a twin to train too, into trace/twin; with it goes trace/contract.json
    log_every: int | None = None  # in place of train.log_every
    stop: int | None = None  # updates to end after, of train.steps; the schedules stay those of all
    resumable: bool = False  # what is left after `stop` is to be trained later
    evaluated: bool = True  # evaluate at the end
    often: bool = True  # and as often as the recipe says
    held_out: int | None = None  # batches of the held-out set to evaluate, the last one among them; None: all
    saved: bool = True  # leave a checkpoint at the end
    accept_data: bool = False  # go on where the data is no longer what the run began with


FIRST = 10  # steps that a trace holds one by one


def twin_of(recipe):
    """What sets a twin apart: rows permuted within each batch, and first weights dithered by half a unit in the last
    place. Rows alone would leave most roundings of a forward pass as they are, and bfloat16's altogether."""
    return {"permuted": True, "dither": DITHER[recipe.train.precision]}


def traced_steps(recipe, every):
    """The first steps, and each of `every`."""
    return tuple(step for step in range(recipe.train.steps) if step < FIRST or step % every == 0)


def run_training(room, recipe, run_dir, *, overwrite=False, probe=None, progress=True, begun=None):
    """Trains a recipe into a run directory, on from its last checkpoint if it has one, else from `begun`, a state as
    `common.canonical.read` gives it, and returns its final metrics. On several hosts, every one of them calls it.

    Raises: BadInput before anything is compiled or written; NonFinite with the step, the batch's hash and the first
      bad tensor; Stopped where SIGTERM came; HostLost where another host is gone; CannotSave, NoCheckpoint.
    """
    probe = probe or Probe()
    with room.numerics(recipe):
        kept = (None if overwrite else kept_by(run_dir)) or (begun or {}).get("kept")
        dataset = open_kept(recipe, kept, probe.accept_data) if kept else None
        session = open_session(room, recipe, probe.dither, dataset)
        with leaving_nothing(run_dir), open_together(room, recipe, run_dir, session.devices, overwrite, probe) as run:
            with Pulse(run.path, session.devices, recipe) as pulse:
                try:
                    if probe.twin_steps:
                        weights = probe.trace == "full"
                        run.write_json("trace/contract.json", contract(room, recipe, weights, session.dataset))
                    final = train_run(room, recipe, run, session, probe, pulse, progress, begun)
                except Exception as error:
                    lost = session.devices.hosts > 1 and room.is_lost(error)
                    raise (pulse.lost(error) if lost else error) from None
            if probe.twin_steps:
                train_twin(room, recipe, run.path / "trace" / "twin", probe)
    return final


@contextmanager
def leaving_nothing(path):
    """Bad input and what is missing leave no directory of a run that nothing else has ever happened to: one whose only
    start ended in this very error."""
    try:
        yield
    except (BadInput, MissingEnvironment) as error:
        with suppress(TwinscaleError, OSError):  # where others' files are there too
            info = read_run(path)
            if local(path) and info["starts"] == 1 and info.get("saved") is None and info.get("error") == (
                    f"{type(error).__name__}: {error}".splitlines()[0]):
                remove_ours(path, RUN)
                path.rmdir()
        raise


def open_together(room, recipe, run_dir, devices, overwrite, probe):
    """The open run, on every host: the first one opens it while the others wait."""
    if devices.host == 0:
        try:
            run = open_run(run_dir, recipe, room.backend, overwrite=overwrite, trace=probe.trace)
            if run.resumed and run.info.get("trace") != probe.trace:
                with run:
                    raise BadInput(f"run {run_dir}: began with trace {run.info.get('trace')}, not {probe.trace}; pass "
                                   "the same --trace, or --overwrite")
            run.update(kept={"seconds": spent(run), "elapsed": 0.0}, elapsed=0.0)
            if (run.path / "hosts").is_dir():  # signs of life of an earlier start
                remove_ours(run.path / "hosts", HOSTS)
        except BaseException:
            room.agree(devices, [0])
            raise
    opened = room.agree(devices, [1])
    if not opened[0][0]:
        raise HostLost(f"host {devices.host}: host 0 could not open the run; its own message says why")
    return run if devices.host == 0 else follow_run(run_dir)


def train_run(room, recipe, run, session, probe, pulse, progress, begun):
    """The training itself, in an open run; its state ends with it."""
    dataset, devices = session.dataset, session.devices
    checkpoints = Checkpoints(run, room, recipe, session.state, devices)
    state = checkpoints.restore(session.state)
    going_on = not int(state.step)
    if going_on and not begun and run.info.get("origin"):
        raise BadInput(f"run {run.path}: began from {run.info['origin']['path']} and has no checkpoint of its own yet: "
                       f"pass --from again, or --overwrite")
    if going_on and begun:
        state = room.with_tensors(recipe, state, devices, begun["tensors"], begun["step"])
        run.update(origin=begun["origin"])
        canonical.copy_metrics(begun, run)
    start, steps = int(state.step), probe.stop or recipe.train.steps
    if start > steps:
        raise BadInput(f"--stop {steps}: the state to go on from has {start} updates already")
    keep_data(run, dataset, start)
    run.update(devices=devices.names)
    batches = training_batches(dataset, recipe, start, steps, host=devices.reader, hosts=devices.readers,
                               permuted=probe.permuted)

    with (closing(checkpoints), Logger(run.path, start, run.writes) as logger,
          training_progress(steps, start, unit(dataset), progress and run.writes) as report, closing(batches)):
        ledger = Ledger(recipe, dataset, devices, logger, report, probe.log_every, pulse, run.info["kept"]["seconds"])
        measured = {}  # held-out losses by steps done

        def evaluate(done):
            with ledger.pause("evaluate"):
                sums, label_bytes = held_out_sums(session.evaluate, state, dataset, recipe, pulse, probe.held_out)
                metrics = finish(sums, label_bytes) | finished(recipe.train.metrics, sums)
                if done > start:  # or the run was cut short after its last checkpoint, with everything logged
                    ledger.evaluated(done, metrics)
            measured[done] = metrics["loss"]
            run.update(sums=sums | ({} if label_bytes is None else {"label_bytes": label_bytes}))
            return metrics

        def leave(name):
            with ledger.pause("trace"):
                tensors = session.sketch(state) if probe.trace == "sketch" else room.state_tensors(state)
                if run.writes:
                    save_tensors(run.path / "trace" / f"{name}.safetensors", tensors)

        def save(done):
            with ledger.pause("checkpoint"):
                kept = {"seconds": dict(ledger.seconds), "elapsed": pulse.elapsed}
                checkpoints.save(done, state, measured.get(done), kept)
                ledger.heard = Heard()  # what was heard is of the checkpoint before
            run.update(seconds=ledger.seconds)

        done = start
        try:
            for number, batch, digest in ledger.waiting(batches):
                if number in probe.traced:
                    leave(f"step_{number}")
                wishes = pulse.stopping, checkpoints.overdue(), checkpoints.written
                state, metrics = ledger.dispatch(session.step, state, number, batch, wishes)
                heard, done = ledger.take(InFlight(number, metrics, digest, batch)), number + 1
                checkpoints.poll(heard.written)
                if probe.evaluated and probe.often and due(done, recipe.train.eval_every, steps):
                    evaluate(done)
                if probe.saved and done < steps and (
                        due(done, recipe.train.save_every, steps) or heard.overdue or heard.stopping):
                    save(done)
                if heard.stopping:
                    break
            ledger.finish()
            stopping = done < steps or ledger.heard.stopping
            final = evaluate(steps) if probe.evaluated and not stopping and not probe.resumable else {}
            if done == steps and probe.saved and (start < steps or going_on):
                save(steps)
            checkpoints.settle()
            run.update(hosts_agree=same_everywhere(room, devices, ledger.losses))
        except BadLoss as bad:
            pulse.allow("to look for the first bad tensor", patient=True)
            raise NonFinite(explain(room, session, state, bad.step)) from None
        finally:
            with suppress(OSError):  # of a full disk; what is on its way says so
                run.update(seconds=ledger.seconds, goodput=ledger.goodput(), elapsed=pulse.elapsed)
        if stopping:
            said = ", saved" * probe.saved
            raise Stopped(f"stopped after step {done} of {steps}{said}: run the same command again to go on")
        if probe.trace:
            leave("final")
    if start < steps:  # else nothing was measured, and what an earlier start has measured stays
        run.update(performance=ledger.performance())
        if probe.trace:
            run.write_json("trace/batches.json", ledger.digests)
    run.ending = "stopped" if probe.resumable and steps < recipe.train.steps else "finished"
    run.update(final=final)
    return final


def kept_by(run_dir):
    """What an earlier start of a run keeps of its data; None where there was none."""
    path = place(run_dir)
    return kept_in(path, read_run(path)["data"]) if (path / "run.json").exists() else None


def keep_data(run, dataset, step):
    """Binds a run to its data. What it was bound to before goes under "data_before" of `run.json`, with the step until
    which it was read."""
    before = run.info["data"]
    if before.get("sha256") == dataset.manifest["sha256"]:
        return
    if run.writes:
        keep(run.path, dataset)
    if before:
        run.update(data_before=[*run.info.get("data_before", ()), {**before, "until": step}])
    run.update(data=dataset.manifest)


def same_everywhere(room, devices, losses):
    """Whether every host has seen the same losses, bit for bit; raises TwinscaleError if not. None on one host."""
    if devices.hosts == 1:
        return None
    seen = hashlib.sha256(np.array(losses, np.float64)).digest()[:8]
    if len({row.tobytes() for row in room.agree(devices, np.frombuffer(seen, np.int64))}) > 1:
        raise TwinscaleError("the hosts have seen different losses: their weights have parted")
    return True


def spent(run):
    """Seconds by kind of the run's earlier starts. What came after their last checkpoint is lost, and done again."""
    kept = run.info.get("kept")
    if not run.resumed or not kept:
        return {}
    seconds, elapsed = dict(kept["seconds"]), run.info.get("elapsed")
    if not elapsed:  # a kill leaves its time with its last sign of life alone
        with suppress(BadInput):
            elapsed = read_json(run.path / "hosts" / "0.json", Beat).get("seconds")
    seconds["lost"] = seconds.get("lost", 0.0) + max(0.0, (elapsed or 0.0) - kept["elapsed"])
    return seconds


def train_twin(room, recipe, path, probe):
    """Trains the first steps of a run's twin into a run of its own: by it another run's distance is judged."""
    stop = min(probe.twin_steps, probe.stop or recipe.train.steps)
    traced = tuple(step for step in probe.traced if step < stop)
    run_training(room, recipe, path, overwrite=True, progress=False, probe=replace(
        probe, **twin_of(recipe), stop=stop, traced=traced, twin_steps=0, evaluated=False,
        saved=False))


def due(done, every, steps):
    """Whether something is to happen after `done` steps; the last step has its own evaluation and checkpoint."""
    return every and done % every == 0 and done < steps


def unit(dataset):
    return "tokens/s" if dataset.kind == "text" else "examples/s"


def held_out_sums(evaluate, state, dataset, recipe, pulse=None, most=None):
    """(summed statistics, bytes of the labels or None where they are no text) over the whole held-out set, or over
    `most` batches of it: the remainder is padded with weight zero, never dropped."""
    label_bytes = None if dataset.token_bytes is None else 0

    def counted():
        nonlocal label_bytes
        for batch in held_out_batches(dataset, micro_batch(recipe), most):
            if label_bytes is not None:
                label_bytes += int((dataset.token_bytes[batch["labels"]] * batch["weights"]).sum())
            yield batch
            if pulse:
                pulse.allow("an evaluation's batch")

    return evaluate(state, counted()), label_bytes


@dataclass(frozen=True)
class InFlight:
    """A dispatched step whose metrics have not been read."""

    number: int
    metrics: dict
    digest: str
    batch: dict


@dataclass(frozen=True)
class Heard:
    """What the hosts together said a step ago."""

    stopping: bool = False  # some host was asked to stop
    overdue: bool = False  # a checkpoint is due by the clock
    written: int = 0  # hosts whose part of the last checkpoint is on disk


class BadLoss(Exception):
    """The loss of `step`, or its gradient, is not finite; the state has not moved since."""

    def __init__(self, step):
        super().__init__(step.number)
        self.step = step


def explain(room, session, state, step):
    """One line: the step, the batch and the first bad tensor, looked for in the order of computation."""
    tensors = {name: x for name, x in room.state_tensors(state).items() if name.startswith("weights/")}
    tensors |= session.step_tensors(state, step.number, step.batch)
    first = next((name for name, x in tensors.items() if not np.isfinite(x.astype(np.float64)).all()), "the update")
    loss, norm = (float(step.metrics[name]) for name in ("loss", "gradient_norm"))
    what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    return (f"step {step.number}: {what}; batch sha256 {step.digest}; "
            f"first bad tensor: {first}; lower optimizer.learning_rate, or set optimizer.clip_norm")


class Ledger:
    """What is known of the steps so far. Metrics are read a step late, so that the device never waits for the host.

    `seconds` go on from those of the run's earlier starts; durations and digests are of this start alone.
    """

    def __init__(self, recipe, dataset, devices, logger, report, every, pulse=None, seconds=None):
        self.logger, self.report, self.every = logger, report, every or recipe.train.log_every
        rows = recipe.train.global_batch
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
        self.compiled, self.begun, self.in_flight, self.heard, self.waited = None, None, None, Heard(), 0.0
        self.durations, self.digests, self.losses = [], [], []

    def waiting(self, batches):
        """The batches; the time spent waiting for them is counted."""
        while True:
            start = time.perf_counter()
            item = next(batches, None)
            self.waited += time.perf_counter() - start
            if item is None:
                return
            yield item

    def dispatch(self, step, state, number, batch, wishes=(0, 0, 0)):
        """Runs the step; `wishes` are what this host has to say of each field of Heard. The first call compiles; its
        time is kept apart."""
        self.allow(f"step {number}", patient=self.compiled is None)
        start = time.perf_counter()
        self.lap(start)
        outcome = step(state, number, batch, wishes)
        if self.compiled is None:
            self.compiled = time.perf_counter() - start
            self.seconds["compile"] += self.compiled
        else:
            self.begun = start
        return outcome

    def lap(self, now):
        """Ends the duration of the step dispatched last: from its dispatch to the next, or to its settling where
        nothing follows at once. So it is the loop's whole period, whether dispatch waits for the device or not."""
        if self.begun is not None:
            self.durations.append(now - self.begun)
            self.seconds["train"] += now - self.begun - self.waited
            self.begun = None
        self.seconds["data_wait"] += self.waited
        self.waited = 0.0

    def take(self, step):
        """Settles the step before, and notes this one as in flight; returns what was heard last."""
        self.settle()
        self.in_flight = step
        return self.heard

    def settle(self):
        """Reads and logs the metrics of the step in flight; raises BadLoss where its loss is not finite."""
        if self.in_flight is None:
            return
        step, self.in_flight = self.in_flight, None
        stopping, overdue, written = (round(float(x)) for x in np.asarray(step.metrics["signals"]))
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

    def finish(self):
        """Settles the step in flight, with nothing to follow at once."""
        self.settle()
        self.lap(time.perf_counter())

    @contextmanager
    def pause(self, kind):
        """Time that counts as `kind` and not as training; the step in flight is settled first."""
        self.finish()
        self.allow(f"to {kind}", patient=True)
        start = time.perf_counter()
        yield
        self.seconds[kind] += time.perf_counter() - start

    def evaluated(self, done, metrics):
        """Logs the metrics of an evaluation after `done` steps under the last of them, as its training metrics are:
        a resumed run keeps all that is logged below its first step."""
        self.logger.log(done - 1, {f"held_out/{name}": value for name, value in metrics.items()})

    def goodput(self):
        """The share of all time so far, that of earlier starts too, in which steps were trained that are kept."""
        total = sum(self.seconds.values())
        return {"productive": self.seconds["train"], "total": total,
                "fraction": self.seconds["train"] / total if total else 0.0}

    def performance(self):
        """Steady state: the first two steps are left out, the others given in milliseconds with quartiles."""
        steady = np.array(self.durations[1:] or self.durations or [math.nan])
        low, median, high = (float(x) for x in np.percentile(steady, [25, 50, 75]))
        return {"step_ms": [round(1e3 * d, 4) for d in self.durations], "step_ms_median": 1e3 * median,
                "step_ms_interval": [1e3 * low, 1e3 * high], "throughput": self.units / median, "unit": self.unit,
                "mfu": self.flops / median / self.peak if self.peak else None,
                "mfu_convention": f"causal FLOPs / {self.peak_from}" if self.peak else None,
                "compile_seconds": self.compiled or 0.0, "seconds": self.seconds,
                "goodput_percent": 100 * self.goodput()["fraction"]}
