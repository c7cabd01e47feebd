"""Semantic errors and harmless changes to plant in this backend; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf

from twinscale.common.planted.mutants import CHANGES as COMMON
from twinscale.common.planted.planting import registry
from twinscale.tfscale import (
    batch_loss,
    bits,
    mutants_devices,
    mutants_encoder,
    mutants_harmless,
    mutants_images,
    mutants_model,
    mutants_narrow,
    mutants_step,
    mutants_tuning,
    optimizer,
    train,
)
from twinscale.tfscale.models import decoder
from twinscale.tfscale.models.layers import layers
from twinscale.tfscale.patches import changed_gradients, changed_model, in_bfloat16

OWN, change = registry()
LAYERS = layers(keras)


@change("layer", "norm", "*norm*", needs="a norm")
def norm_epsilon() -> Iterator[None]:
    """The norms keep Keras' default epsilon, 1e-3."""
    with changed_model(norm_epsilon=1e-3):
        yield


@change("dense", "activation", "*.activation", needs="GELU")
def tanh_gelu() -> Iterator[None]:
    """GELU in its tanh form in place of the exact one."""
    with changed_model(activation="gelu_tanh"):
        yield


@change("layer", "activation", "*.activation", needs="GELU, decoder")
def float32_constant() -> Iterator[None]:
    """GELU divides by a square root of 2 that went through float32, as tf.nn.gelu has it."""
    with patch.object(decoder, "activation", lambda name: lambda x: tf.nn.gelu(x)):
        yield


@change("layer", "residual", "*.residual_2")
def halved_residual() -> Iterator[None]:
    """A block's second residual adds half of its branch."""
    residual = keras.layers.Add

    class Half(residual):
        def call(self, inputs):
            return inputs[0] + 0.5 * inputs[1] if "residual_2" in self.name else super().call(inputs)

    with patch.object(keras.layers, "Add", Half):
        yield


@change("rotary", "rotary positions", "*.rotary")
def rotary_pairs() -> Iterator[None]:
    """Rotary positions turn neighbours in place of halves."""

    def pairs(self, x, positions):
        half = x.shape[-1] // 2
        angles = np.arange(self.length)[:, None] * self.base ** (-np.arange(half) / half)
        cos, sin = (tf.gather(tf.constant(f(angles), x.dtype), positions)[:, :, None] for f in (np.cos, np.sin))
        a, b = x[..., ::2], x[..., 1::2]
        return tf.reshape(tf.stack([a * cos - b * sin, b * cos + a * sin], -1), tf.shape(x))

    with patch.object(LAYERS.Rotary, "call", pairs):
        yield


@change("layer", "softmax", "*.shares")
def unsafe_softmax() -> Iterator[None]:
    """Shares add up to a little less than one: a millionth is added to what they are divided by."""

    def call(self, inputs, mask=None):
        powers = tf.exp(inputs - tf.reduce_max(inputs, -1, keepdims=True))
        return powers / (tf.reduce_sum(powers, -1, keepdims=True) + 1e-6)

    with patch.object(keras.layers.Softmax, "call", call):
        yield


@change("dense", "random bits", "*.dropout")
def unscaled_dropout() -> Iterator[None]:
    """Kept elements are not scaled up."""
    dropout = bits.dropout
    with patch.object(bits, "dropout", lambda x, key, rows, rate, place: dropout(x, key, rows, rate, place)
                      * tf.constant(1 - rate, x.dtype)):
        yield


@change("dense", "loss")
def clipped_probabilities() -> Iterator[None]:
    """Cross-entropy of probabilities that are kept 1e-7 above zero, in place of logits."""
    def from_probabilities(labels, logits):
        return -tf.math.log(tf.gather(tf.nn.softmax(logits), labels, batch_dims=len(labels.shape)) + 1e-7)

    with patch.object(tf.nn, "sparse_softmax_cross_entropy_with_logits", from_probabilities):
        yield


@change("dense", "loss", needs="label smoothing")
def smoothed_others() -> Iterator[None]:
    """Label smoothing spreads over the other classes alone."""
    loss_sums = batch_loss.loss_sums

    def others(recipe, logits, batch):
        classes = logits.shape[-1]
        smoothing = recipe.train.label_smoothing * classes / (classes - 1)
        return loss_sums(recipe.with_values(train={"label_smoothing": smoothing}), logits, batch)

    with patch.object(batch_loss, "loss_sums", others):
        yield


@change("layer", "linear", "block_0.attention.query", needs="decoder", phase="backward")
def frozen_kernel() -> Iterator[None]:
    """One kernel gets no gradient."""
    with changed_gradients("block_0.attention.query.kernel", lambda g: tf.zeros_like(g)):
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


@change("dense", "clip")
def clip_by_value() -> Iterator[None]:
    """Gradients are clipped element by element."""
    clip = optimizer.clip

    def by_value(gradients, limit):
        return [tf.clip_by_value(g, -limit, limit) for g in gradients], clip(gradients, 0.0)[1]

    with patch.object(optimizer, "clip", by_value), patch.object(train, "clip", by_value):
        yield


