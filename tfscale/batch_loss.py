"""What a batch's loss is: what the model reads, and the objective over what it makes of it; on any runtime of Keras."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twinscale.common import losses
from twinscale.common.data import example_shape_of, input_specs
from twinscale.common.objectives import described
from twinscale.common.registry import resolved
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.runtimes import on_tensorflow
from twinscale.tfscale.wide import ops

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def model_inputs(recipe: "Recipe", batch: Mapping[str, Any], key: Tensor) -> dict[str, Tensor]:
    """What the model reads of a batch."""
    batch = {**batch, "key": key}
    specs = input_specs(recipe, example_shape_of(recipe, batch))
    return {name: ops.cast(batch[name], dtype) for name, (_, dtype) in specs.items()}


def loss_sums(recipe: "Recipe", logits: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective summed over weighted positions, and the sums of {"loss", "weight"} and, of classes, "correct"."""
    weights = ops.cast(batch["weights"], logits.dtype)
    what, loss = described(recipe), resolved(described(recipe).keras)

    def of_both(measure):
        return losses.of_both(ops, batch, lambda x: ops.cast(x, logits.dtype), measure)

    each = of_both(lambda labels: losses.by_weight(ops, loss(recipe, logits, labels), weights))
    objective = ops.sum(weights * each)
    if what.judged:
        return objective, {"loss": objective, "weight": ops.sum(weights)}
    best = ops.argmax(logits, -1)
    hits = of_both(lambda labels: ops.where(ops.equal(best, labels), weights, 0))
    return objective, {"loss": objective, "correct": ops.sum(hits), "weight": ops.sum(weights)}


def cross_entropy(recipe: "Recipe", logits: Tensor, labels: Tensor) -> Tensor:
    """Of each position: against (1 - s) one-hot + s / classes (label smoothing s), plus z_loss logsumexp^2."""
    smoothing, z_loss = recipe.train.label_smoothing, recipe.train.z_loss
    each = negative_log_likelihood(logits, labels)
    if smoothing:
        uniform = log_sum_exp(logits) - ops.sum(logits, -1) / logits.shape[-1]
        each = (1 - smoothing) * each + smoothing * uniform
    if z_loss:
        each += z_loss * ops.square(log_sum_exp(logits))
    return each


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(logits) of each label, (...) of (..., V), whatever the logits come from: Keras' own on TensorFlow
    takes back a softmax that a program ends with. On JAX a label is found by comparison: Keras' own keeps the logits in
    float32 beside those in bfloat16, on a TPU 2 GiB of decoder-1b's."""
    if on_tensorflow():
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.cast(labels, tf.int64), logits=logits)
    there = ops.equal(ops.arange(logits.shape[-1], dtype=labels.dtype), labels[..., None])
    return log_sum_exp(logits) - ops.sum(ops.where(there, logits, ops.zeros_like(logits)), -1)


def log_sum_exp(x: Tensor) -> Tensor:
    """log sum exp over the last axis. On JAX with no gradient through the largest, which Keras' own there has."""
    if on_tensorflow():
        return ops.logsumexp(x, -1)
    largest = ops.stop_gradient(ops.max(x, -1))
    return ops.log(ops.sum(ops.exp(x - largest[..., None]), -1)) + largest


def probe(recipe: "Recipe", logits: Tensor, labels: Tensor) -> Tensor:
    """Of each position: as `common.losses.probe`."""
    return losses.probe(ops, recipe, logits, labels)


def squared_error(recipe: "Recipe", logits: Tensor, labels: Tensor) -> Tensor:
    """Of each position: as `common.losses.squared_error`."""
    return losses.squared_error(ops, recipe, logits, labels)


def sigmoid(recipe: "Recipe", logits: Tensor, labels: Tensor) -> Tensor:
    """Of each position: as `common.losses.sigmoid`."""
    return losses.sigmoid(ops, recipe, logits, labels)
