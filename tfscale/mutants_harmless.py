"""Other ways to compute the same, which no comparison is to flag. See `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf

from twinscale.common.planted.planting import registry
from twinscale.tfscale import optimizer, trace, train
from twinscale.tfscale.models import decoder
from twinscale.tfscale.models.layers import layers

CHANGES, change = registry()
LAYERS = layers(keras)


@change("layer", needs="decoder")
def attention_by_product() -> Iterator[None]:
    """Scores as a batched matrix product in place of an einsum."""

    def call(self, q, k):
        groups = q.shape[2] // k.shape[2]
        q = tf.reshape(q, (-1, q.shape[1], k.shape[2], groups, q.shape[3]))
        q, k = tf.transpose(q, (0, 2, 3, 1, 4)), tf.transpose(k, (0, 2, 3, 1))[:, :, None]
        return tf.matmul(q, k) * q.shape[-1] ** -0.5

    with patch.object(LAYERS.AttentionScores, "call", call):
        yield


@change("layer", needs="layer norm")
def norm_unfused() -> Iterator[None]:
    """Layer norm written out."""

    def call(self, x):
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        return self.gamma * centred * tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, keepdims=True)
                                                    + self.epsilon) + self.beta

    with patch.object(keras.layers.LayerNormalization, "call", call):
        yield


@change("layer", needs="decoder, GELU")
def gelu_by_complement() -> Iterator[None]:
    """GELU by the complementary error function."""
    half = lambda x: tf.constant(0.5, x.dtype) * x  # noqa: E731
    root = np.sqrt(2)
    with patch.object(decoder, "activation", lambda name: lambda x: half(x) * tf.math.erfc(-x / tf.constant(
            root, x.dtype))):
        yield


@change("layer")
def compiled_by_xla() -> Iterator[None]:
    """XLA compiles the step."""
    function, eagerly = tf.function, tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(False)
    with patch.object(tf, "function", lambda **options: function(**{**options, "jit_compile": True})):
        yield
    tf.config.run_functions_eagerly(eagerly)


@change("image", needs="convnet")
def moments_at_once() -> Iterator[None]:
    """Batch norm adds up all axes at once."""
    at_once = lambda self, x: tf.reduce_mean(x, tuple(range(len(x.shape) - 1)))  # noqa: E731
    with patch.object(LAYERS.BatchNormalization, "mean", at_once):
        yield


@change("layer", needs="decoder")
def shallow_mask() -> Iterator[None]:
    """Masked scores are -1e35, and not the lowest number."""
    call = LAYERS.CausalMask.call
    shallow = lambda self, *given, **more: tf.maximum(call(self, *given, **more), -1e35)  # noqa: E731
    with patch.object(LAYERS.CausalMask, "call", shallow):
        yield


@change("single", needs="mlp")
def dense_by_einsum() -> Iterator[None]:
    """A linear layer as an einsum."""

    def call(self, x, training=None):
        return tf.einsum("bi,io->bo", x, tf.cast(self.kernel, x.dtype)) + tf.cast(self.bias, x.dtype)

    with patch.object(keras.layers.Dense, "call", call):
        yield


@change("dense", needs="AdamW")
def adam_unfolded() -> Iterator[None]:
    """Adam corrects each moment by itself, as the paper has it."""

    def update_step(self, gradient, variable, rate):
        i, kind = self._get_variable_index(variable), variable.dtype
        m, v, t = self._momentums[i], self._velocities[i], tf.cast(self.iterations + 1, kind)
        beta1, beta2 = tf.cast(self.beta_1, kind), tf.cast(self.beta_2, kind)
        self.assign(m, beta1 * m + (1 - beta1) * gradient)
        self.assign(v, beta2 * v + (1 - beta2) * gradient * gradient)
        root = tf.sqrt(v / (1 - beta2**t)) + tf.cast(self.epsilon_hat, kind)
        self.assign_sub(variable, tf.cast(rate, kind) * (m / (1 - beta1**t)) / root)

    with patch.object(optimizer.AdamW, "update_step", update_step):
        yield


@change("image", needs="convnet")
def pool_by_sums() -> Iterator[None]:
    """The mean over positions as two sums and a quotient."""

    def call(self, x):
        return tf.reduce_sum(tf.reduce_sum(x, 2), 1) / tf.cast(x.shape[1] * x.shape[2], x.dtype)

    with patch.object(keras.layers.GlobalAveragePooling2D, "call", call):
        yield


@change("dense")
def loss_by_log_softmax() -> Iterator[None]:
    """Cross-entropy as the label's part of a log-softmax."""

    def loss(labels, logits):
        return -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=len(labels.shape))

    with patch.object(tf.nn, "sparse_softmax_cross_entropy_with_logits", loss):
        yield


@change("spread", needs="several devices", phase="")
def summed_one_by_one() -> Iterator[None]:
    """Replicas add up one tensor after another."""
    add_up = train.add_up
    apart = lambda values: tf.nest.map_structure(add_up, values)  # noqa: E731
    with patch.object(train, "add_up", apart), patch.object(trace, "add_up", apart):
        yield
