"""What is known of a metric; docs/adding.md says how to add one."""

from collections.abc import Callable
from dataclasses import dataclass

from twinscale.common.errors import BadInput
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


def statistics_of(names, xp, logits, labels, weights):
    """The sums of added metrics, {"TITLE.SUM": scalar}; arguments as at `classification.statistics`."""
    return {f"{metric.title}.{key}": value for metric in added(names)
            for key, value in metric.statistics(xp, logits, labels, weights).items()}


def finished(names, sums):
    """What a person reads from the sums of added metrics, {name: value}. Raises BadInput where two have a name."""
    found = {}
    for metric in added(names):
        values = metric.finish(own_sums(metric, sums))
        if taken := values.keys() & (found.keys() | {"loss", "accuracy", "perplexity", "bits_per_byte"}):
            raise BadInput(f"train.metrics: {metric.title}: {min(taken)} is what another metric is called")
        found |= values
    return found


def own_sums(metric, sums):
    """The sums that one metric has made, by its own names, and the weight of all positions."""
    own = {key.partition(".")[2]: value for key, value in sums.items() if key.startswith(f"{metric.title}.")}
    return {"weight": sums["weight"]} | own


def added(names):
    """The Metrics of `train.metrics`. Raises as `registry.load` does."""
    return [load(METRICS, name) for name in names]
