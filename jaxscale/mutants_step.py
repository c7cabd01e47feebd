"""Errors of a step beside the model: loss, sums, clipping, optimizers, averages, evaluation. See
`common/planted/mutants.py`; more of them stand in `mutants.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import jax
import jax.numpy as jnp
import optax

from twinscale.common.planted.planting import registry
from twinscale.jaxscale import batch_loss, optimizer, train
from twinscale.jaxscale.patches import changed_clip, changed_sums, changed_train

CHANGES, change = registry()


@change("dense", "loss")
def softmax_twice() -> Iterator[None]:
    """Cross-entropy takes probabilities for logits."""
    loss = batch_loss.negative_log_likelihood
    with patch.object(batch_loss, "negative_log_likelihood",
                      lambda logits, labels: loss(jax.nn.softmax(logits), labels)):
        yield


@change("dense", "loss", needs="label smoothing")
def lost_smoothing() -> Iterator[None]:
    """Labels are not smoothed."""
    with changed_train(label_smoothing=0.0):
        yield


@change("dense", "accumulation")
def first_micro_batch_lost() -> Iterator[None]:
    """The gradients of the first micro-batch are lost."""
    sum_gradients = train.sum_gradients

    def late(recipe, state, number, batch):
        _, running, sums = sum_gradients(recipe, state, number, batch)
        one, total = recipe.with_values(train={"accumulate": 1}), None
        for i in range(1, recipe.train.accumulate):
            gradients, _, _ = sum_gradients(one, state, number, {name: x[i] for name, x in batch.items()})
            total = gradients if total is None else jax.tree.map(jnp.add, total, gradients)
        return total, running, sums

    with patch.object(train, "sum_gradients", late):
        yield


@change("dense", "accumulation")
def float32_sums() -> Iterator[None]:
    """Gradients are added up in float32."""
    with changed_sums(lambda g: g.astype(jnp.float32).astype(g.dtype)):
        yield


@change("dense", "accumulation", needs="dropout")
def rows_numbered_anew() -> Iterator[None]:
    """Each micro-batch numbers its rows from zero, and drops what the first one does."""
    sum_gradients = train.sum_gradients

    def anew(recipe, state, number, batch):
        rows = recipe.train.global_batch // recipe.train.accumulate
        return sum_gradients(recipe, state, number, batch | {"row": batch["row"] % rows})

    with patch.object(train, "sum_gradients", anew):
        yield


@change("dense", "clip")
def clip_epsilon() -> Iterator[None]:
    """The norm that gradients are clipped by is a millionth larger, as PyTorch has it."""
    def clipped(gradients, limit):
        scale = jnp.minimum(1.0, limit / (optax.tree.norm(gradients) + 1e-6))
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)

    with changed_clip(clipped):
        yield


@change("dense", "clip", needs="biases")
def clip_by_kernels() -> Iterator[None]:
    """The norm that gradients are clipped by leaves out biases and norms."""
    def clipped(gradients, limit):
        norm = optax.tree.norm({path: g for path, g in gradients.items() if not path.endswith((".bias", ".scale"))})
        return jax.tree.map(lambda g: g * jnp.minimum(jnp.ones_like(norm), limit / norm), gradients)

    with changed_clip(clipped):
        yield


@change("dense", "update", needs="AdamW")
def epsilon_inside_root() -> Iterator[None]:
    """Adam's epsilon stands under the root too."""
    adam = optax.scale_by_adam
    with patch.object(optax, "scale_by_adam", lambda b1, b2, eps: adam(b1, b2, eps, eps_root=eps)):
        yield


@change("dense", "update", needs="AdamW")
def nesterov_adam() -> Iterator[None]:
    """Adam looks ahead, as NAdam does."""
    adam = optax.scale_by_adam
    with patch.object(optax, "scale_by_adam", lambda b1, b2, eps: adam(b1, b2, eps, nesterov=True)):
        yield


@change("dense", "moment", needs="AdamW")
def swapped_betas() -> Iterator[None]:
    """Adam's betas change places."""
    adam = optax.scale_by_adam
    with patch.object(optax, "scale_by_adam", lambda b1, b2, eps: adam(b2, b1, eps)):
        yield


@change("image", "decay", needs="momentum")
def decay_in_momentum() -> Iterator[None]:
    """Weight decay goes through the momentum, as SGD with L2 has it."""
    trace, kept = optax.trace, {}

    def noted(weight_decay, mask):
        kept.update(by=weight_decay, mask=mask)
        return optax.identity()

    def coupled(decay, nesterov):
        inner = trace(decay, nesterov)

        def update(gradients, state, weights=None):
            mask = kept["mask"](weights)
            decayed = {path: g + kept["by"] * weights[path] * mask[path] for path, g in gradients.items()}
            return inner.update(decayed, state, weights)

        return optax.GradientTransformation(inner.init, update)

    with patch.object(optax, "add_decayed_weights", noted), patch.object(optax, "trace", coupled):
        yield


@change("lion", "moment", needs="Lion")
def single_beta() -> Iterator[None]:
    """Lion moves its moment by the share that it strides by."""
    lion = optax.scale_by_lion
    with patch.object(optax, "scale_by_lion", lambda b1, b2: lion(b1, b1)):
        yield


@change("lamb", "update", needs="LAMB")
def trust_epsilon() -> Iterator[None]:
    """LAMB divides by an update's norm and a millionth more, as some have it."""
    def ratio(update, weight):
        w, u = jnp.linalg.norm(weight.ravel()), jnp.linalg.norm(update.ravel())
        return update * jnp.where((w > 0) & (u > 0), w / (u + 1e-6), 1)

    with patch.object(optimizer, "trust_ratio", lambda: optax.stateless(lambda updates, weights: jax.tree.map(
            ratio, updates, weights))):
        yield


@change("dense", "average")
def late_average() -> Iterator[None]:
    """The average moves by the weights before the update."""
    update = train.update

    def late(recipe, state, gradients):
        moved = update(recipe, state, gradients)
        return moved.replace(averages=train.average(state.averages, state.weights, recipe.optimizer.ema))

    with patch.object(train, "update", late):
        yield


@change("dense", "average", needs="biases")
def average_of_kernels() -> Iterator[None]:
    """Biases and norms are not averaged: evaluation takes the newest."""
    average = train.average

    def kernels(averages, weights, decay):
        found = average(averages, weights, decay)
        return {path: weights[path] if path.endswith((".bias", ".scale")) else x for path, x in found.items()}

    with patch.object(train, "average", kernels):
        yield


@change("dense", "evaluation", needs="dropout")
def dropout_in_evaluation() -> Iterator[None]:
    """Evaluation drops elements as training does."""
    with trained_in_evaluation():
        yield


@change("image", "evaluation", needs="convnet")
def batch_statistics_in_evaluation() -> Iterator[None]:
    """Evaluation norms by its batch's own statistics."""
    with trained_in_evaluation():
        yield


@contextmanager
def trained_in_evaluation() -> Iterator[None]:
    """A model that is evaluated as it is trained."""
    forward = train.forward
    with patch.object(train, "forward", lambda *of, training=False: forward(*of, training=True)):
        yield
