"""Other ways to compute the same program, which no comparison is to flag. See `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import numpy as np
from keras import ops

from twinscale.common.planted.planting import registry
from twinscale.tfscale import optimizer
from twinscale.tfscale.models import decoder
from twinscale.tfscale.models.layers import layers
from twinscale.tfscale.patches import changed_loss, of_labels
from twinscale.tfscale.wide import mean

CHANGES, change = registry()
LAYERS = layers(keras)


@change("layer", needs="decoder")
def attention_by_product() -> Iterator[None]:
    """Scores as a batched matrix product in place of an einsum."""

    def call(self, q, k):
        groups = q.shape[2] // k.shape[2]
        q = ops.reshape(q, (-1, q.shape[1], k.shape[2], groups, q.shape[3]))
        q, k = ops.transpose(q, (0, 2, 3, 1, 4)), ops.transpose(k, (0, 2, 3, 1))[:, :, None]
        return ops.matmul(q, k) * q.shape[-1] ** -0.5

    with patch.object(LAYERS.AttentionScores, "call", call):
        yield


@change("layer", needs="layer norm")
def norm_unfused() -> Iterator[None]:
    """Layer norm written out."""

    def call(self, x):
        centred = x - mean(x, -1, keepdims=True)
        variance = mean(centred * centred, -1, keepdims=True)
        return self.gamma * centred * ops.rsqrt(variance + self.epsilon) + self.beta

    with patch.object(LAYERS.LayerNormalization, "call", call):
        yield


@change("layer", needs="decoder, GELU")
def gelu_by_complement() -> Iterator[None]:
    """GELU by the complementary error function."""
    root = np.sqrt(2)
    with patch.object(decoder, "activation", lambda name: lambda x: 0.5 * x * ops.erfc(-x / root)):
        yield


@change("image", needs="convnet")
def moments_at_once() -> Iterator[None]:
    """Batch norm adds up all axes at once."""
    at_once = lambda self, x: mean(x, tuple(range(len(x.shape) - 1)))  # noqa: E731
    with patch.object(LAYERS.BatchNormalization, "mean", at_once):
        yield


@change("layer", needs="decoder")
def shallow_mask() -> Iterator[None]:
    """Masked scores are -1e35, and not the lowest number."""
    call = LAYERS.CausalMask.call
    shallow = lambda self, *given, **more: ops.maximum(call(self, *given, **more), -1e35)  # noqa: E731
    with patch.object(LAYERS.CausalMask, "call", shallow):
        yield


@change("single", needs="mlp")
def dense_by_einsum() -> Iterator[None]:
    """A linear layer as an einsum."""

    def call(self, x, training=None):
        return ops.einsum("bi,io->bo", x, ops.cast(self.kernel, x.dtype)) + ops.cast(self.bias, x.dtype)

    with patch.object(keras.layers.Dense, "call", call):
        yield


@change("dense", needs="AdamW")
def adam_unfolded() -> Iterator[None]:
    """Adam corrects each moment by itself, as the paper has it."""

    def update_step(self, gradient, variable, rate):
        i, kind = self._get_variable_index(variable), variable.dtype
        m, v, t = self._momentums[i], self._velocities[i], ops.cast(self.iterations + 1, kind)
        beta1, beta2 = ops.cast(self.beta_1, kind), ops.cast(self.beta_2, kind)
        self.assign(m, beta1 * m + (1 - beta1) * gradient)
        self.assign(v, beta2 * v + (1 - beta2) * gradient * gradient)
        root = ops.sqrt(v / (1 - beta2**t)) + ops.cast(self.epsilon_hat, kind)
        self.assign_sub(variable, ops.cast(rate, kind) * (m / (1 - beta1**t)) / root)

    with patch.object(optimizer.AdamW, "update_step", update_step):
        yield


@change("image", needs="convnet")
def pool_by_sums() -> Iterator[None]:
    """The mean over positions as two sums and a quotient."""

    def call(self, x):
        return ops.sum(ops.sum(x, 2), 1) / ops.cast(x.shape[1] * x.shape[2], x.dtype)

    with patch.object(LAYERS.GlobalAveragePooling2D, "call", call):
        yield


@change("dense")
def loss_by_log_softmax() -> Iterator[None]:
    """Cross-entropy as the label's part of a log-softmax."""
    with changed_loss(lambda logits, labels: -of_labels(ops.log_softmax(logits), labels)):
        yield
