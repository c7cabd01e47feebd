"""The stages of a compression: what each starts from, how a backend trains it, what it leaves, and where all lies."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.output import tell
from twinscale.benchmarks.rungs.flips import shadowed
from twinscale.common.compress.recipes import active, alone_recipe, dense_recipe, stage_recipe
from twinscale.common.compress.rules import mask_updates, summary
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.training.loop import twin_of
from twinscale.common.training.run import read_run
from twinscale.common.training.stages import finish_stage

if TYPE_CHECKING:
    import numpy as np

    from twinscale.benchmarks.workers import Trainer
    from twinscale.common.recipe.schema import Recipe


def stages(recipe: "Recipe") -> "list[tuple[int, Recipe, str]]":
    """(number, recipe, label) of each stage."""
    return [(n, stage_recipe(recipe, n), label_of(recipe, n)) for n in range(len(recipe.compress.stages))]


def label_of(recipe: "Recipe", number: int) -> str:
    """The name of a stage in paths and tables, "dense" before the first."""
    return f"{number + 1}-{recipe.compress.stages[number].kind}" if number >= 0 else "dense"


def before(recipe: "Recipe", number: int) -> str:
    """The label of what a stage starts from."""
    return label_of(recipe, number - 1)


def make_start(worker: "Trainer", recipe: "Recipe", out: Path, label: str, left: Path) -> None:
    """Has a backend write what a stage starts from; its teacher is what the stage before has left, or a run."""
    teacher = getattr(active(recipe), "teacher", "")
    path = start_path(out, label)
    worker.ask("make_start", recipe, path=path, left=teacher_path(out, label) if teacher else left)


def train_dense(worker: "Trainer", recipe: "Recipe", out: Path) -> dict[str, Any]:
    """Has a backend train the dense model; returns its final metrics."""
    path = run_path(out, worker.backend, "dense")
    if is_finished(path):
        return read_run(path)["final"]
    return worker.ask("run_training", dense_recipe(recipe), run_dir=path, probe={"trace": "full", "log_every": 1},
                      progress=True)


def student_alone(worker: "Trainer", recipe: "Recipe", out: Path, label: str) -> dict[str, Any]:
    """Has a backend train a stage's student without its teacher too, from the same weights on the same batches;
    returns its row."""
    variant, alone = alone_recipe(recipe), f"{label}-alone"
    return finished(variant, out, worker.backend, alone, train(worker, variant, out, alone))


def train(worker: "Trainer", recipe: "Recipe", out: Path, label: str, twins: bool = False) -> dict[str, Any]:
    """Has a backend train a stage, and its twin too; returns the final metrics. What is finished stays."""
    tell(worker.backend, f"{label}: {recipe.train.steps} steps")
    stage = active(recipe)
    traced = [update - 1 for update in mask_updates(stage)] if stage.kind == "prune" else []
    if stage.kind == "quantize" and twins and worker.backend == "keras":
        traced = sorted({n for step in shadowed(recipe.train.steps) for n in (step, step + 1)} - {recipe.train.steps})
    for twin in (False, True) if twins else (False,):
        path = run_path(out, worker.backend, label, twin)
        apart = twin_of(recipe) if twin else {}
        if not is_finished(path):
            worker.ask("train_stage", recipe, run_dir=path, start=start_path(out, label), progress=True, probe={
                "trace": "full", "traced": traced, "log_every": 1, "saved": not twin, "evaluated": not twin, **apart})
    return read_run(run_path(out, worker.backend, label))["final"]


def is_finished(path: Path) -> bool:
    """Whether a run is there and done."""
    return RunFiles(path).info.exists() and read_run(path)["state"] == "finished"


def finished(recipe: "Recipe", out: Path, backend: str, label: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Writes the model that a stage has left, and returns its row."""
    left = left_path(out, backend, label)
    found = finish_stage(recipe, start_path(out, label), RunFiles(run_path(out, backend, label)).final, left)
    return row_of(backend, label, load_tensors(left), metrics) | {"verified": found["verified"]}


def row_of(backend: str, stage: str, left: "Mapping[str, np.ndarray]", metrics: dict[str, Any]) -> dict[str, Any]:
    """A line of the table, before its files are known."""
    return {"backend": backend, "stage": stage, "metrics": metrics, **summary(left), "verified": [], "files": [],
            "mask_agreement": None, "quanta_differing": None, "quanta": None, "paired": None}


def run_path(out: Path, backend: str, label: str, twin: bool = False) -> Path:
    """The directory of a stage's run."""
    return ComparisonFiles(out).stage(backend, label, twin)


def start_path(out: Path, label: str) -> Path:
    """The file of what a stage starts from, the same with its teacher and without."""
    return ComparisonFiles(out).start(label.removesuffix("-alone"))


def left_path(out: Path, backend: str, label: str) -> Path:
    """The file of the model that a stage has left."""
    return ComparisonFiles(out).left(backend, label)


def teacher_path(out: Path, label: str) -> Path:
    """The file of the model that a stage learns from, where that is no stage's."""
    return ComparisonFiles(out).teacher(label)
