"""What people of a task look at in two trainings: the classes one by one, what is taken for what, how sure a side may
be, how evaluations went, and the examples that either is furthest off on.

All of it is of what runs have left: the sums of their last evaluation, its predictions, and their metrics.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.examples import worst
from twinscale.benchmarks.rungs.sentences import paired_of
from twinscale.common.metrics import own_sums
from twinscale.common.metrics.classes import CONFUSION, PARTS, REPORT, names_of
from twinscale.common.metrics.entities import ENTITIES, types_of
from twinscale.common.metrics.flips import shares
from twinscale.common.metrics.rows import of_classes
from twinscale.common.metrics.scores import CALIBRATION
from twinscale.common.metrics.words import summing_up
from twinscale.common.training.predictions import read_predictions
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe

MATRIX = 64  # classes up to which a confusion matrix is shown


def task_of(recipe: "Recipe", dataset: "Dataset", paths: Mapping[str, Path]) -> dict[str, Any] | None:
    """What a page of the task shows of the runs at `paths`, {side: directory}; None where no metric is of classes.

    Returns: a dict, with what there is of
      kind          "entities" or "classes"
      classes       of each {"name", "count", and "SIDE": {"precision", "recall", "f1"}}
      matrix        {side: (classes, classes) of positions by label and prediction}, "names" of its rows
      reliability   {side: {"confidence", "accuracy", "count": of each bin that has any}}
      curves        {metric: {side: {"steps", "values"}}} of evaluations, where there were several
      paired        of entities, what `benchmarks.rungs.sentences.paired` says of the difference of both sides' F1
      worst         what `benchmarks.examples.worst` has
    """
    metrics = recipe.train.metrics
    if not of_classes(metrics):
        return None
    names = list(dataset.manifest.get("labels") or ())
    found = left_by(metrics, paths, dataset.classes, names)
    predictions = {side: read_predictions(path) for side, path in paths.items()}
    there = {side: x for side, x in predictions.items() if x is not None}
    found["worst"] = worst(dataset, there, names) if len(there) == len(paths) else []
    if ENTITIES.title in metrics:
        found["paired"] = paired_of(dataset, there, recipe.compare.margin.entity_f1)
    return {key: value for key, value in found.items() if value}


def task_of_runs(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The same of {side: {"path", "info", "recipe"}} by what they have left alone, without the data, which need not be
    here: neither the examples that a side is furthest off on, nor the paired difference, which are of rows. Of metrics
    that both have measured; None where none of these is of classes, or their classes are not the same ones."""
    first, *others = runs.values()
    metrics = [metric for metric in first["recipe"].train.metrics
               if all(metric in run["recipe"].train.metrics for run in others)]
    (count, names), *called = ((run["info"]["data"].get("classes"), run["info"]["data"].get("labels") or [])
                               for run in runs.values())
    if not of_classes(metrics) or any(other != (count, names) for other in called):
        return None
    if not isinstance(count, int) or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None  # of a run that an earlier version, or somebody else, has written
    found = left_by(metrics, {side: run["path"] for side, run in runs.items()}, count, names)
    if any(len(table) != len(found["names"]) for table in found["matrix"].values()):
        found["matrix"] = {}  # of other classes than the data's, as nobody has trained
    return {key: value for key, value in found.items() if value}


def left_by(metrics: Sequence[str], paths: Mapping[str, Path], count: int, names: Sequence[str]) -> dict[str, Any]:
    """What the runs at `paths`, {side: directory}, have measured of `count` classes with these names, as `task_of` has
    it."""
    sums = {side: read_run(path).get("sums") or {} for side, path in paths.items()}
    return classes_of(metrics, sums, names) | {
        "kind": "entities" if ENTITIES.title in metrics else "classes", "matrix": matrix_of(metrics, sums),
        "names": names_of(count, names)[:MATRIX], "reliability": reliability_of(metrics, sums),
        "curves": curves_of({side: read_metrics(path) for side, path in paths.items()})}


def classes_of(metrics: Sequence[str], sums: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> dict[str, Any]:
    """{"classes": rows} of the types of entities, or else of the classes, where one of both is measured."""
    metric = next((one for one in (ENTITIES, REPORT) if one.title in metrics), None)
    if metric is None or not all(f"{metric.title}.right.0" in of for of in sums.values()):
        return {}
    own = {side: own_sums(metric, of) for side, of in sums.items()}
    counts = next(iter(own.values()))["labelled"]
    called = (types_of if metric is ENTITIES else names_of)(len(counts), names)
    measured = {side: np.stack(shares(of["right"], of["predicted"], of["labelled"])) for side, of in own.items()}
    return {"classes": [{"name": name, "count": float(counts[i])}
                        | {side: dict(zip(PARTS, map(float, x[:, i]), strict=True)) for side, x in measured.items()}
                        for i, name in enumerate(called)]}


def matrix_of(metrics: Sequence[str], sums: Mapping[str, Mapping[str, float]]) -> dict[str, list[list[float]]]:
    """{side: table} of confusion, up to MATRIX classes; {} where it is not measured."""
    if CONFUSION.title not in metrics or not all(f"{CONFUSION.title}.table.0" in of for of in sums.values()):
        return {}
    tables = {side: own_sums(CONFUSION, of)["table"] for side, of in sums.items()}
    size = round(len(next(iter(tables.values()))) ** 0.5)
    return {side: x.reshape(size, size).tolist() for side, x in tables.items()} if size <= MATRIX else {}


def reliability_of(metrics: Sequence[str], sums: Mapping[str, Mapping[str, float]]
                   ) -> dict[str, dict[str, list[float]]]:
    """{side: {"confidence", "accuracy", "count"}} of the bins that have any position; {} where it is not measured."""
    if CALIBRATION.title not in metrics or not all(f"{CALIBRATION.title}.count.0" in of for of in sums.values()):
        return {}
    found = {}
    for side, of in sums.items():
        own = own_sums(CALIBRATION, of)
        some = own["count"] > 0
        found[side] = {"confidence": (own["confidence"][some] / own["count"][some]).tolist(),
                       "accuracy": (own["correct"][some] / own["count"][some]).tolist(),
                       "count": own["count"][some].tolist()}
    return found


def curves_of(lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, list]]]:
    """{metric: {side: {"steps", "values"}}} of what sums up the evaluations, by the lines of metrics.jsonl, after how
    many updates; {} where there was one alone."""
    start, found = "held_out/", {}
    evaluated = {side: [line for line in own if f"{start}loss" in line] for side, own in lines.items()}
    if not evaluated or min(map(len, evaluated.values())) < 2:
        return {}
    last = next(iter(evaluated.values()))[-1]
    for name in summing_up(key.removeprefix(start) for key in last if key.startswith(start)):
        found[name] = {side: points(own, start + name) for side, own in evaluated.items()}
    return found


def points(lines: Sequence[Mapping[str, Any]], name: str) -> dict[str, list]:
    """{"steps", "values"} of a name in lines of metrics.jsonl, by how many updates there have been."""
    return {"steps": [line["step"] + 1 for line in lines], "values": [line.get(name) for line in lines]}
