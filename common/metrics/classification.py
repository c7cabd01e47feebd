"""Loss and accuracy of predicted classes or tokens."""

import math
from collections.abc import Mapping
from typing import Any

from twinscale.common.metrics.base import Metric
from twinscale.common.metrics.flips import near_of

MEANS = {"loss": "loss", "accuracy": "correct"}  # what a step says by weight: {name: the sum that it is of}

def statistics(xp: Any, logits: Any, labels: Any, weights: Any) -> dict:
    """Sums over every position, written over an array namespace (numpy, jax.numpy, keras.ops).

    Args:
      xp: the namespace.
      logits: float, shape (..., classes).
      labels: int, shape (...).
      weights: float of the dtype of the logits, shape (...); padding weighs 0.
    Returns: {"loss": sum of cross-entropies in nats, "correct": sum of hits, "weight": sum of weights, "near": that of
      positions whose two largest logits are within NEAR of each other}.
    """
    shifted = xp.subtract(logits, xp.max(logits, axis=-1, keepdims=True))
    log_total = xp.log(xp.sum(xp.exp(shifted), axis=-1))
    picked = xp.squeeze(xp.take_along_axis(shifted, xp.expand_dims(labels, -1), axis=-1), axis=-1)
    hits = xp.where(xp.equal(xp.argmax(logits, axis=-1), labels), weights, xp.zeros_like(weights))
    return {
        "loss": xp.sum(xp.multiply(weights, xp.subtract(log_total, picked))),
        "correct": xp.sum(hits),
        "weight": xp.sum(weights),
        "near": near_of(xp, logits, weights),
    }


def finish(sums: Mapping[str, float], label_bytes: int | None = None) -> dict[str, float]:
    """What a person reads: loss in nats, accuracy, and for text perplexity and bits per byte; of sums without hits,
    whose objective is not of classes, the loss alone.

    Args:
      sums: the added statistics, as Python floats.
      label_bytes: bytes of text that the weighted labels stand for, or None where the labels are no text.
    """
    loss = sums["loss"] / sums["weight"]
    if "correct" not in sums:
        return {"loss": loss}
    metrics = {"loss": loss, "accuracy": sums["correct"] / sums["weight"]}
    if label_bytes is not None:
        metrics["perplexity"] = math.exp(min(loss, 700.0))
        metrics["bits_per_byte"] = sums["loss"] / (math.log(2) * max(1, label_bytes))
    return metrics


CLASSIFICATION = Metric("classification", statistics, finish, apart=True, better={
    "loss": "lower", "accuracy": "higher", "perplexity": "lower", "bits_per_byte": "lower"})
