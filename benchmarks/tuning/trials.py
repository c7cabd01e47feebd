"""A trial of a search: a training in a run directory of its own, that may be given up by its evaluations.

The run is called by its recipe's hash: what was trained already, or in part, is not trained again.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as waiting
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.workers import Worker
from twinscale.common import process
from twinscale.common.backends import module_of
from twinscale.common.data.shapes import data_shape
from twinscale.common.errors import BadInput, CannotSave, MissingEnvironment, Stopped, TwinscaleError, is_memory
from twinscale.common.families.parameters import parameters
from twinscale.common.files.access import quoted
from twinscale.common.files.run_files import RunFiles
from twinscale.common.machine.flops import train_flops
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

if TYPE_CHECKING:
    from optuna.trial import Trial

POLL = 0.2  # seconds between looks at the evaluations of a training
NAMED = 16  # digits of the recipe's hash in a run's name
BESIDE = ("start", "compile", "lost")  # seconds that are not the recipe's


class Pruned(Exception):
    """A trial was given up by what its evaluations say."""


class UnknownMetric(BadInput):
    """The metric is none of a trial's: no further one would have it."""


@dataclass
class Crew:
    """What trains: a process of a backend, kept from trial to trial, made anew after one that has died."""

    backend: str
    worker: Any = None
    make: Callable[[str], Any] = lambda backend: Worker(backend, module=module_of(backend), anew=False)
    stop: Callable[[Any], None] = lambda worker: stop(worker)

    def ready(self) -> Any:
        """The process that is asked next."""
        if self.worker is None or self.worker.process.poll() is not None:
            self.close()
            self.worker = self.make(self.backend)
        return self.worker

    def close(self) -> None:
        """Ends it."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.close()


def stop(worker: Worker) -> None:
    """Has a training save and stop, upon which it answers."""
    with suppress(ProcessLookupError):
        os.kill(worker.process.pid, signal.SIGTERM)


@dataclass
class Runs:
    """The directory of all runs; two trials of one recipe are trained one after the other, the second not at all."""

    path: Path
    locks: dict[str, Lock] = field(default_factory=dict)

    def of(self, recipe: Recipe) -> Path:
        """Where a recipe is trained."""
        return self.path / recipe.hash[:NAMED]

    @contextmanager
    def held(self, recipe: Recipe) -> Iterator[Path]:
        """A recipe's run, which no other trial of this process is at."""
        path = self.of(recipe)
        with self.locks.setdefault(path.name, Lock()):
            yield path


def is_failure(error: BaseException) -> bool:
    """Whether an error is a trial's own, such as a combination that is refused, a loss that is not finite or memory
    that has ended; any other, as a full disk, ends the search."""
    if isinstance(error, Stopped | CannotSave | UnknownMetric):
        return False
    return is_memory(error) or isinstance(error, TwinscaleError) and not isinstance(error, MissingEnvironment)


def trained(crew: Crew, recipe: Recipe, run: Path, watch: Callable[[int, float], bool], metric: str) -> dict[str, Any]:
    """Trains a recipe into a run, on from what is there, and returns what run.json says of its end.

    Args:
      watch: is told (updates, value of the metric) of each evaluation as it comes, and says whether to give up.
    Raises: Pruned where it was given up; TwinscaleError where the training failed.
    """
    told: set[int] = set()
    gave_up = told_of(run, metric, watch, told)
    if gave_up and not is_finished(run):
        raise Pruned
    if not is_finished(run):
        worker = crew.ready()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(worker.ask, "run_training", recipe, run_dir=run, progress=False)
            while not gave_up and not waiting([asked], POLL).done:
                gave_up = told_of(run, metric, watch, told)
            if gave_up and not asked.done():
                crew.stop(worker)
            settle(crew, asked, gave_up)
        told_of(run, metric, watch, told)  # what came last decides nothing: it is trained
    return read_run(run)


def told_of(run: Path, metric: str, watch: Callable[[int, float], bool], told: set[int]) -> bool:
    """Tells of the evaluations that are not among those `told`, up to one that gives the trial up; says whether one
    does."""
    for step, value in evaluations(run, metric):
        if step not in told:
            told.add(step)
            if watch(step, value):
                return True
    return False


def settle(crew: Crew, asked: Future, gave_up: bool) -> None:
    """Waits for what a training answers. Raises Pruned where it was given up, else what it failed with."""
    error = asked.exception()
    if process.ENDING.is_set():
        raise KeyboardInterrupt
    if gave_up:
        if not isinstance(error, Stopped):  # it had ended before it heard, and may hear now
            crew.close()
        raise Pruned
    if error is not None:
        raise error


def is_finished(run: Path) -> bool:
    """Whether a run was trained to its end."""
    return RunFiles(run).info.exists() and read_run(run)["state"] == "finished"


def evaluations(run: Path, metric: str) -> list[tuple[int, float]]:
    """[(updates, value)] of a metric's evaluations so far; NaN what was not finite. A line that is being written is
    left out."""
    with suppress(BadInput):
        return [(line["step"] + 1, math.nan if (value := line[f"held_out/{metric}"]) is None else value)
                for line in read_metrics(run) if f"held_out/{metric}" in line]
    return []


def metric_of(info: Mapping[str, Any], metric: str) -> float:
    """The metric's value at the end of a run. Raises BadInput where there is none, or it is not finite."""
    final = info["final"]
    if metric not in final:
        raise UnknownMetric(f"metric = {quoted(metric)}: no value of an evaluation is called so; there are "
                            f"{', '.join(sorted(final))}")
    if final[metric] is None:
        raise BadInput(f"{metric} is not finite at the end")
    return float(final[metric])


def seconds_of(info: Mapping[str, Any]) -> float:
    """Seconds of a run without its start and compilation."""
    return float(sum(seconds for kind, seconds in info["seconds"].items() if kind not in BESIDE))


def costs_of(recipe: Recipe, info: Mapping[str, Any] | None = None) -> dict[str, float | None]:
    """{"seconds", "flops", "parameters"} of a trial: seconds of a run without its start and compilation, operations of
    the whole training, trained and other weights; None what is not known."""
    found: dict[str, float | None] = dict.fromkeys(("seconds", "flops", "parameters"))
    if info is not None:
        found["seconds"] = seconds_of(info)
    with suppress(TwinscaleError, NotImplementedError, AttributeError):  # of a family that cannot say
        classes, shape = data_shape(recipe)
        tree = parameters(recipe.model, classes, shape)
        found["parameters"] = float(sum(math.prod(one.shape) for one in tree.values()))
        found["flops"] = float(recipe.train.steps * recipe.train.global_batch * train_flops(
            recipe.model, classes, shape))
    return found


def pruning(trial: "Trial", prunes: bool) -> Callable[[int, float], bool]:
    """Reports evaluations to a trial, each once however often it was resumed, and asks its pruner."""
    seen = set(trial.study._storage.get_trial(trial._trial_id).intermediate_values) if prunes else set()

    def watch(step: int, value: float) -> bool:
        if not prunes:
            return False
        if step not in seen:
            seen.add(step)
            trial.report(value, step)
        return trial.should_prune()

    return watch


def left(done: int, total: int, began: float) -> float | None:
    """Seconds that the trials ahead take by the pace of those that are done since `began`, a `time.monotonic()`; None
    where none is."""
    return (time.monotonic() - began) / done * (total - done) if done else None
