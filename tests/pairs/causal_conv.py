"""Convolutions over time that look back alone: Keras' causal padding against NNX, which has it too.

The error: the second looks as far ahead as back."""

import keras
import numpy as np
from flax import nnx


def keras_model():
    rows = keras.Input((7, 3))
    x = rows
    for i in range(3):
        x = keras.layers.Conv1D(5, 3, padding="causal", name=f"conv_{i}")(x)
        x = keras.layers.LeakyReLU(0.25)(x)
    return keras.Model(rows, keras.layers.Dense(2, name="last_step")(x[:, -1]))


class Tcn(nnx.Module):
    def __init__(self, error):
        rngs = nnx.Rngs(0)
        self.convs = nnx.List([nnx.Conv(3 if i == 0 else 5, 5, kernel_size=3, rngs=rngs,
                                        padding="SAME" if error and i == 1 else "CAUSAL") for i in range(3)])
        self.readout = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        for conv in self.convs:
            x = nnx.leaky_relu(conv(x), 0.25)
        return self.readout(x[:, -1, :])


def port(error=False):
    return Tcn(error)


def inputs():
    return np.random.default_rng(15).normal(size=(3, 7, 3)).astype(np.float32)
