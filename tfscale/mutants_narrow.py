"""Errors that less than float64 alone shows: what is rounded that is not to be. See `common/planted/mutants.py`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from twinscale.common.planted.planting import registry
from twinscale.tfscale import batch_loss, optimizer
from twinscale.tfscale.models import decoder, mlp
from twinscale.tfscale.models.layers import layers, masters
from twinscale.tfscale.patches import changed_loss, in_bfloat16, turned
from twinscale.tfscale.wide import mean

CHANGES, change = registry()
LAYERS = layers(keras)


@change("narrow", "softmax", "*.shares", needs="bfloat16")
def narrow_softmax() -> Iterator[None]:
    """Softmax goes by scores in bfloat16."""
    call = keras.layers.Softmax.call
    narrow = lambda self, x, mask=None: call(self, in_bfloat16(ops.maximum(x, -1e38)), mask)  # noqa: E731
    with patch.object(keras.layers.Softmax, "call", narrow):
        yield


@change("narrow", "norm", "*norm*", needs="RMS norm, bfloat16")
def scale_after_cast() -> Iterator[None]:
    """RMS norm multiplies by its scale after the rounding to bfloat16."""
    def call(self, x):
        wide = ops.cast(x, self.scale.dtype)
        mean_square = mean(ops.square(wide), -1, keepdims=True)
        even = wide * ops.rsqrt(mean_square + self.epsilon)
        return ops.cast(in_bfloat16(even) * ops.convert_to_tensor(self.scale), x.dtype)

    with patch.object(LAYERS.RMSNormalization, "call", call):
        yield


@change("narrow", "activation", "*.activation", needs="decoder, bfloat16")
def steep_activation() -> Iterator[None]:
    """The activation is a tenth too large, in bfloat16."""
    activation = decoder.activation

    def steep(name):
        function = activation(name)
        return lambda x: function(x) * (1.1 if standardize_dtype(x.dtype) == "bfloat16" else 1)

    with patch.object(decoder, "activation", steep):
        yield


@change("narrow", "rotary positions", "*.rotary", needs="bfloat16")
def narrow_rotary() -> Iterator[None]:
    """Rotary positions turn by cosines and sines in bfloat16."""
    def call(self, x, positions):
        half = x.shape[-1] // 2
        angles = np.arange(self.length)[:, None] * self.base ** (-np.arange(half) / half)
        wide = ops.cast(x, masters(x))
        cos, sin = (in_bfloat16(turned(f(angles), wide, positions)) for f in (np.cos, np.sin))
        a, b = ops.split(wide, 2, -1)
        return ops.cast(ops.concatenate([a * cos - b * sin, b * cos + a * sin], -1), x.dtype)

    with patch.object(LAYERS.Rotary, "call", call):
        yield


@change("single", "linear", needs="mlp, float32")
def coarse_products() -> Iterator[None]:
    """Products read their inputs with bfloat16's digits, as a GPU may where nobody forbids it."""
    call = keras.layers.Dense.call
    with patch.object(keras.layers.Dense, "call", lambda self, x, training=None: call(self, in_bfloat16(x))):
        yield


@change("single", "activation", "*.activation", needs="mlp, GELU, float32")
def coarse_activation() -> Iterator[None]:
    """GELU multiplies by a probability in bfloat16."""
    gelu = lambda x: x * in_bfloat16(0.5 * (1 + ops.erf(x / 2**0.5)))  # noqa: E731
    with patch.object(mlp, "activation", lambda name: gelu):
        yield


@change("half", "moment", needs="AdamW, less than float64")
def rounded_moments() -> Iterator[None]:
    """Adam's first moment is rounded to bfloat16."""
    with rounded_slot("_momentums"):
        yield


@change("single", "moment", needs="AdamW, less than float64")
def rounded_second_moments() -> Iterator[None]:
    """Adam's second moment is rounded to bfloat16."""
    with rounded_slot("_velocities"):
        yield


@change("half", "loss", needs="less than float64")
def rounded_losses() -> Iterator[None]:
    """Each position's loss is rounded to bfloat16."""
    loss = batch_loss.negative_log_likelihood
    with changed_loss(lambda logits, labels: in_bfloat16(loss(logits, labels))):
        yield


def rounded_slot(slot: str) -> AbstractContextManager[Any]:
    """Rounds a slot of AdamW to bfloat16 after every update."""
    update_step = optimizer.AdamW.update_step

    def coarse(self, gradient, variable, rate):
        update_step(self, gradient, variable, rate)
        moment = getattr(self, slot)[self._get_variable_index(variable)]
        self.assign(moment, in_bfloat16(ops.convert_to_tensor(moment)))

    return patch.object(optimizer.AdamW, "update_step", coarse)