@change("dense", "moment", needs="AdamW")
def bfloat16_moments() -> Iterator[None]:
    """Adam's first moment is kept in bfloat16."""
    update_step = optimizer.AdamW.update_step

    def coarse(self, gradient, variable, rate):
        update_step(self, gradient, variable, rate)
        moment = self._momentums[self._get_variable_index(variable)]
        self.assign(moment, tf.cast(in_bfloat16(tf.cast(moment, tf.float32)), moment.dtype))

    with patch.object(optimizer.AdamW, "update_step", coarse):
        yield


@change("dense", "update", needs="AdamW")
def adam_epsilon() -> Iterator[None]:
    """Epsilon is added beside the folded bias correction, as Keras has it, and not beside the corrected root."""
    with patch.object(optimizer.AdamW, "update_step", keras.optimizers.AdamW.update_step):
        yield


@change("dense", "decay", needs="AdamW")
def coupled_decay() -> Iterator[None]:
    """Weight decay is added to the gradient, as in Adam with L2."""
    update_step = optimizer.AdamW.update_step

    def coupled(self, gradient, variable, rate):
        decayed = self._use_weight_decay(variable)
        update_step(self, gradient + self.weight_decay * variable if decayed else gradient, variable, rate)

    with patch.object(optimizer.AdamW, "update_step", coupled), \
            patch.object(optimizer.AdamW, "_apply_weight_decay", lambda self, variables: None):
        yield


@change("lamb", "decay", needs="LAMB")
def decay_outside_trust() -> Iterator[None]:
    """LAMB decays outside the trust ratio, as Keras has it."""
    update_step, use = optimizer.Lamb.update_step, optimizer.Lamb._use_weight_decay

    def outside(self, gradient, variable, rate):
        before = tf.convert_to_tensor(variable)
        with patch.object(optimizer.Lamb, "_use_weight_decay", lambda *_: False):
            update_step(self, gradient, variable, rate)
        if use(self, variable):
            self.assign_sub(variable, tf.cast(rate, variable.dtype) * tf.cast(self.weight_decay, variable.dtype)
                            * before)

    with patch.object(optimizer.Lamb, "update_step", outside):
        yield


@change("lamb", "moment", needs="LAMB")
def other_beta() -> Iterator[None]:
    """The second moment keeps 0.99 in place of the recipe's share."""
    update_step = optimizer.Lamb.update_step

    def with_default(self, gradient, variable, rate):
        with patch.object(self, "beta_2", np.float64(0.99)):
            update_step(self, gradient, variable, rate)

    with patch.object(optimizer.Lamb, "update_step", with_default):
        yield


@change("image", "moment", needs="momentum, a schedule")
def rate_in_momentum() -> Iterator[None]:
    """The learning rate is inside the momentum, as Keras has it."""
    with patch.object(optimizer.SGD, "update_step", keras.optimizers.SGD.update_step):
        yield


@change("dense", "evaluation", needs="an average")
def no_average_in_evaluation() -> Iterator[None]:
    """Evaluation takes the weights, and not their average."""
    with patch.object(train, "evaluated", lambda state: list(state.model.trainable_variables)):
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


@change("image", "norm", "*norm*", needs="convnet")
def unbiased_variance() -> Iterator[None]:
    """Running variances are of n - 1, as PyTorch has them."""
    call = LAYERS.BatchNormalization.call

    def unbiased(self, inputs, training=None, mask=None):
        old = tf.convert_to_tensor(self.moving_variance)
        outputs = call(self, inputs, training, mask)
        if training:
            count = tf.cast(tf.size(inputs) // inputs.shape[-1], old.dtype)
            moved = tf.convert_to_tensor(self.moving_variance) - self.momentum * old
            self.moving_variance.assign(self.momentum * old + moved * count / (count - 1))
        return outputs

    with patch.object(LAYERS.BatchNormalization, "call", unbiased):
        yield


@change("image", "activation", "*relu*", needs="convnet")
def leaky_relu() -> Iterator[None]:
    """ReLUs let a hundredth of what is below zero through."""
    call = keras.layers.Activation.call

    def leaky(self, x):
        return tf.nn.leaky_relu(x, 0.01) if "relu" in self.name else call(self, x)

    with patch.object(keras.layers.Activation, "call", leaky):
        yield


@change("image", "pooling", "pool")
def maximum_pool() -> Iterator[None]:
    """The largest position in place of their mean."""
    with patch.object(keras.layers.GlobalAveragePooling2D, "call", lambda self, x: tf.reduce_max(x, (1, 2))):
        yield


ALL = (COMMON | OWN | mutants_model.CHANGES | mutants_step.CHANGES | mutants_devices.CHANGES | mutants_narrow.CHANGES
       | mutants_encoder.CHANGES | mutants_images.CHANGES | mutants_tuning.CHANGES | mutants_harmless.CHANGES)
MUTANTS = {name: change for name, change in ALL.items() if change.operation}
NEUTRAL = {name: change for name, change in ALL.items() if not change.operation}
