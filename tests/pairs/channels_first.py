"""A convolutional network of images whose channels come first within the port, as PyTorch has it, kernels and all, so
that the dense layer behind them finds another order.

The error: a stride of two is padded on both sides, as PyTorch does, not at the end, as TensorFlow does."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import linen


def keras_model():
    return keras.Sequential([
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(5, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu"),
        keras.layers.AveragePooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(7, activation="relu"),
        keras.layers.Dense(3)])


class Conv2d(linen.Module):
    n_in: int
    n_out: int
    stride: int = 1
    padding: tuple = (1, 1)

    @linen.compact
    def __call__(self, x):
        weight = self.param("weight", linen.initializers.normal(0.2), (self.n_out, self.n_in, 3, 3))
        bias = self.param("bias", linen.initializers.zeros, (self.n_out,))
        y = jax.lax.conv_general_dilated(x, weight, (self.stride,) * 2, [self.padding] * 2,
                                         dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return y + bias[:, None, None]


class Linear(linen.Module):
    n_in: int
    n_out: int

    @linen.compact
    def __call__(self, x):
        weight = self.param("weight", linen.initializers.normal(0.2), (self.n_out, self.n_in))
        return x @ weight.T + self.param("bias", linen.initializers.zeros, (self.n_out,))


class Net(linen.Module):
    error: bool

    def setup(self):
        self.conv1, self.conv2 = Conv2d(3, 5), Conv2d(5, 6, 2, (1, 1) if self.error else (0, 1))
        self.fc1, self.fc2 = Linear(24, 7), Linear(7, 3)

    def __call__(self, images):
        x = jax.nn.relu(self.conv1(images.transpose(0, 3, 1, 2)))
        x = jax.nn.relu(self.conv2(x))
        x = jnp.mean(x.reshape(x.shape[0], 6, 2, 2, 2, 2), (3, 5))
        return self.fc2(jax.nn.relu(self.fc1(x.reshape(x.shape[0], -1))))


def port(error=False):
    return Net(error)


def inputs():
    return np.random.default_rng(6).normal(size=(2, 8, 8, 3)).astype(np.float32)
