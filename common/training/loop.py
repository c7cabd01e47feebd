"""The outline of every training: what a room's `train.py` fills in is the framework."""

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data import training_batches
from twinscale.common.data.kept import keep, kept_in, open_kept
from twinscale.common.errors import BadInput, HostLost, MissingEnvironment, NonFinite, Stopped, TwinscaleError
from twinscale.common.files.access import escaped_lines, local, place, read_json
from twinscale.common.files.output import remove_ours
from twinscale.common.files.run_files import OF_HOSTS, RUN, RunFiles
from twinscale.common.files.tensors import save_tensors
from twinscale.common.metrics import finish, finished
from twinscale.common.numbers.formats import DITHER
from twinscale.common.trackers import check_trackers, following
from twinscale.common.training import canonical
from twinscale.common.training.checkpoints import Checkpoints
from twinscale.common.training.evaluating import held_out_sums
from twinscale.common.training.ledger import BadLoss, Heard, InFlight, Ledger, unit
from twinscale.common.training.predictions import keeps, write_predictions
from twinscale.common.training.progress import training_progress
from twinscale.common.training.pulse import Beat, Pulse
from twinscale.common.training.run import Run, follow_run, open_run, read_run
from twinscale.common.training.run_metrics import Logger, read_metrics
from twinscale.common.training.session import open_session
from twinscale.common.training.several import calls, next_due
from twinscale.common.training.stopping import is_over, measured_before, told, watched, words
from twinscale.common.training.trace import contract

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.data.kept import Kept
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.room import Room
    from twinscale.common.training.session import Session


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
    early: bool = True  # end where `train.stop_after` says; a comparison trains all steps
    accept_data: bool = False  # go on where the data is no longer what the run began with


FIRST = 10  # steps that a trace holds one by one


def twin_of(recipe: "Recipe") -> dict[str, Any]:
    """What sets a twin apart: rows permuted within each batch, and first weights dithered by half a unit in the last
    place. Rows alone would leave most roundings of a forward pass as they are, and bfloat16's altogether."""
    return {"permuted": True, "dither": DITHER[recipe.train.precision]}


def traced_steps(recipe: "Recipe", every: int) -> tuple[int, ...]:
    """The first steps, and each of `every`."""
    return tuple(step for step in range(recipe.train.steps) if step < FIRST or step % every == 0)


