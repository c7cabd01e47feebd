"""Errors of a step beside the model: loss, sums, clipping, optimizers, averages, evaluation. See
`common/planted/mutants.py`; more of them stand in `mutants.py`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import keras
import tensorflow as tf
from keras import ops

from twinscale.common.planted.planting import registry
from twinscale.tfscale import batch_loss, optimizer, train
from twinscale.tfscale.patches import changed_clip, changed_sums

CHANGES, change = registry()


@change("dense", "loss")
def softmax_twice() -> Iterator[None]:
    """Cross-entropy takes probabilities for logits."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits
    with patch.object(tf.nn, "sparse_softmax_cross_entropy_with_logits",
                      lambda labels, logits: loss(labels=labels, logits=tf.nn.softmax(logits))):
        yield


@change("dense", "loss", needs="z-loss")
def z_loss_unsquared() -> Iterator[None]:
    """The z-loss is of logsumexp and not of its square."""
    loss_sums = batch_loss.loss_sums

    def unsquared(recipe, logits, batch):
        _, sums = loss_sums(recipe.with_values(train={"z_loss": 0.0}), logits, batch)
        weights = ops.cast(batch["weights"], logits.dtype)
        objective = sums["loss"] + recipe.train.z_loss * ops.sum(weights * ops.logsumexp(logits, -1))
        return objective, sums | {"loss": objective}

    with patch.object(batch_loss, "loss_sums", unsquared):
        yield


@change("layer", "loss", needs="text")
def mean_over_rows() -> Iterator[None]:
    """The loss is a mean of rows, and not of the positions that count."""
    loss_sums = batch_loss.loss_sums

    def of_rows(recipe, logits, batch):
        objective, sums = loss_sums(recipe, logits, batch)
        return objective, sums | {"weight": tf.cast(tf.shape(logits)[0], logits.dtype)}

    with patch.object(batch_loss, "loss_sums", of_rows):
        yield


@change("layer", "accumulation", needs="text")
def mean_of_means() -> Iterator[None]:
    """Micro-batches count alike, however many tokens each holds."""
    sum_gradients = train.sum_gradients

    def alike(recipe, state, number, batch):
        _, running, sums = sum_gradients(recipe, state, number, batch)
        parts, totals = recipe.train.accumulate, None
        rows, one = batch["row"].shape[0] // parts, recipe.with_values(train={"accumulate": 1})
        for i in range(parts):
            part = {name: x[i * rows:(i + 1) * rows] for name, x in batch.items()}
            gradients, _, own = sum_gradients(one, state, number, part)
            gradients = [g * sums["weight"] / own["weight"] / parts for g in gradients]
            totals = gradients if totals is None else [a + b for a, b in zip(totals, gradients, strict=True)]
        return totals, running, sums

    with patch.object(train, "sum_gradients", alike):
        yield


@change("dense", "accumulation")
def float32_sums() -> Iterator[None]:
    """Gradients are added up in float32."""
    with changed_sums(lambda g: tf.cast(tf.cast(g, tf.float32), g.dtype)):
        yield


@change("dense", "clip")
def clip_epsilon() -> Iterator[None]:
    """The norm that gradients are clipped by is a millionth larger, as PyTorch has it."""
    def clipped(gradients, limit):
        scale = tf.minimum(tf.ones((), gradients[0].dtype), limit / (tf.linalg.global_norm(gradients) + 1e-6))
        return [g * scale for g in gradients]

    with changed_clip(clipped):
        yield


@change("dense", "clip")
def clip_by_largest() -> Iterator[None]:
    """Gradients are clipped by their largest element."""
    def clipped(gradients, limit):
        largest = tf.reduce_max(tf.stack([tf.reduce_max(tf.abs(g)) for g in gradients]))
        return [g * tf.minimum(tf.ones_like(largest), limit / largest) for g in gradients]

    with changed_clip(clipped):
        yield


@change("dense", "clip or update", needs="clipping", phase="clip")
def clipped_sums() -> Iterator[None]:
    """Sums of gradients are clipped, and divided by their weight after it."""
    clip, rows = train.clip, 4
    with patch.object(train, "clip", lambda gradients, limit: (
            clip(gradients, limit / rows)[0], clip(gradients, 0)[1])):
        yield


