"""Two towers with an input each, whose unit vectors' products are the logits of rows against rows.

The error: the port leaves out the temperature."""

import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx

NAMES = {"user": ("user_id", "users"), "item": ("item_features", "items")}


def keras_model():
    user, item = keras.Input((), dtype="int32", name="user_id"), keras.Input((6,), name="item_features")
    x = keras.layers.Embedding(9, 8, name="user_table")(user)
    x = keras.layers.Dense(5, name="user_tower")(x)
    y = keras.layers.Dense(8, activation="tanh", name="item_hidden")(item)
    y = keras.layers.Dense(5, name="item_tower")(y)
    x, y = (keras.layers.UnitNormalization()(one) for one in (x, y))
    return keras.Model({"user_id": user, "item_features": item}, keras.ops.matmul(x, keras.ops.transpose(y)) / 0.07)


class Retrieval(nnx.Module):
    def __init__(self, temperature):
        rngs = nnx.Rngs(0)
        self.query = nnx.Sequential(nnx.Embed(9, 8, rngs=rngs), nnx.Linear(8, 5, rngs=rngs))
        self.candidate = nnx.Sequential(nnx.Linear(6, 8, rngs=rngs), jnp.tanh, nnx.Linear(8, 5, rngs=rngs))
        self.temperature = temperature

    def __call__(self, users, items):
        u, v = self.query(users), self.candidate(items)
        u, v = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (u, v))
        return jnp.einsum("ik,jk->ij", u, v) / self.temperature


def port(error=False):
    return Retrieval(1.0 if error else 0.07)


def inputs():
    rng = np.random.default_rng(7)
    return {"user": rng.integers(0, 9, 4).astype(np.int32), "item": rng.normal(size=(4, 6)).astype(np.float32)}