def run_training(room: "Room", recipe: "Recipe", run_dir: Path, *, overwrite: bool = False, probe: Probe | None = None,
                 progress: bool = True, begun: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Trains a recipe into a run directory, on from its last checkpoint if it has one, else from `begun`, a state as
    `common.training.canonical.read` gives it, and returns its final metrics. On several hosts, every one of them calls
    it.

    Raises: BadInput before anything is compiled or written; NonFinite with the step, the batch's hash and the first
      bad tensor; Stopped where SIGTERM came; HostLost where another host is gone; CannotSave, NoCheckpoint.
    """
    probe = probe or Probe()
    check_trackers(recipe, run_dir)
    with room.numerics(recipe):
        kept = (None if overwrite else kept_by(run_dir)) or (begun or {}).get("kept")
        dataset = open_kept(recipe, kept, probe.accept_data) if kept else None
        session = open_session(room, recipe, probe.dither, dataset)
        with leaving_nothing(run_dir), open_together(room, recipe, run_dir, session.devices, overwrite, probe) as run:
            with Pulse(run.path, session.devices, recipe) as pulse:
                try:
                    if probe.twin_steps:
                        weights = probe.trace == "full"
                        run.write_json(RunFiles(run.path).contract, contract(room, recipe, weights, session.dataset))
                    final = train_run(room, recipe, run, session, probe, pulse, progress, begun)
                except Exception as error:
                    lost = session.devices.hosts > 1 and room.is_lost(error)
                    raise (pulse.lost(error) if lost else error) from None
            if probe.twin_steps:
                train_twin(room, recipe, RunFiles(run.path).twin, probe)
    return final


@contextmanager
def leaving_nothing(path: Path) -> Iterator[None]:
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


def open_together(room: "Room", recipe: "Recipe", run_dir: Path, devices: Any, overwrite: bool, probe: Probe
                  ) -> Run:
    """The open run, on every host: the first one opens it while the others wait."""
    if devices.host == 0:
        try:
            run = open_run(run_dir, recipe, room.backend, overwrite=overwrite, trace=probe.trace)
            if run.resumed and run.info.get("trace") != probe.trace:
                with run:
                    raise BadInput(f"run {run_dir}: began with trace {run.info.get('trace')}, not {probe.trace}; pass "
                                   "the same --trace, or --overwrite")
            run.update(kept={"seconds": spent(run), "elapsed": 0.0}, elapsed=0.0)
            if RunFiles(run.path).hosts.is_dir():  # signs of life of an earlier start
                remove_ours(RunFiles(run.path).hosts, OF_HOSTS)
        except BaseException:
            room.agree(devices, [0])
            raise
    opened = room.agree(devices, [1])
    if not opened[0][0]:
        raise HostLost(f"host {devices.host}: host 0 could not open the run; its own message says why")
    return run if devices.host == 0 else follow_run(run_dir)


@dataclass
class Training:
    """A training in an open run: what it is made of, and how far it is."""

    room: Any
    recipe: Any
    run: Run
    session: Any
    probe: Probe
    pulse: Pulse
    checkpoints: Checkpoints
    ledger: Ledger
    state: object  # before the step that comes next
    start: int  # updates that the state had when it was opened
    done: int  # updates that it has now
    steps: int  # to end after
    measured: dict = field(default_factory=dict)  # what is watched, by updates
    last: tuple = (-1, {})  # updates at the last evaluation, and its metrics
    early: bool = False  # whether it has ended before its last step


def train_run(room: "Room", recipe: "Recipe", run: Run, session: "Session", probe: Probe, pulse: Pulse, progress: bool,
              begun: Mapping[str, Any] | None) -> dict[str, float]:
    """The training itself, in an open run; its state ends with it."""
    dataset, devices, steps = session.dataset, session.devices, probe.stop or recipe.train.steps
    checkpoints = Checkpoints(run, room, recipe, session.state, devices)
    state, unsaved = first_state(room, recipe, run, session, checkpoints, begun)
    start = int(state.step)
    if start > steps:
        raise BadInput(f"--stop {steps}: the state to go on from has {start} updates already")
    keep_data(run, dataset, start)
    run.update(devices=devices.names)
    batches = training_batches(dataset, recipe, start, steps, host=devices.reader, hosts=devices.readers,
                               permuted=probe.permuted)
    tracked = probe.saved and not probe.permuted and probe.held_out is None  # a comparison's own runs, not those beside
    with (closing(checkpoints), following(recipe, run, start, tracked) as also,
          Logger(run.path, start, run.writes, also) as logger,
          training_progress(steps, start, unit(dataset), progress and run.writes) as report, closing(batches)):
        ledger = Ledger(recipe, dataset, devices, logger, report, probe.log_every, pulse, run.info["kept"]["seconds"])
        training = Training(room, recipe, run, session, probe, pulse, checkpoints, ledger, state, start, start, steps,
                            measured_before(recipe, read_metrics(run.path), start))
        end_early(training)  # of which a kill may have come before the end
        del state  # which the first step takes
        try:
            train_steps(training, batches)
            final, stopping = settle(training, unsaved)
        except BadLoss as bad:
            pulse.allow("to look for the first bad tensor", patient=True)
            raise NonFinite(explain(room, session, training.state, bad.step)) from None
        finally:
            with suppress(OSError):  # of a full disk; what is on its way says so
                run.update(seconds=ledger.seconds, goodput=ledger.goodput(), elapsed=pulse.elapsed)
        if stopping:
            said = ", saved" * probe.saved
            raise Stopped(f"stopped after step {training.done} of {steps}{said}: run the same command again to go on")
        if probe.trace:
            leave(training, RunFiles(run.path).final)
    note_end(training, final)
    return final


def first_state(room: "Room", recipe: "Recipe", run: Run, session: "Session", checkpoints: Checkpoints,
                begun: Mapping[str, Any] | None) -> tuple[Any, bool]:
    """(the state to go on from, whether the run has no checkpoint of its own): that of the last checkpoint, else what
    `begun` holds, else the session's own."""
    state = checkpoints.restore(session.state)
    if int(state.step):
        return state, False
    if begun:
        state = room.with_tensors(recipe, state, session.devices, begun["tensors"], begun["step"])
        run.update(origin=begun["origin"])
        canonical.copy_metrics(begun, run)
    elif run.info.get("origin"):
        raise BadInput(f"run {run.path}: began from {run.info['origin']['path']} and has no checkpoint of its own yet: "
                       f"pass --from again, or --overwrite")
    return state, True


def train_steps(training: Training, batches: Iterator[Any]) -> None:
    """Trains on batches, with what is due between them, until there are no more or a host was asked to stop."""
    probe, recipe, ledger, checkpoints = training.probe, training.recipe, training.ledger, training.checkpoints
    together = calls(ledger.waiting(batches), recipe.devices.steps_per_call, partial(until_due, training))
    for number, batch, digest, count in () if training.early else together:
        if number in probe.traced:
            leave(training, RunFiles(training.run.path).step(number))
        wishes = training.pulse.stopping, checkpoints.overdue(), checkpoints.written
        training.state, metrics = ledger.dispatch(training.session.step, training.state, number, batch, wishes)
        heard, training.done = ledger.take(InFlight(number, metrics, digest, batch)), number + count
        checkpoints.poll(heard.written)
        # One that is due where a training is cut is counted by what goes on there.
        until = training.steps + bool(probe.resumable and recipe.train.stop_after)
        if probe.evaluated and probe.often and due(training.done, recipe.train.eval_every, until):
            evaluate(training)
            end_early(training)
        if probe.saved and training.done < training.steps and (
                due(training.done, recipe.train.save_every, training.steps) or heard.overdue or heard.stopping):
            save(training)
        if heard.stopping or training.early:
            break
    ledger.finish()


def settle(training: Training, unsaved: bool) -> tuple[dict[str, float], bool]:
    """(the final metrics, whether it ended early) of a training whose steps have ended, evaluated and saved."""
    probe, done, steps = training.probe, training.done, training.steps
    stopping = done < steps or training.ledger.heard.stopping
    final: dict[str, float] = {}
    if probe.evaluated and not stopping and (training.early or not probe.resumable):
        known = training.last[0] == done and not keeps(training)
        final = training.last[1] if known else evaluate(training, True)
    if done == steps and probe.saved and (training.start < steps or unsaved):
        save(training)
    training.checkpoints.settle()
    training.run.update(hosts_agree=same_everywhere(training.room, training.session.devices, training.ledger.losses))
    return final, stopping


def evaluate(training: Training, last: bool = False) -> dict[str, float]:
    """The metrics of the state on the held-out set, which are logged too; the last one leaves what it predicts."""
    session, recipe, ledger = training.session, training.recipe, training.ledger
    kept: list[Any] = []
    measure = partial(session.evaluate, keep=kept.append) if last and keeps(training) else session.evaluate
    with ledger.pause("evaluate"):
        sums, label_bytes = held_out_sums(measure, training.state, session.dataset, recipe, training.pulse,
                                          training.probe.held_out)
        metrics = finish(sums, label_bytes) | finished(
            recipe.train.metrics, sums, session.dataset.manifest.get("labels") or ())
        if training.done not in (training.start, training.last[0]):  # whose evaluations are logged already
            ledger.evaluated(training.done, metrics)
    if kept:
        write_predictions(training.run.path, kept, len(session.dataset.held_out))
    training.measured[training.done] = watched(recipe, metrics)
    training.last = training.done, metrics
    training.run.update(sums=sums | ({} if label_bytes is None else {"label_bytes": label_bytes}))
    return metrics


def end_early(training: Training) -> None:
    """Makes the step that a training has come to its last, where `train.stop_after` says so."""
    if training.probe.early and training.done < training.steps and is_over(training.recipe, training.measured):
        training.early, training.steps = True, training.done


def leave(training: Training, path: Path) -> None:
    """Leaves the state in a file, in the form that a probe's trace has."""
    with training.ledger.pause("trace"):
        sketched, state = training.probe.trace == "sketch", training.state
        tensors = training.session.sketch(state) if sketched else training.room.state_tensors(state)
        if training.run.writes:
            save_tensors(path, tensors)


def save(training: Training) -> None:
    """Saves a checkpoint of the state."""
    ledger, done = training.ledger, training.done
    with ledger.pause("checkpoint"):
        kept = {"seconds": dict(ledger.seconds), "elapsed": training.pulse.elapsed}
        training.checkpoints.save(done, training.state, training.measured.get(done), kept)
        ledger.heard = Heard()  # what was heard is of the checkpoint before
    training.run.update(seconds=ledger.seconds)


def note_end(training: Training, final: Mapping[str, float]) -> None:
    """Writes into the run what a training that was not stopped has measured, and how it ends."""
    run, probe, steps = training.run, training.probe, training.steps
    if training.start < steps:  # else nothing was measured, and what an earlier start has measured stays
        run.update(performance=training.ledger.performance())
        if probe.trace:
            run.write_json(RunFiles(run.path).batches, training.ledger.digests)
    if training.early:
        found = told(training.recipe, training.measured)
        run.update(early=found)
        if run.writes:
            print(f"twinscale: {escaped_lines(words(found))}", file=sys.stderr, flush=True)
    unfinished = probe.resumable and steps < training.recipe.train.steps and not training.early
    run.ending = "stopped" if unfinished else "finished"
    run.update(final=final)


def kept_by(run_dir: Path) -> "Kept | None":
    """What an earlier start of a run keeps of its data; None where there was none."""
    path = place(run_dir)
    return kept_in(path, read_run(path)["data"]) if RunFiles(path).info.exists() else None


def keep_data(run: Run, dataset: "Dataset", step: int) -> None:
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


def same_everywhere(room: "Room", devices: Any, losses: Sequence[float]) -> bool | None:
    """Whether every host has seen the same losses, bit for bit; raises TwinscaleError if not. None on one host."""
    if devices.hosts == 1:
        return None
    seen = hashlib.sha256(np.array(losses, np.float64).tobytes()).digest()[:8]
    if len({row.tobytes() for row in room.agree(devices, np.frombuffer(seen, np.int64))}) > 1:
        raise TwinscaleError("the hosts have seen different losses: their weights have parted")
    return True


def spent(run: Run) -> dict[str, float]:
    """Seconds by kind of the run's earlier starts. What came after their last checkpoint is lost, and done again."""
    kept = run.info.get("kept")
    if not run.resumed or not kept:
        return {}
    seconds, elapsed = dict(kept["seconds"]), run.info.get("elapsed")
    if not elapsed:  # a kill leaves its time with its last sign of life alone
        with suppress(BadInput):
            elapsed = read_json(RunFiles(run.path).beat(0), Beat).get("seconds")
    seconds["lost"] = seconds.get("lost", 0.0) + max(0.0, (elapsed or 0.0) - kept["elapsed"])
    return seconds


def train_twin(room: "Room", recipe: "Recipe", path: Path, probe: Probe) -> None:
    """Trains the first steps of a run's twin into a run of its own: by it another run's distance is judged."""
    stop = min(probe.twin_steps, probe.stop or recipe.train.steps)
    traced = tuple(step for step in probe.traced if step < stop)
    run_training(room, recipe, path, overwrite=True, progress=False, probe=replace(
        probe, **twin_of(recipe), stop=stop, traced=traced, twin_steps=0, evaluated=False,
        saved=False))


def due(done: int, every: int, steps: int) -> Any:
    """Whether something is to happen after `done` steps; the last step has its own evaluation and checkpoint."""
    return every and done % every == 0 and done < steps


def until_due(training: Training, number: int) -> int:
    """The updates after which something is due that a call from step `number` on is not to go past."""
    train, probe = training.recipe.train, training.probe
    evaluated = train.eval_every if probe.evaluated and probe.often else 0
    saved = train.save_every if probe.saved else 0
    return next_due(number, [evaluated, saved], [*probe.traced, training.steps])


def explain(room: "Room", session: "Session", state: Any, step: Any) -> str:
    """One line: the step, the batch and the first bad tensor, looked for in the order of computation."""
    tensors = {name: x for name, x in room.state_tensors(state).items() if name.startswith("weights/")}
    tensors |= session.step_tensors(state, step.number, step.batch)
    first = next((name for name, x in tensors.items() if not np.isfinite(x.astype(np.float64)).all()), "the update")
    loss, norm = (float(step.metrics[name]) for name in ("loss", "gradient_norm"))
    what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    return (f"step {step.number}: {what}; batch sha256 {step.digest}; "
            f"first bad tensor: {first}; lower optimizer.learning_rate, or set optimizer.clip_norm")
