"""Errors of the model's operations. See `common/planted/mutants.py`; more of them stand in `mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.planted.planting import registry
from twinscale.jaxscale import bits
from twinscale.jaxscale.models import convnet, decoder, layers, mlp
from twinscale.jaxscale.patches import changed_model

CHANGES, change = registry()


@change("layer", "attention mix", "*.mix")
def interleaved_heads() -> Iterator[None]:
    """Heads' outputs are laid beside each other element by element."""
    mix = layers.flat_mix

    def interleaved(shares, v):
        mixed, heads = mix(shares, v), shares.shape[1] * shares.shape[2]
        return mixed.reshape(*mixed.shape[:2], heads, -1).swapaxes(2, 3).reshape(mixed.shape)

    with patch.object(layers, "flat_mix", interleaved):
        yield


@change("layer", "embedding", needs="decoder")
def scaled_embedding() -> Iterator[None]:
    """Embeddings are multiplied by the root of the width, as in the first transformers."""
    call = nnx.Embed.__call__
    with patch.object(nnx.Embed, "__call__", lambda self, x: call(self, x) * self.features ** 0.5):
        yield


@change("image", "norm", "*norm*", needs="convnet")
def batch_norm_epsilon() -> Iterator[None]:
    """Batch norm keeps Keras' default epsilon, 1e-3."""
    with changed_model(norm_epsilon=1e-3):
        yield


@change("image", "norm", "*norm*", needs="convnet")
def frozen_statistics() -> Iterator[None]:
    """Batch norm trains by its running statistics, as a module does that is not told that it is trained."""
    call = nnx.BatchNorm.__call__
    with patch.object(nnx.BatchNorm, "__call__", lambda self, x, use_running_average=None: call(
            self, x, use_running_average=True)):
        yield


@change("image", "convolution")
def flipped_kernel() -> Iterator[None]:
    """Convolutions turn their kernels around, as mathematicians have it."""
    conv = convnet.conv

    def flipped(*of):
        module = conv(*of)
        module.conv_general_dilated = lambda x, kernel, *more, **options: jax.lax.conv_general_dilated(
            x, kernel[::-1, ::-1], *more, **options)
        return module

    with patch.object(convnet, "conv", flipped):
        yield


@change("lion", "linear", needs="biases")
def bias_twice() -> Iterator[None]:
    """A linear layer adds its bias twice, which first weights do not show."""
    call = layers.Linear.__call__

    def doubled(self, x):
        y = call(self, x)
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)

    with patch.object(layers.Linear, "__call__", doubled):
        yield


@change("lion", "linear")
def float32_products() -> Iterator[None]:
    """Products are of float32, in float64 too."""
    matmul = layers.matmul
    with patch.object(layers, "matmul", lambda x, w: matmul(x.astype(jnp.float32), w.astype(jnp.float32)).astype(
            x.dtype)):
        yield


@change("lamb", "activation", "*.activation", needs="mlp, GELU")
def silu_for_gelu() -> Iterator[None]:
    """GELU is replaced by SiLU."""
    with patch.object(mlp, "activation", lambda name: nnx.silu):
        yield


@change("dense", "random bits", "*.dropout")
def same_bits_everywhere() -> Iterator[None]:
    """All places draw the same bits."""
    with patch.object(mlp, "name_word", lambda name: 0), patch.object(decoder, "name_word", lambda name: 0):
        yield


# ---- backward


@change("layer", "norm", "*norm*", needs="layer norm", phase="backward")
def stopped_statistics() -> Iterator[None]:
    """No gradient goes through a layer norm's mean and variance."""
    def call(self, x):
        mean = jax.lax.stop_gradient(jnp.mean(x, -1, keepdims=True))
        variance = jax.lax.stop_gradient(jnp.mean(jnp.square(x - mean), -1, keepdims=True))
        y = (x - mean) * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...]
        return y if self.bias is None else y + self.bias[...]

    with patch.object(nnx.LayerNorm, "__call__", call):
        yield


@change("dense", "random bits", "*.dropout", phase="backward")
def unmasked_gradient() -> Iterator[None]:
    """Dropout's gradient goes through what is dropped too."""
    dropout = bits.dropout

    def unmasked(x, key, rows, rate, place):
        whole = x / (1 - rate)
        return whole + jax.lax.stop_gradient(dropout(x, key, rows, rate, place) - whole)

    with patch.object(bits, "dropout", unmasked):
        yield


@change("image", "activation", "*relu*", needs="convnet", phase="backward")
def straight_through() -> Iterator[None]:
    """A ReLU's gradient goes through where it is zero too."""
    relu = nnx.relu
    with patch.object(nnx, "relu", lambda x: x + jax.lax.stop_gradient(relu(x) - x)):
        yield


@change("layer", "attention mix", phase="backward")
def half_values() -> Iterator[None]:
    """Half of the gradient reaches attention's values."""
    mix = layers.flat_mix
    with patch.object(layers, "flat_mix", lambda shares, v: mix(shares, (v + jax.lax.stop_gradient(v)) / 2)):
        yield
