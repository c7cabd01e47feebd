"""Errors of a program: of its layers and of what makes it. See `common/planted/mutants.py`. They are written in
keras.ops, for any of Keras' runtimes, as are those of the modules whose changes `PORTABLE` gathers."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import numpy as np
from keras import ops

from twinscale.common.planted.planting import registry
from twinscale.tfscale import (
    batch_loss,
    bits,
    mutants_encoder,
    mutants_harmless,
    mutants_images,
    mutants_model,
    mutants_narrow,
    mutants_update,
)
from twinscale.tfscale.models import decoder
from twinscale.tfscale.models.layers import layers
from twinscale.tfscale.patches import changed_loss, changed_model, of_labels, turned

CHANGES, change = registry()
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
    root = float(np.float32(np.sqrt(2)))
    with patch.object(decoder, "activation", lambda name: lambda x: 0.5 * x * (1 + ops.erf(x / root))):
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
        cos, sin = (turned(f(angles), x, positions) for f in (np.cos, np.sin))
        a, b = x[..., ::2], x[..., 1::2]
        return ops.reshape(ops.stack([a * cos - b * sin, b * cos + a * sin], -1), ops.shape(x))

    with patch.object(LAYERS.Rotary, "call", pairs):
        yield


@change("layer", "softmax", "*.shares")
def unsafe_softmax() -> Iterator[None]:
    """Shares add up to a little less than one: a millionth is added to what they are divided by."""

    def call(self, inputs, mask=None):
        powers = ops.exp(inputs - ops.max(inputs, -1, keepdims=True))
        return powers / (ops.sum(powers, -1, keepdims=True) + 1e-6)

    with patch.object(keras.layers.Softmax, "call", call):
        yield


@change("dense", "random bits", "*.dropout")
def unscaled_dropout() -> Iterator[None]:
    """Kept elements are not scaled up."""
    dropout = bits.dropout
    with patch.object(bits, "dropout", lambda x, key, rows, rate, place: (1 - rate) * dropout(
            x, key, rows, rate, place)):
        yield


@change("dense", "loss")
def clipped_probabilities() -> Iterator[None]:
    """Cross-entropy of probabilities that are kept 1e-7 above zero, in place of logits."""
    with changed_loss(lambda logits, labels: -ops.log(of_labels(ops.softmax(logits), labels) + 1e-7)):
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


@change("image", "norm", "*norm*", needs="convnet")
def unbiased_variance() -> Iterator[None]:
    """Running variances are of n - 1, as PyTorch has them."""
    call = LAYERS.BatchNormalization.call

    def unbiased(self, inputs, training=None, mask=None):
        old = ops.convert_to_tensor(self.moving_variance)
        outputs = call(self, inputs, training, mask)
        if training:
            count = ops.cast(ops.size(inputs) // inputs.shape[-1], old.dtype)
            moved = ops.convert_to_tensor(self.moving_variance) - self.momentum * old
            self.moving_variance.assign(self.momentum * old + moved * count / (count - 1))
        return outputs

    with patch.object(LAYERS.BatchNormalization, "call", unbiased):
        yield


@change("image", "activation", "*relu*", needs="convnet")
def leaky_relu() -> Iterator[None]:
    """ReLUs let a hundredth of what is below zero through."""
    call = keras.layers.Activation.call

    def leaky(self, x):
        return ops.where(x > 0, x, 0.01 * x) if "relu" in self.name else call(self, x)

    with patch.object(keras.layers.Activation, "call", leaky):
        yield


@change("image", "pooling", "pool")
def maximum_pool() -> Iterator[None]:
    """The largest position in place of their mean."""
    with patch.object(LAYERS.GlobalAveragePooling2D, "call", lambda self, x: ops.max(x, (1, 2))):
        yield


# All that can be planted in a program on whichever runtime, harmless changes too.
PORTABLE = (CHANGES | mutants_model.CHANGES | mutants_update.CHANGES | mutants_narrow.CHANGES | mutants_encoder.CHANGES
            | mutants_images.CHANGES | mutants_harmless.CHANGES)
