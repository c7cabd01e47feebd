"""What is known of a metric; docs/adding.md says how to add one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput, TwinscaleError, first_line
from twinscale.common.files.access import shown
from twinscale.common.registry import Registry, load

METRICS = Registry("metrics", "train.metrics", {"classification": "twinscale.common.metrics.classification:"
                                                                  "CLASSIFICATION"},
                   "twinscale.common.metrics.base:Metric")
ALWAYS = "classification"  # what every evaluation measures


@dataclass(frozen=True)
class Metric:
    """A metric of held-out predictions: sums that add up over replicas and batches, and what a person reads of them."""

    title: str  # its sums are kept as "TITLE.SUM"
    # (xp, logits, labels, weights) -> {sum: scalar}, over an array namespace: functions of numpy, jax.numpy and
    # keras.ops alone. Sums are not divided; "weight" is among the sums that `finish` is given.
    statistics: Callable
    finish: Callable  # ({sum: float}) -> {name: value}, in NumPy or plain Python
    # ({sum: float}, loss) -> {name: how far it may be off}, where a mean of losses may be off by `loss` nats. None: a
    # metric that moves smoothly with the logits, as far as its twins' do.
    bound: Callable | None = None


def statistics_of(names: Iterable[str], xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """The sums of added metrics, {"TITLE.SUM": scalar}; arguments as at `classification.statistics`."""
    return {f"{metric.title}.{key}": value for metric in added(names)
            for key, value in metric.statistics(xp, logits, labels, weights).items()}


def finished(names: Iterable[str], sums: Mapping[str, float]) -> dict[str, float]:
    """What a person reads from the sums of added metrics, {name: value}. Raises BadInput where two have a name."""
    found = {}
    for metric in added(names):
        values = metric.finish(own_sums(metric, sums))
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
            sums |= {key: float(value) for key, value in statistics_of(
                [name], np, drawn.standard_normal((*where, 5)), drawn.integers(0, 5, where), np.ones(where)).items()}
            for value in metric.finish(own_sums(metric, sums)).values():
                float(value)
        except TwinscaleError:
            raise
        except Exception as error:
            raise BadInput(f"train.metrics: {shown(metric.title)}: breaks on logits of shape (2, 3, 5): "
                           f"{type(error).__name__}: {shown(first_line(error, 300))}") from error
    finished(names, sums)
    return names


def own_sums(metric: Metric, sums: Mapping[str, float]) -> dict[str, float]:
    """The sums that one metric has made, by its own names, and the weight of all positions."""
    own = {key.partition(".")[2]: value for key, value in sums.items() if key.startswith(f"{metric.title}.")}
    return {"weight": sums["weight"]} | own


def added(names: Iterable[str]) -> list:
    """The Metrics of `train.metrics`. Raises as `registry.load` does."""
    return [load(METRICS, name) for name in names]
