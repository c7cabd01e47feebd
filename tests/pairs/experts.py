"""A gate whose shares go on, a subclass of Keras against NNX.

The error: a softmax over the batch."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx

EXPERTS, WIDTH = 4, 6


class Mixture(keras.Model):
    def __init__(self):
        super().__init__()
        self.gate = keras.layers.Dense(EXPERTS, name="gate")
        self.mixer = keras.layers.Dense(WIDTH, activation="tanh", name="mixer")
        self.readout = keras.layers.Dense(2, name="readout")

    def call(self, x):
        return self.readout(self.mixer(keras.ops.softmax(self.gate(x), axis=-1)))


def keras_model():
    return Mixture()


class Port(nnx.Module):
    def __init__(self, axis):
        rngs = nnx.Rngs(0)
        self.router, self.body = nnx.Linear(5, EXPERTS, rngs=rngs), nnx.Linear(EXPERTS, WIDTH, rngs=rngs)
        self.head, self.axis = nnx.Linear(WIDTH, 2, rngs=rngs), axis

    def __call__(self, x):
        return self.head(jnp.tanh(self.body(jax.nn.softmax(self.router(x), axis=self.axis))))


def port(error=False):
    return Port(0 if error else -1)


def inputs():
    return np.random.default_rng(18).normal(size=(4, 3, 5)).astype(np.float32)
