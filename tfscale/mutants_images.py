"""Errors of residual networks and of vision transformers; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
from keras import ops

from twinscale.common.planted.planting import registry
from twinscale.tfscale.models import encoder
from twinscale.tfscale.models.layers import layers
from twinscale.tfscale.patches import changed_model
from twinscale.tfscale.wide import mean

CHANGES, change = registry()
LAYERS = layers(keras)


@change("residual", "norm", "*norm*", needs="resnet")
def swapped_momentum() -> Iterator[None]:
    """Running statistics keep 0.1 each step, where PyTorch's momentum of 0.1 keeps 0.9."""
    with changed_model(norm_momentum=0.1):
        yield


@change("residual", "convolution", "stem.conv", needs="resnet, max pooling")
def padded_same() -> Iterator[None]:
    """The stem's convolution has more zeros behind than before, as padding "same" has them."""
    zeros = keras.layers.ZeroPadding2D.call

    def same(self, x):
        return ops.pad(x, ((0, 0), (2, 3), (2, 3), (0, 0))) if self.name == "stem.conv.zeros" else zeros(self, x)

    with patch.object(keras.layers.ZeroPadding2D, "call", same):
        yield


@change("residual", "max pooling", "stem.pool", needs="resnet, max pooling")
def pooled_same() -> Iterator[None]:
    """Max pooling has more around it behind than before, as padding "same" has it."""
    with patch.object(LAYERS.MaxPooling, "call", lambda self, x: ops.max_pool(x, self.window, self.stride, "same")):
        yield


@change("patches", "embedding", "position", needs="vit")
def token_without_position() -> Iterator[None]:
    """The class token has no position: the table is of patches alone."""
    call = keras.layers.Embedding.call

    def bare(self, ids):
        x = call(self, ids)
        return ops.concatenate([ops.zeros_like(x[:, :1]), x[:, 1:]], 1) if self.name == "position" else x

    with patch.object(keras.layers.Embedding, "call", bare):
        yield


@change("patches", "norm", "*norm*", needs="vit")
def wide_epsilon() -> Iterator[None]:
    """Layer norms have an epsilon of 1e-6 in place of 1e-12."""
    with changed_model(norm_epsilon=1e-6):
        yield


@change("patches", "activation", "*.feedforward.activation", needs="vit, GELU")
def tanh_in_blocks() -> Iterator[None]:
    """Blocks have GELU in its tanh form in place of the exact one."""
    activation = encoder.activation
    with patch.object(encoder, "activation", lambda name: activation("gelu_tanh" if name == "gelu" else name)):
        yield


@change("patches", "sum", "embedding.sum", needs="vit")
def patches_by_columns() -> Iterator[None]:
    """Patches are counted column by column, and not row by row."""
    call = keras.layers.Reshape.call
    with patch.object(keras.layers.Reshape, "call", lambda self, x: call(
            self, ops.transpose(x, (0, 2, 1, 3)) if self.name == "patches" else x)):
        yield


@change("patches", "linear", "pooler", needs="vit, a pooler")
def mean_of_tokens() -> Iterator[None]:
    """The head reads the mean of all tokens in place of the class token."""
    with patch.object(LAYERS.First, "call", lambda self, x: mean(x, 1)):
        yield
