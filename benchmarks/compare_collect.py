"""What each backend leaves of a comparison: its contract, first steps, optimizer and trainings, and where they lie."""

import itertools
import shutil
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.output import tell
from twinscale.benchmarks.rungs.operations import collect_places
from twinscale.benchmarks.sides import ROOMS, spoken
from twinscale.benchmarks.timing.remaining import pace_of, words_left
from twinscale.benchmarks.workers import Copy, Trainer, Worker, each, together
from twinscale.common.files.access import write_json
from twinscale.common.operations.points import POINTS
from twinscale.common.recipe.schema import Recipe, in_sharpest
from twinscale.common.training.loop import twin_of

UPDATES = 5  # of the optimizer's rung
HELD_OUT = 4  # batches that a float64 trajectory is evaluated on, where it stands beside the recipe's: the last, padded
# one among them


def collect_both(workers: dict[str, Worker], beside: dict[str, Copy], recipe: Recipe, out: Path,
                 trained: Callable[[], Any], taken: Collection[str] = ()) -> None:
    """Has both backends leave in `out` all that the ladder reads. To the copy `beside` its worker, where it has one, a
    backend leaves what is in float64 and its places. Once all have trained, `trained()` is done beside what they still
    look at; what fails of it fails again where it counts. Of those in `taken` the runs are there already."""
    count = itertools.count(1)
    everybody: dict[str, Worker | Copy] = workers | {f"{backend} beside": one for backend, one in beside.items()}

    def share(worker):
        if worker.backend not in beside:
            return precisions(recipe)
        return [in_sharpest(recipe)] if worker in beside.values() else [recipe]

    with ThreadPoolExecutor(1) as pool:

        def before(worker):
            (leave_optimizers if worker.backend in taken else collect)(recipe, worker, out, share(worker))
            if next(count) == len(everybody):
                pool.submit(trained)

        if has_places(recipe):
            collect_places(everybody, recipe, out, together(everybody, before))
        else:
            each(everybody, before)


def collect(recipe: Recipe, worker: Trainer, out: Path, variants: list[Recipe] | None = None, quiet: bool = False
            ) -> None:
    """Has one backend leave in `out` all that the ladder reads: its contract, first steps, optimizer and runs; of the
    recipe in `precisions`, or in those of them that are the `variants`."""
    say, variants = (lambda *_: None) if quiet else tell, variants or precisions(recipe)
    if recipe in variants:
        say(spoken(worker.backend), "contract and optimizer")
        write_json(ComparisonFiles(out).contract(worker.backend), worker.ask("contract", recipe))
    leave_optimizers(recipe, worker, out, variants)
    parts = [(described, run, twin) for described in variants for run, twin in pair(worker.backend)]
    pace, ahead = None, [(steps_of(recipe, described), not twin) for described, _, twin in parts]
    for i, (described, run, twin) in enumerate(parts):
        steps, began = ahead[i][0], time.monotonic()
        say(spoken(run), f"{described.train.precision}: the first step, then {steps} steps of training"
            + words_left(pace, ahead[i:]))
        apart = twin_of(described) if twin else {}
        for point in POINTS:
            path = first_step_path(out, run, described, point)
            worker.ask("first_step", described, path=path, point=point, **apart)
        probe = {"trace": "full", "log_every": 1, "stop": steps, "saved": not twin, **apart,
                 "often": described is recipe and not twin, "held_out": None if described is recipe else HELD_OUT}
        worker.ask("run_training", described, run_dir=run_path(out, run, described), probe=probe, progress=not quiet)
        if not (twin or quiet):
            pace = pace_of(run_path(out, run, described), time.monotonic() - began, steps, described is recipe)
    if in_sharpest(recipe) in variants and has_places(recipe):
        say(spoken(worker.backend), "every operation in its place" + words_left(pace, []))


def steps_of(recipe: Recipe, described: Recipe) -> int:
    """Updates of a recipe's trajectory in the precision that is `described`."""
    return recipe.train.steps if described is recipe else float64_steps(recipe)


