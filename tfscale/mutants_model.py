"""Errors of the model's operations. See `common/planted/mutants.py`; more of them stand in `mutants_program.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import numpy as np
from keras import ops

from twinscale.common.planted.planting import registry
from twinscale.tfscale.models import layers as own
from twinscale.tfscale.models.layers import layers
from twinscale.tfscale.patches import changed_model, turned
from twinscale.tfscale.wide import mean

CHANGES, change = registry()
LAYERS = layers(keras)


@change("layer", "attention mix", "*.mix")
def interleaved_heads() -> Iterator[None]:
    """Heads' outputs are laid beside each other element by element."""
    call = LAYERS.AttentionMix.call

    def interleaved(self, shares, v):
        mixed = call(self, shares, v)
        heads = shares.shape[1] * shares.shape[2]
        parted = ops.reshape(mixed, (-1, mixed.shape[1], heads, mixed.shape[2] // heads))
        return ops.reshape(ops.transpose(parted, (0, 1, 3, 2)), ops.shape(mixed))

    with patch.object(LAYERS.AttentionMix, "call", interleaved):
        yield


@change("layer", "embedding", "embedding", needs="decoder, a tied head")
def scaled_embedding() -> Iterator[None]:
    """Embeddings are multiplied by the root of the width, as in the first transformers."""
    call = LAYERS.TiedEmbedding.call

    def scaled(self, inputs, reverse=False):
        found = call(self, inputs, reverse)
        return found if reverse else found * self.output_dim ** 0.5

    with patch.object(LAYERS.TiedEmbedding, "call", scaled):
        yield


@change("rotary", "rotary positions", "*.rotary")
def float32_angles() -> Iterator[None]:
    """The angles of rotary positions are rounded to float32."""
    def call(self, x, positions):
        half = x.shape[-1] // 2
        angles = (np.arange(self.length)[:, None] * self.base ** (-np.arange(half) / half)).astype(np.float32)
        cos, sin = (turned(f(angles), x, positions) for f in (np.cos, np.sin))
        a, b = ops.split(x, 2, -1)
        return ops.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    with patch.object(LAYERS.Rotary, "call", call):
        yield


@change("rotary", "norm", "*norm*", needs="RMS norm")
def centred_rms() -> Iterator[None]:
    """RMS norm takes the mean away first."""
    call = LAYERS.RMSNormalization.call
    with patch.object(LAYERS.RMSNormalization, "call",
                      lambda self, x: call(self, x - mean(x, -1, keepdims=True))):
        yield


@change("rotary", "gate", "*.gated", needs="SwiGLU")
def gate_alone() -> Iterator[None]:
    """The gate is squared in place of gating."""
    with patch.object(keras.layers.Multiply, "call", lambda self, inputs: inputs[0] * inputs[0]):
        yield


@change("image", "norm", "*norm*", needs="convnet")
def batch_norm_epsilon() -> Iterator[None]:
    """Batch norm keeps Keras' default epsilon, 1e-3."""
    with changed_model(norm_epsilon=1e-3):
        yield


@change("image", "norm", "*norm*", needs="convnet")
def frozen_statistics() -> Iterator[None]:
    """Batch norm trains by its running statistics, as a layer does that is not told that it is trained."""
    call = LAYERS.BatchNormalization.call
    with patch.object(LAYERS.BatchNormalization, "call", lambda self, x, training=None, mask=None: call(self, x)):
        yield


@change("image", "convolution")
def flipped_kernel() -> Iterator[None]:
    """Convolutions turn their kernels around, as mathematicians have it."""
    convolve = keras.layers.Conv2D.convolution_op
    with patch.object(keras.layers.Conv2D, "convolution_op", lambda self, x, kernel: convolve(
            self, x, ops.flip(ops.convert_to_tensor(kernel), (0, 1)))):
        yield


@change("image", "activation", "*relu*", needs="convnet")
def capped_relu() -> Iterator[None]:
    """ReLUs end at one."""
    call = keras.layers.Activation.call
    capped = lambda self, x: ops.minimum(call(self, x), 1) if "relu" in self.name else call(self, x)  # noqa: E731
    with patch.object(keras.layers.Activation, "call", capped):
        yield


@change("lion", "linear", needs="mlp")
def float32_products() -> Iterator[None]:
    """Products are of float32, in float64 too."""
    def call(self, x, training=None):
        narrow = ops.matmul(ops.cast(x, "float32"), ops.cast(self.kernel, "float32"))
        return ops.cast(narrow, x.dtype) + ops.cast(self.bias, x.dtype)

    with patch.object(keras.layers.Dense, "call", call):
        yield


@change("lamb", "activation", "*.activation", needs="mlp, GELU")
def sigmoid_gelu() -> Iterator[None]:
    """GELU as x sigmoid(1.702 x)."""
    from twinscale.tfscale.models import mlp

    with patch.object(mlp, "activation", lambda name: lambda x: x * ops.sigmoid(1.702 * x)):
        yield


@change("dense", "random bits", "*.dropout")
def same_bits_everywhere() -> Iterator[None]:
    """All places draw the same bits."""
    with patch.object(own, "name_word", lambda name: 0):
        yield


@change("layer", "norm", "*norm*", needs="layer norm", phase="backward")
def stopped_statistics() -> Iterator[None]:
    """No gradient goes through a layer norm's mean and variance."""
    def call(self, x):
        centre = ops.stop_gradient(mean(x, -1, keepdims=True))
        variance = ops.stop_gradient(mean(ops.square(x - centre), -1, keepdims=True))
        return self.gamma * (x - centre) * ops.rsqrt(variance + self.epsilon) + self.beta

    with patch.object(LAYERS.LayerNormalization, "call", call):
        yield


@change("layer", "residual", "*.residual_1", phase="backward")
def cut_branch() -> Iterator[None]:
    """No gradient goes into attention."""
    add = keras.layers.Add

    class Cut(add):
        def call(self, inputs):
            cut = "residual_1" in self.name
            return super().call([inputs[0], ops.stop_gradient(inputs[1])] if cut else inputs)

    with patch.object(keras.layers, "Add", Cut):
        yield


@change("image", "activation", "*relu*", needs="convnet", phase="backward")
def straight_through() -> Iterator[None]:
    """A ReLU's gradient goes through where it is zero too."""
    call = keras.layers.Activation.call

    def straight(self, x):
        y = call(self, x)
        return x + ops.stop_gradient(y - x) if "relu" in self.name else y

    with patch.object(keras.layers.Activation, "call", straight):
        yield
