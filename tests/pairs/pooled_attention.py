"""Attention by learned queries over a set with a mask: einsum layers of Keras, whose heads have an axis of their own,
against one of keys and values by head.

The error: what the mask adds is -1, as where its factor is forgotten."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import linen

NAMES = {"set": ("elements", "x"), "mask": ("present", "mask")}
SEEDS, HEADS, SIZE, WIDTH = 2, 2, 3, 6


class Queries(keras.layers.Layer):
    def build(self, shape):
        self.seeds = self.add_weight(shape=(SEEDS, HEADS, SIZE), name="seeds")

    def call(self, keys, values, present):
        scores = keras.ops.einsum("shd,bkhd->bhsk", self.seeds, keys)
        scores += (1 - present[:, None, None, :]) * -1e9
        return keras.ops.einsum("bhsk,bkhd->bshd", keras.ops.softmax(scores), values)


def keras_model():
    elements, present = keras.Input((7, 5), name="elements"), keras.Input((7,), name="present")
    keys, values = (keras.layers.EinsumDense("bki,ihd->bkhd", (None, HEADS, SIZE), bias_axes="hd", name=name)(elements)
                    for name in ("key", "value"))
    x = Queries(name="pool")(keys, values, present)
    x = keras.layers.EinsumDense("bshd,hdo->bso", (None, WIDTH), bias_axes="o", name="merge")(x)
    x = keras.layers.Reshape((SEEDS * WIDTH,))(x)
    return keras.Model([elements, present], keras.layers.Dense(2, name="score")(x))


class Port(linen.Module):
    hidden: float

    @linen.compact
    def __call__(self, x, mask):
        kv = linen.Dense(2 * HEADS * SIZE, name="kv")(x).reshape(*x.shape[:2], HEADS, 2 * SIZE)
        k, v = jnp.split(kv, 2, -1)
        q = self.param("queries", linen.initializers.normal(), (SEEDS, HEADS * SIZE)).reshape(SEEDS, HEADS, SIZE)
        shares = jax.nn.softmax(jnp.einsum("qhd,nkhd->nhqk", q, k) + (1 - mask)[:, None, None] * self.hidden, axis=-1)
        y = linen.DenseGeneral(WIDTH, axis=(-2, -1), name="proj")(jnp.einsum("nhqk,nkhd->nqhd", shares, v))
        return linen.Dense(2, name="out")(y.reshape(len(y), -1))


def port(error=False):
    return Port(-1.0 if error else -1e9)


def inputs():
    mask = np.ones((4, 7), np.float32)
    mask[1, 5:] = mask[3, 2:] = 0
    return {"set": np.random.default_rng(13).normal(size=(4, 7, 5)).astype(np.float32), "mask": mask}
