"""A mixer of tokens and channels: Keras turns the image and takes dense layers, the port multiplies the kernel from the
left.

The error: a norm takes its mean over tokens and channels, as a group norm of one group does."""

import jax.numpy as jnp
import keras
import numpy as np
from flax import linen

TOKENS, WIDTH = 4, 6


def keras_model():
    images = keras.Input((8, 8, 2))
    x = keras.layers.Reshape((TOKENS, WIDTH))(keras.layers.Conv2D(WIDTH, 4, 4, name="patches")(images))
    for i in range(2):
        y = keras.layers.Permute((2, 1))(keras.layers.LayerNormalization(epsilon=1e-6, name=f"mixer_{i}_norm_1")(x))
        y = keras.layers.Dense(5, activation="gelu", name=f"mixer_{i}_token_1")(y)
        y = keras.layers.Dense(TOKENS, name=f"mixer_{i}_token_2")(y)
        x = keras.layers.Add()([x, keras.layers.Permute((2, 1))(y)])
        y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"mixer_{i}_norm_2")(x)
        y = keras.layers.Dense(9, activation="gelu", name=f"mixer_{i}_channel_1")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(WIDTH, name=f"mixer_{i}_channel_2")(y)])
    return keras.Model(images, keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling1D()(x)))


class Left(linen.Module):
    """A kernel from the left, (outputs, tokens)."""

    outputs: int

    @linen.compact
    def __call__(self, x):
        kernel = self.param("kernel", linen.initializers.normal(0.3), (self.outputs, x.shape[-2]))
        bias = self.param("bias", linen.initializers.zeros, (self.outputs,))
        return jnp.einsum("ot,btc->boc", kernel, x) + bias[:, None]


class Norm(linen.Module):
    axes: tuple

    @linen.compact
    def __call__(self, x):
        scale = self.param("scale", linen.initializers.ones, (WIDTH,))
        bias = self.param("bias", linen.initializers.zeros, (WIDTH,))
        x = x - x.mean(self.axes, keepdims=True)
        return x / jnp.sqrt((x**2).mean(self.axes, keepdims=True) + 1e-6) * scale + bias


class Mixer(linen.Module):
    axes: tuple

    @linen.compact
    def __call__(self, x):
        y = linen.gelu(Left(5, name="up")(Norm(self.axes, name="ln_1")(x)), approximate=False)
        x = x + Left(TOKENS, name="down")(y)
        y = linen.gelu(linen.Dense(9, name="fc1")(Norm(self.axes, name="ln_2")(x)), approximate=False)
        return x + linen.Dense(WIDTH, name="fc2")(y)


class Model(linen.Module):
    axes: tuple

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(WIDTH, (4, 4), strides=(4, 4), padding="VALID", name="stem")(x).reshape(-1, TOKENS, WIDTH)
        for i in range(2):
            x = Mixer(self.axes, name=f"layers_{i}")(x)
        return linen.Dense(3, name="logits")(x.mean(1))


def port(error=False):
    return Model((-2, -1) if error else (-1,))


def inputs():
    return np.random.default_rng(10).normal(size=(3, 8, 8, 2)).astype(np.float32)
