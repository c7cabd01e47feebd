"""Trainings of a check, each in a process of its own, on the machine's device or on its CPU; and whether two of them
are equal bit for bit."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.benchmarks.tuning.trials import is_finished
from twinscale.benchmarks.workers import CPU, ROOMS, open_workers
from twinscale.common.errors import TwinscaleError
from twinscale.common.files.output import remove_ours, tell
from twinscale.common.files.run_files import RUN, RunFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

RUNS = "runs"
WHERE = {"device": "the device", "cpu": "the CPU"}  # of a rehearsal the second alone


@contextmanager
def worker_of(backend: str, where: str) -> Iterator[Any]:
    """A backend's process while open; on "cpu" it sees no GPU. What it runs is compiled anew."""
    with open_workers(CPU if where == "cpu" else {}, {backend: ROOMS[backend]}, anew=True) as workers:
        yield workers[backend]


def trained(out: Path, name: str, backend: str, recipe: Recipe, where: str = "device") -> Path:
    """The run `out`/runs/`name`, trained with its twin and a whole trace for `compare-runs`, unless it has ended.

    Args:
      where: "device", what the backend takes by itself and what is to be no CPU, or "cpu".
    Raises: TwinscaleError where the training fails, or was not where it was to be.
    """
    path = out / RUNS / name
    if not is_finished(path):
        tell("check", f"{name}: {recipe.train.steps} steps and a twin's on {WHERE[where]}")
        probe = {"trace": "full", "traced": [1], "twin_steps": recipe.train.steps, "log_every": 1, "saved": False,
                 "often": False}
        with worker_of(backend, where) as worker:
            worker.ask("run_training", recipe, run_dir=path, overwrite=True, probe=probe, progress=False)
    if on_cpu(path) != (where == "cpu"):
        raise TwinscaleError(f"{name}: was to be trained on {WHERE[where]}, and run.json says {devices(path)}")
    return path


def devices(path: Path) -> str:
    """The names of a run's devices."""
    return ", ".join(read_run(path)["devices"])


def on_cpu(path: Path) -> bool:
    """Whether a run was trained on CPUs alone, by its devices' names."""
    return all("cpu" in name.lower() for name in read_run(path)["devices"])


def forget(out: Path, step: str) -> None:
    """Removes the runs of a step, which is taken anew."""
    if (out / RUNS).is_dir():
        remove_ours(out / RUNS, {rf"{re.escape(step)}-[a-z]+": RUN})


def unequal(a: Path, b: Path) -> tuple[list[str], int]:
    """(names of the losses and tensors of two runs that are not equal in every bit, how many were looked at): each
    step's loss, and the states after the first and the last step."""
    sides = [bits(path) for path in (a, b)]
    names = sorted(sides[0].keys() | sides[1].keys())
    return [name for name in names if not same_bits(*(side.get(name) for side in sides))], len(names)


def bits(path: Path) -> dict[str, np.ndarray]:
    """{name: array} of a run's losses and of what its trace holds."""
    losses = {f"loss of step {line['step']}": np.asarray(line["train/loss"], np.float64) for line in read_metrics(path)
              if "train/loss" in line}
    files = {"after 1 update": RunFiles(path).step(1), "at the end": RunFiles(path).final}
    return losses | {f"{name} {when}": x for when, file in files.items() for name, x in load_tensors(file).items()}


def same_bits(x: Any, y: Any) -> bool:
    """Whether two arrays, of which one may be missing, are equal bit for bit."""
    return x is not None and y is not None and x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
