"""A gated recurrent cell written by hand on both sides: layers of a subclass in a loop, against two pure functions and
a scan, whose gates are one kernel.

The error: the reset gate multiplies what comes of the old state, not the old state."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

UNITS, SIZE = 6, 4


class Gru(keras.Model):
    def __init__(self):
        super().__init__()
        for name in ("update", "reset", "new"):
            setattr(self, name, keras.layers.Dense(UNITS, name=name))
        self.read = keras.layers.Dense(2, name="read")

    def call(self, rows):
        h = keras.ops.zeros((rows.shape[0], UNITS))
        for t in range(rows.shape[1]):
            both = keras.ops.concatenate([rows[:, t], h], -1)
            z, r = keras.ops.sigmoid(self.update(both)), keras.ops.sigmoid(self.reset(both))
            new = keras.ops.tanh(self.new(keras.ops.concatenate([rows[:, t], r * h], -1)))
            h = (1 - z) * h + z * new
        return self.read(h)


def keras_model():
    return Gru()


def init(key, rows):
    def linear(key, n_in, n_out):
        return {"w": jax.random.normal(key, (n_in, n_out)) / n_in**0.5, "b": jnp.zeros(n_out)}

    keys = jax.random.split(key, 3)
    return {"gates": linear(keys[0], SIZE + UNITS, 2 * UNITS), "candidate": linear(keys[1], SIZE + UNITS, UNITS),
            "readout": linear(keys[2], UNITS, 2)}


def apply(params, rows, error=False):
    def step(h, x):
        gates = jnp.concatenate([x, h], -1) @ params["gates"]["w"] + params["gates"]["b"]
        update, reset = jnp.split(jax.nn.sigmoid(gates), 2, -1)
        w, b = params["candidate"]["w"], params["candidate"]["b"]
        if error:
            new = jnp.tanh(x @ w[:SIZE] + reset * (h @ w[SIZE:] + b))
        else:
            new = jnp.tanh(x @ w[:SIZE] + (reset * h) @ w[SIZE:] + b)
        return (1 - update) * h + update * new, None

    h, _ = jax.lax.scan(step, jnp.zeros((rows.shape[0], UNITS)), jnp.moveaxis(rows, 1, 0))
    return h @ params["readout"]["w"] + params["readout"]["b"]


def port(error=False):
    return init, lambda params, rows: apply(params, rows, error)


def inputs():
    return np.random.default_rng(19).normal(size=(3, 4, SIZE)).astype(np.float32)
