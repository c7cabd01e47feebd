"""Four dense layers in a Sequential; the port's own NNX layer has turned kernels under other names.

The error: one layer of the port leaves out its bias."""

import jax
import keras
import numpy as np
from flax import nnx


def keras_model():
    dense = keras.layers.Dense
    return keras.Sequential([dense(10, activation="relu"), dense(10, activation="relu"), dense(10),
                             keras.layers.LeakyReLU(0.2), dense(3)])


class Affine(nnx.Module):
    def __init__(self, n_in, n_out, key, biased=True):
        self.weight = nnx.Param(jax.random.normal(key, (n_out, n_in)) / n_in**0.5)
        self.bias = nnx.Param(jax.numpy.zeros(n_out))
        self.biased = biased

    def __call__(self, x):
        y = x @ self.weight[...].T
        return y + self.bias[...] if self.biased else y


class Net(nnx.Module):
    def __init__(self, sizes, error):
        keys = jax.random.split(jax.random.key(1), len(sizes))
        self.layers = nnx.List([Affine(*size, key, biased=not (error and i == 2))
                                for i, (size, key) in enumerate(zip(sizes, keys, strict=True))])

    def __call__(self, rows):
        first, second, third, last = self.layers
        h = jax.nn.relu(second(jax.nn.relu(first(rows))))
        return last(jax.nn.leaky_relu(third(h), 0.2))


def port(error=False):
    return Net([(7, 10), (10, 10), (10, 10), (10, 3)], error)


def inputs():
    return np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
