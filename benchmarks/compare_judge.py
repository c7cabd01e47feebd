"""The verdict's findings, from the files that both backends have left: rungs P0 to P5, curves and final metrics."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.compare_collect import (
    first_step_path,
    float64_steps,
    has_places,
    optimizer_path,
    precisions,
    run_path,
)
from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report.words import margin
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.rungs.operations import operations_rung, places_path, read_places
from twinscale.benchmarks.rungs.own_optimizers import compared, own_rung
from twinscale.benchmarks.rungs.swap import worst_tensor
from twinscale.benchmarks.sides import LABELS
from twinscale.benchmarks.task import task_of
from twinscale.benchmarks.verdict import Rung, fenced, read_hashes
from twinscale.benchmarks.workers import ROOMS
from twinscale.common.families.adapters import tree_of
from twinscale.common.families.pair import Pair, whence
from twinscale.common.families.parameters import initial_value
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_dtypes, load_tensors
from twinscale.common.operations.points import POINTS
from twinscale.common.optimizers import described as optimizer_of
from twinscale.common.recipe.schema import Recipe, in_sharpest, positions
from twinscale.common.schedules import learning_rates
from twinscale.common.training.run import FinishedRun, read_run
from twinscale.common.training.run_metrics import read_metrics

if TYPE_CHECKING:
    from twinscale.common.data import Dataset

RUNS = ("keras", "keras-twin", "jax", "jax-twin")


def judge(recipe: Recipe, dataset: "Dataset", out: Path, operations: Sequence[dict[str, Any]] = (), placed: bool = True
          ) -> dict[str, Any]:
    """The verdict's findings, from the files of both backends: rungs P0 to P5, curves and final metrics; `operations`
    are rows of operations by themselves, if they were measured. P1 is left out where no places are `placed` yet."""
    precision, semantic = recipe.train.precision, in_sharpest(recipe)
    sharpest, placed = semantic.train.precision, placed and has_places(recipe)
    contracts = {b: read_hashes(ComparisonFiles(out).contract(b)) for b in ROOMS}
    first = {r.train.precision: {point: {run: load_tensors(first_step_path(out, run, r, point)) for run in RUNS}
                                 for point in POINTS} for r in precisions(recipe)}
    gradient, null = ladder.gradient_rung(first, precision, ladder.summed_positions(recipe, dataset))
    states = {r.train.precision: {b: load_tensors(optimizer_path(out, b, r)) for b in ROOMS}
              for r in precisions(recipe)}
    dtypes = {b: {name: dtype for r in precisions(recipe) for name, dtype in read_dtypes(out, b, r).items()}
              for b in ROOMS}
    found = {b: read_places(places_path(out, b)) for b in ROOMS} if placed else {}
    for backend, points in found.items():
        dtypes[backend] |= {f"{precision} {name}": kind for name, kind in points[POINTS[1]].get("dtypes", {}).items()}
    theirs = optimizer_of(recipe.optimizer).theirs
    if theirs:
        dtypes = compared(dtypes, recipe.optimizer)[0]
    begun = whence(recipe.model) if isinstance(recipe.model, Pair) else ""
    rungs = [ladder.contract_rung(contracts, dtypes=dtypes, begun=begun), gradient,
             (own_rung if theirs else ladder.optimizer_rung)(states, recipe.optimizer)]
    if placed:
        rungs.insert(1, operations_rung(operations, found, precision))

    curves, semantics = {}, None
    if sharpest == "float64":
        rates = learning_rates(recipe)[:float64_steps(recipe)]
        tree = tree_of(recipe, dataset.classes, dataset.example_shape)
        starts = {name: initial_value(name, tree[name], recipe.seed, np.float64) for name in null}
        runs = trainings(semantic, dataset, out)
        runs["unshown"] = ladder.unshown(first["float64"]["first"], null, ladder.summed_positions(recipe, dataset))
        semantics, curves["float64"] = ladder.semantics_rung(runs, starts, recipe.optimizer, rates)
        rungs.append(semantics)
    if precision != "float64":
        numerics, curves[precision] = ladder.numerics_rung(trainings(recipe, dataset, out), precision)
        rungs.append(numerics)
    own = {b: worst_tensor(*(first[p]["first"][b] for p in (precision, "float64")), null=null)
           for b in ROOMS if precision != "float64" and sharpest == "float64"}
    finished = {b: read_run(run_path(out, b, recipe), FinishedRun) for b in ROOMS}
    return {"agrees": all(rung["agrees"] for rung in rungs), "open": False, "rungs": rungs,
            "horizon": curves[precision]["horizon"], "sentence": sentence(rungs, precision, curves),
            "curves": curves, "null_directions": sorted(null),
            "tensors": worst_tensors(gradient, semantics, float64_steps(recipe)),
            "own_float64": {b: {"tensor": name, "worst": worst} for b, (name, worst) in own.items()} or None,
            "held_out": {b: info["final"] for b, info in finished.items()},
            "performance": {b: info["performance"] for b, info in finished.items()},
            "versions": {b: info["versions"] for b, info in finished.items()},
            "devices": {b: info["devices"] for b, info in finished.items()}} | shown_of(recipe, dataset, out)


def shown_of(recipe: Recipe, dataset: "Dataset", out: Path) -> dict[str, Any]:
    """{"task": what a page shows of it}; what fails of that is a line of the verdict."""
    found: dict[str, Any] = {}
    with fenced(found, "task"):
        found["task"] = task_of(recipe, dataset, {b: run_path(out, b, recipe) for b in ROOMS})
    return found


def worst_tensors(gradient: Rung, semantics: Rung | None, steps: int, most: int = 24) -> list[dict[str, Any]]:
    """The tensors nearest to their bounds or furthest above: gradients of step 0, and weights after the last step."""
    found = [(0, "gradient", c) for c in gradient["checks"] if "gradients/" in c["where"]]
    found += [(steps, "weights", c) for c in (semantics["checks"] if semantics else ()) if "weights/" in c["where"]]
    rows = [{"step": step, "tensor": ladder.bare(c["where"]), "kind": f"{kind}, {c['what']}", "difference": c["worst"],
             "bound": c["bound"], "ratio": c["worst"] / c["bound"] if c["bound"] else math.inf}
            for step, kind, c in found]
    return sorted(rows, key=lambda row: row["ratio"], reverse=True)[:most]


def trainings(recipe: Recipe, dataset: "Dataset", out: Path) -> dict[str, Any]:
    """{run: {"loss", "norm" (of the gradient): float64 (steps,), "weights": {name: array}}} of both backends and their
    twins, "positions": the number that a loss is the mean of, "metrics": `train.metrics`, and "labels": the
    names of classes."""
    runs = {"positions": positions(recipe), "metrics": recipe.train.metrics,
            "labels": dataset.manifest.get("labels") or ()}
    for run in RUNS:
        path = run_path(out, run, recipe)
        lines = [line for line in read_metrics(path) if "train/loss" in line]
        losses, norms = ([line[f"train/{what}"] for line in lines] for what in ("loss", "gradient_norm"))
        state, info = load_tensors(RunFiles(path).final), read_run(path)
        runs[run] = {"loss": np.array(losses, np.float64), "norm": np.array(norms, np.float64),
                     "held_out": info["final"], "sums": info.get("sums"),
                     "weights": {name: x for name, x in state.items() if name.startswith("weights/")}}
    return runs


def read_dtypes(out: Path, backend: str, recipe: Recipe) -> dict[str, str]:
    """{"float32 gradients/NAME" and the like: dtype} of all that a backend's first step and training left."""
    left = first_step_path(out, backend, recipe), RunFiles(run_path(out, backend, recipe)).final
    return {f"{recipe.train.precision} {name}": dtype for path in left for name, dtype in load_dtypes(path).items()}


def sentence(rungs: Sequence[Rung], precision: str, curves: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    failed, both = [rung for rung in rungs if not rung["agrees"]], " and ".join(LABELS.values())
    if failed:
        rung = failed[0]
        return (f"{both} do not agree: {rung['name']} ({rung['title']}) parts at {rung['where']}, "
                f"{sig(rung['worst'])} against a bound of {sig(rung['bound'])}, {margin(rung)}.")
    steps, horizon = len(curves[precision]["steps"]), curves[precision]["horizon"]
    reach = f"up to the horizon at step {horizon} of {steps}" if horizon is not None else f"over all {steps} steps"
    same = (f"{both} train the same: every rung holds, the losses agree within {precision} noise {reach}")
    if "float64" not in curves:
        return f"{same}; nothing was compared in float64, for a program computes in float32 whatever comes in."
    exact = float((curves["float64"]["difference"] / np.maximum(np.abs(curves["float64"]["keras"]), 1e-300)).max())
    return (f"{same}, and in float64 within {sig(exact)} relative over {len(curves['float64']['steps'])} steps.")
