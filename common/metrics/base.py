"""What is known of a metric; docs/adding.md says how to add one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput, TwinscaleError, first_line
from twinscale.common.files.access import shown
from twinscale.common.registry import Registry, load

METRICS = Registry("metrics", "train.metrics", {
    "classification": "twinscale.common.metrics.classification:CLASSIFICATION",
    "report": "twinscale.common.metrics.classes:REPORT", "confusion": "twinscale.common.metrics.classes:CONFUSION",
    "top-3": "twinscale.common.metrics.classes:TOP_3", "top-5": "twinscale.common.metrics.classes:TOP_5",
    "top-10": "twinscale.common.metrics.classes:TOP_10", "entities": "twinscale.common.metrics.entities:ENTITIES",
    "roc-auc-1024": "twinscale.common.metrics.scores:ROC_AUC",
    "calibration-15": "twinscale.common.metrics.scores:CALIBRATION"},
    "twinscale.common.metrics.base:Metric")
ALWAYS = "classification"  # what every evaluation measures


@dataclass(frozen=True)
class Metric:
    """A metric of held-out predictions: sums that add up over replicas and batches, and what a person reads of them."""

    title: str  # its sums are kept as "TITLE.SUM"
    # (xp, logits, labels, weights) -> {sum: scalar or array}, over an array namespace: functions of numpy, jax.numpy
    # and keras.ops alone. Sums are not divided; "weight" is among the sums that `finish` is given.
    statistics: Callable
    # ({sum: float, or float64 (N,) of an array}) -> {name: value}, in NumPy or plain Python
    finish: Callable
    # ({sum: float}, loss) -> {name: how far it may be off}, where a mean of losses may be off by `loss` nats. None: a
    # metric that moves smoothly with the logits, as far as its twins' do.
    bound: Callable | None = None
    named: bool = False  # whether `finish` and `bound` take the names of the classes besides, () where there are none
    classes: bool = False  # whether labels have to be classes
    apart: bool = False  # whether its sums add up over positions too: each of them is judged by itself
    counts: bool = False  # whether its values, called "TITLE/...", are numbers of positions
    # {pattern of the names of its values: "higher" or "lower"}: which is better; what is in none is not watched
    better: Mapping[str, str] = field(default_factory=dict)


def statistics_of(names: Iterable[str], xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """The sums of added metrics, {"TITLE.SUM": scalar or array}; arguments as at `classification.statistics`."""
    return {f"{metric.title}.{key}": value for metric in added(names)
            for key, value in metric.statistics(xp, logits, labels, weights).items()}


def total(parts: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The sums of all batches, of whatever framework: {"TITLE.SUM": float}, and of an array one for each value, in the
    order that they lie in, "TITLE.SUM.0", "TITLE.SUM.1" and so on."""
    totals: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + np.asarray(value, np.float64)
    found = {}
    for name, value in totals.items():
        found |= {f"{name}.{i}": float(x) for i, x in enumerate(value.ravel())} if value.ndim else {name: float(value)}
    return found


def judge_apart(names: Iterable[str]) -> bool:
    """Whether metrics judge each position by itself, so that parts of a row may be judged one after another."""
    return all(metric.apart for metric in added(names))


def finished_one(metric: Metric, own: Mapping[str, Any], labels: Sequence[str] = ()) -> dict[str, float]:
    """What a person reads from a metric's own sums."""
    return metric.finish(own, tuple(labels)) if metric.named else metric.finish(own)


def bounds_of(metric: Metric, own: Mapping[str, Any], loss: float, labels: Sequence[str] = ()) -> dict[str, float]:
    """How far its values may be off where a mean of losses may be off by `loss`, of a metric that says it."""
    return metric.bound(own, loss, *[tuple(labels)] * metric.named)


def finished(names: Iterable[str], sums: Mapping[str, float], labels: Sequence[str] = ()) -> dict[str, float]:
    """What a person reads from the sums of added metrics, {name: value}; `labels`: the classes' names, where they have
    any. Raises BadInput where two have a name."""
    found = {}
    for metric in added(names):
        values = finished_one(metric, own_sums(metric, sums), labels)
        if taken := values.keys() & (found.keys() | {"loss", "accuracy", "perplexity", "bits_per_byte"}):
            raise BadInput(f"train.metrics: {metric.title}: {min(taken)} is what another metric is called")
        found |= values
    return found


def tried(names: Sequence[str]) -> Sequence[str]:
    """The names, after metrics by them have measured a few drawn logits in NumPy: two of one name and one that breaks
    are found before anything is compiled. Raises BadInput."""
    drawn, where = np.random.default_rng(0), (2, 3)
    sums = {"weight": 6.0}
    for name, metric in zip(names, added(names), strict=True):
        try:
            sums |= total([statistics_of([name], np, drawn.standard_normal((*where, 5)), drawn.integers(0, 5, where),
                                         np.ones(where))])
            for value in finished_one(metric, own_sums(metric, sums)).values():
                float(value)
        except TwinscaleError:
            raise
        except Exception as error:
            raise BadInput(f"train.metrics: {shown(metric.title)}: breaks on logits of shape (2, 3, 5): "
                           f"{type(error).__name__}: {shown(first_line(error, 300))}") from error
    finished(names, sums)
    return names


def higher_is_better(names: Iterable[str], value: str) -> bool | None:
    """Whether more of a value of evaluations, of what is always measured or by metrics `names`, is better; None where
    none of them says so of it."""
    said = (way for pattern, way in ways_of(names) if fnmatchcase(value, pattern))
    return {"higher": True, "lower": False, None: None}[next(said, None)]


def ways_of(names: Iterable[str]) -> list[tuple[str, str]]:
    """[(pattern of a value's name, "higher" or "lower": which is better)] of what is always measured and of metrics
    `names`."""
    return [(pattern, way) for metric in added([ALWAYS, *names]) for pattern, way in metric.better.items()]


def own_sums(metric: Metric, sums: Mapping[str, float]) -> dict[str, Any]:
    """The sums that one metric has made, by its own names, and all weight; what was an array is float64 (N,)."""
    own = {key.removeprefix(f"{metric.title}."): value for key, value in sums.items()
           if key.startswith(f"{metric.title}.")}
    arrays: dict[str, dict[int, float]] = {}
    for key in [key for key in own if key.rpartition(".")[2].isdigit()]:
        name, _, place = key.rpartition(".")
        arrays.setdefault(name, {})[int(place)] = own.pop(key)
    return {"weight": sums["weight"]} | own | {
        name: np.array([values[i] for i in range(len(values))], np.float64) for name, values in arrays.items()}


def added(names: Iterable[str]) -> list:
    """The Metrics of `train.metrics`. Raises as `registry.load` does."""
    return [load(METRICS, name) for name in names]