@change("dense", "update", needs="AdamW")
def uncorrected() -> Iterator[None]:
    """Adam does not correct its moments for their start."""
    def update_step(self, gradient, variable, rate):
        i, kind = self._get_variable_index(variable), variable.dtype
        m, v = self._momentums[i], self._velocities[i]
        self.assign_add(m, (gradient - m) * tf.cast(1 - self.beta_1, kind))
        self.assign_add(v, (gradient * gradient - v) * tf.cast(1 - self.beta_2, kind))
        self.assign_sub(variable, tf.cast(rate, kind) * m / (tf.sqrt(v) + tf.cast(self.epsilon_hat, kind)))

    with patch.object(optimizer.AdamW, "update_step", update_step):
        yield


@change("dense", "decay", needs="AdamW")
def decay_without_rate() -> Iterator[None]:
    """Weights decay by their whole share, whatever the learning rate is."""
    def decay(self, variables):
        for variable in (v for v in variables if self._use_weight_decay(v)):
            self.assign_sub(variable, variable * tf.cast(self.weight_decay, variable.dtype))

    with patch.object(optimizer.AdamW, "_apply_weight_decay", decay):
        yield


@change("dense", "decay", needs="AdamW")
def decay_after_update() -> Iterator[None]:
    """Weights decay after the update, and it with them."""
    update_step = optimizer.AdamW.update_step

    def late(self, gradient, variable, rate):
        update_step(self, gradient, variable, rate)
        if self._use_weight_decay(variable):
            share = tf.cast(rate, variable.dtype) * tf.cast(self.weight_decay, variable.dtype)
            self.assign_sub(variable, variable * share)

    with patch.object(optimizer.AdamW, "update_step", late), \
            patch.object(optimizer.AdamW, "_apply_weight_decay", lambda self, variables: None):
        yield


@change("image", "moment", needs="momentum")
def dampened_momentum() -> Iterator[None]:
    """Momentum takes a share of the gradient and not all of it."""
    update_step = optimizer.SGD.update_step

    def dampened(self, gradient, variable, rate):
        update_step(self, gradient * tf.cast(1 - self.momentum, gradient.dtype), variable, rate)

    with patch.object(optimizer.SGD, "update_step", dampened):
        yield


@change("lion", "update", needs="Lion")
def sign_of_moment() -> Iterator[None]:
    """Lion strides by the sign of the moment that it has just moved."""
    def update_step(self, gradient, variable, rate):
        kind, m = variable.dtype, self._momentums[self._get_variable_index(variable)]
        beta = tf.cast(self.beta_2, kind)
        self.assign(m, beta * m + (1 - beta) * gradient)
        self.assign_sub(variable, tf.cast(rate, kind) * tf.sign(m))

    with patch.object(optimizer.Lion, "update_step", update_step):
        yield


@change("lamb", "update", needs="LAMB, biases")
def trust_of_kernels() -> Iterator[None]:
    """LAMB trusts kernels alone: biases go by the plain rate."""
    update_step = optimizer.Lamb.update_step

    def plain(self, gradient, variable, rate):
        if len(variable.shape) > 1:
            return update_step(self, gradient, variable, rate)
        with patch.object(tf, "norm", lambda x: tf.ones((), x.dtype)):
            return update_step(self, gradient, variable, rate)

    with patch.object(optimizer.Lamb, "update_step", plain):
        yield


@change("dense", "average")
def late_average() -> Iterator[None]:
    """The average moves by the weights before the update."""
    def update(recipe, state, gradients):
        trained = list(state.trained.values())
        if state.averages:
            train.average(state.averages, trained, recipe.optimizer.ema)
        state.optimizer.apply(gradients, trained)

    with patch.object(train, "update", update):
        yield


@change("dense", "average")
def swapped_average() -> Iterator[None]:
    """The average keeps what it is to take, and takes what it is to keep."""
    average = train.average
    with patch.object(train, "average", lambda averages, variables, decay: average(averages, variables, 1 - decay)):
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


def trained_in_evaluation() -> AbstractContextManager[Any]:
    """A model that is evaluated as it is trained."""
    call = keras.Model.stateless_call
    return patch.object(keras.Model, "stateless_call", lambda self, *given, training=None, **more: call(
        self, *given, training=True, **more))