def has_places(recipe: Recipe) -> bool:
    """Whether operations are held to float64 in their places, which programs that compute in float32 are not."""
    return in_sharpest(recipe).train.precision == "float64"


def precisions(recipe: Recipe) -> list[Recipe]:
    """The recipe in its sharpest precision, and as it is where that is another one."""
    semantic = in_sharpest(recipe)
    return [recipe] if semantic is recipe else [semantic, recipe]


def float64_steps(recipe: Recipe) -> int:
    """Updates of the float64 trajectory: all of a recipe in float64, else the first `compare.float64_steps`."""
    steps = recipe.train.steps
    return steps if recipe.train.precision == "float64" else min(steps, recipe.compare.float64_steps)


def run_path(out: Path, run: str, recipe: Recipe) -> Path:
    """The directory of a trajectory, "keras", "jax" or either's "-twin"."""
    return ComparisonFiles(out).run(run, recipe.train.precision)


def first_step_path(out: Path, run: str, recipe: Recipe, point: str = "first") -> Path:
    """The file of what a run's first step makes at a point."""
    return ComparisonFiles(out).first_step(run, recipe.train.precision, point)


def optimizer_path(out: Path, backend: str, recipe: Recipe) -> Path:
    """The file of what synthetic gradients left of a backend's optimizer."""
    return ComparisonFiles(out).optimizer(backend, recipe.hash[:12])


def taps_path(out: Path, backend: str, recipe: Recipe, number: int) -> Path:
    """The file of what every place of a backend makes of a step."""
    return ComparisonFiles(out).taps(backend, recipe.train.precision, number)


def leave_optimizer(worker: Trainer, recipe: Recipe, out: Path) -> Path:
    """Has a backend leave its optimizer's first updates in `out`; returns the file."""
    path = optimizer_path(out, worker.backend, recipe)
    worker.ask("optimizer_steps", recipe, path=path, updates=UPDATES)
    return path


def leave_optimizers(recipe: Recipe, worker: Trainer, out: Path, variants: list[Recipe]) -> None:
    """`leave_optimizer` of some variants of a recipe."""
    for described in variants:
        leave_optimizer(worker, described, out)


def take_runs(recipe: Recipe, out: Path, backend: str, where: Path, other: str) -> None:
    """Copies to `out`, as a backend's, what the same trainer has left of the same recipe under the key `other` in the
    comparison `where`: its contract, first steps and runs, those from other seeds too."""
    mine, theirs = ComparisonFiles(out), ComparisonFiles(where)
    files = [(theirs.contract(other), mine.contract(backend))]
    folders = [(path, mine.seed(backend, int(path.name.rpartition("-")[2]))) for path in theirs.seeds(other)]
    for described in precisions(recipe):
        for (run, _), (named, _) in zip(pair(other), pair(backend), strict=True):
            folders.append((run_path(where, run, described), run_path(out, named, described)))
            files += [(first_step_path(where, run, described, point), first_step_path(out, named, described, point))
                      for point in POINTS]
    mine.tensors.mkdir(parents=True, exist_ok=True)
    for source, target in files:
        shutil.copyfile(source, target)
    for source, target in folders:
        shutil.copytree(source, target)


def forget_optimizers(recipe: Recipe, out: Path) -> None:
    """Removes what both backends' optimizers left of a comparison that agrees: as many states as updates, which only a
    search for a cause would read again."""
    for described in precisions(recipe):
        for backend in ROOMS:
            optimizer_path(out, backend, described).unlink(missing_ok=True)


def leave_taps(worker: Trainer, recipe: Recipe, out: Path, number: int, teacher: Path | None = None) -> Path:
    """Has a backend leave what every place makes of a step, by the numbers in file `teacher` where there is one;
    returns the file."""
    path = taps_path(out, worker.backend, recipe, number)
    worker.ask("step_taps", recipe, path=path, number=number, **({"teacher": teacher} if teacher else {}))
    return path


def pair(backend: str) -> list[tuple[str, bool]]:
    """A backend's run and its twin: [(name, is it the twin)]."""
    return [(backend, False), (f"{backend}-twin", True)]
