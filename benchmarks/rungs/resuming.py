"""Trainings that are stopped and gone on with: a backend that saves and reads back halfway whatever it trains, and
what it has read back otherwise than it was saved."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.rungs.placing import cause
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import difference, load_tensors

if TYPE_CHECKING:
    from twinscale.benchmarks.workers import Trainer
    from twinscale.common.recipe.schema import Recipe


class Resumed:
    """A worker whose every training ends `after` updates and goes on from its checkpoint; it notes in `out` what state
    it had when it ended, and the run what it began again with."""

    def __init__(self, worker: "Trainer", out: Path, after: int) -> None:
        self.worker, self.backend, self.out, self.after = worker, worker.backend, out, after

    def ask(self, call: str, recipe: "Recipe | None" = None, **arguments: Any) -> Any:
        """The value of a call, as `Worker.ask` has it; a training is asked for in two parts."""
        if call != "run_training":
            return self.worker.ask(call, recipe, **arguments)
        probe, run = arguments["probe"] | {"saved": True}, arguments["run_dir"]
        self.worker.ask(call, recipe, **arguments | {"probe": probe | {"stop": self.after, "resumable": True}})
        shutil.copyfile(RunFiles(run).final, stopped_path(self.out, run.name))
        return self.worker.ask(call, recipe, **arguments | {"probe": probe | {"traced": [self.after]}})


def stopped_path(out: Path, run: str) -> Path:
    """Where the state lies that a run has ended its first part with."""
    return ComparisonFiles(out).stopped(run)


def resume_cause(recipe: "Recipe", out: Path, after: int) -> dict[str, Any] | None:
    """The first tensor that a backend has read back otherwise than it was saved, as `placing.cause` has it, or None."""
    for backend in ladder.SIDES:
        run = ComparisonFiles(out).run(backend, recipe.train.precision)
        saved, read = (load_tensors(path) for path in (
            stopped_path(out, run.name), RunFiles(run).step(after)))
        for name in ladder.both({"keras": saved, "jax": read}):
            apart = difference(read.get(name), saved.get(name))
            if apart > 0:
                return cause("checkpoint", ladder.bare(name), "resuming", after, apart, 0.0, name)
    return None
