"""A small model of words whose table is its head: the port's table has rows up to a multiple of eight, and its logits
are cut.

The error: the port does not multiply what it looks up by the root of the width."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx

WORDS, WIDTH, PADDED = 11, 8, 16


class Scale(keras.layers.Layer):
    def call(self, x):
        return x * WIDTH**0.5


def keras_model():
    ids = keras.Input((5,), dtype="int32")
    table = keras.layers.Embedding(WORDS, WIDTH, name="shared")
    x = Scale()(table(ids))
    x = keras.layers.Dense(WIDTH, activation="silu", name="mix")(x)
    x = keras.layers.Dense(WIDTH, use_bias=False, name="out")(x)
    return keras.Model(ids, keras.layers.Lambda(lambda x: keras.ops.matmul(x, keras.ops.transpose(
        table.embeddings)))(x))


class Lm(nnx.Module):
    def __init__(self, error):
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(PADDED, WIDTH, rngs=rngs)
        self.dense, self.proj = nnx.Linear(WIDTH, WIDTH, rngs=rngs), nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs)
        self.factor = 1.0 if error else WIDTH**0.5

    def __call__(self, tokens):
        h = jax.nn.silu(self.dense(self.embed(tokens) * self.factor))
        return jnp.asarray(self.embed.attend(self.proj(h)))[..., :WORDS]


def port(error=False):
    return Lm(error)


def inputs():
    return np.random.default_rng(11).integers(0, WORDS, (3, 5)).astype(np.int32)
