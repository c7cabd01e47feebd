"""Errors of TensorFlow's step beside the program: sums, clipping, averages, evaluation. See
`common/planted/mutants.py`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import keras
import tensorflow as tf

from twinscale.common.planted.planting import registry
from twinscale.common.planted.reach import everywhere
from twinscale.tfscale import batch_loss, optimizer, train
from twinscale.tfscale.patches import in_bfloat16
from twinscale.tfscale.patches_step import changed_clip, changed_gradients, changed_sums

CHANGES, change = registry()


@change("layer", "linear", "block_0.attention.query", needs="decoder", phase="backward")
def frozen_kernel() -> Iterator[None]:
    """One kernel gets no gradient."""
    with changed_gradients("block_0.attention.query.kernel", lambda g: tf.zeros_like(g)):
        yield


@change("layer", "embedding", "position", needs="decoder, learned positions", phase="backward")
def frozen_positions() -> Iterator[None]:
    """The table of positions gets no gradient."""
    with changed_gradients("position.embedding", lambda g: tf.zeros_like(g)):
        yield


@change("follows", "embedding", "token_type", needs="encoder, types")
def types_ignored() -> Iterator[None]:
    """All tokens have type 0, as in a program that is not given their types."""
    model_inputs = batch_loss.model_inputs

    def alike(recipe, batch, key):
        found = model_inputs(recipe, batch, key)
        return {**found, "types": tf.zeros_like(found["types"])}

    with everywhere("model_inputs", model_inputs, alike):
        yield


@change("dense", "accumulation")
def last_micro_batch() -> Iterator[None]:
    """The gradients of the last micro-batch are counted twice."""
    sum_gradients = train.sum_gradients

    def twice(recipe, state, number, batch):
        gradients, running, sums = sum_gradients(recipe, state, number, batch)
        rows = batch["row"].shape[0] // recipe.train.accumulate
        last = {name: x[-rows:] for name, x in batch.items()}
        more, _, _ = sum_gradients(recipe.with_values(train={"accumulate": 1}), state, number, last)
        return [a + b for a, b in zip(gradients, more, strict=True)], running, sums

    with patch.object(train, "sum_gradients", twice):
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


@change("single", "accumulation", needs="float32")
def coarse_sums() -> Iterator[None]:
    """Gradients are added up in bfloat16."""
    with changed_sums(in_bfloat16):
        yield


@change("dense", "clip")
def clip_by_value() -> Iterator[None]:
    """Gradients are clipped element by element."""
    clip = optimizer.clip

    def by_value(gradients, limit):
        return [tf.clip_by_value(g, -limit, limit) for g in gradients], clip(gradients, 0.0)[1]

    with patch.object(optimizer, "clip", by_value), patch.object(train, "clip", by_value):
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


@change("half", "update", needs="less than float64")
def rounded_weights() -> Iterator[None]:
    """Weights are rounded to bfloat16 after every update, as without masters."""
    update = train.update

    def coarse(recipe, state, gradients):
        update(recipe, state, gradients)
        for variable in state.trained.values():
            variable.assign(in_bfloat16(tf.convert_to_tensor(variable)))

    with patch.object(train, "update", coarse):
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


@change("dense", "average")
def average_each_micro_batch() -> Iterator[None]:
    """The average of the weights moves once for each micro-batch."""
    average = train.average

    def twice(averages, variables, decay):
        average(averages, variables, decay)
        average(averages, variables, decay)

    with patch.object(train, "average", twice):
        yield


@change("half", "average", needs="less than float64")
def rounded_average() -> Iterator[None]:
    """The average of the weights is kept in bfloat16."""
    average = train.average

    def coarse(averages, variables, decay):
        average(averages, variables, decay)
        for a in averages:
            a.assign(in_bfloat16(tf.convert_to_tensor(a)))

    with patch.object(train, "average", coarse):
        yield


@change("dense", "evaluation", needs="an average")
def no_average_in_evaluation() -> Iterator[None]:
    """Evaluation takes the weights, and not their average."""
    with patch.object(train, "evaluated", lambda state: list(state.model.trainable_variables)):
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
