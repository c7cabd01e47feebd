"""A decoder as GPT-2: a subclass of Keras whose table is its head too, against two pure functions with queries, keys
and values in one kernel beside each other.

The error: a position sees all before it, but not itself."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

WORDS, WIDTH, HEADS, LENGTH, BLOCKS = 13, 12, 2, 5, 2


class Block(keras.layers.Layer):
    def __init__(self, **more):
        super().__init__(**more)
        self.norm_1, self.norm_2 = (keras.layers.LayerNormalization(epsilon=1e-5) for _ in range(2))
        self.attention = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
        self.wide = keras.layers.Dense(2 * WIDTH, activation=lambda x: keras.activations.gelu(x, approximate=True))
        self.narrow = keras.layers.Dense(WIDTH)

    def call(self, x):
        y = self.norm_1(x)
        x = x + self.attention(y, y, use_causal_mask=True)
        return x + self.narrow(self.wide(self.norm_2(x)))


class Gpt(keras.Model):
    def __init__(self):
        super().__init__()
        self.tokens = keras.layers.Embedding(WORDS, WIDTH, name="tokens")
        self.positions = keras.layers.Embedding(LENGTH, WIDTH, name="positions")
        self.blocks = [Block(name=f"block_{i}") for i in range(BLOCKS)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="final_norm")

    def call(self, ids):
        x = self.tokens(ids) + self.positions(keras.ops.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return keras.ops.matmul(self.norm(x), keras.ops.transpose(self.tokens.embeddings))


def keras_model():
    return Gpt()


def init(key, ids):
    def normal(*shape):
        return jax.random.normal(key, shape) * 0.1

    def linear(n_in, n_out):
        return {"w": normal(n_in, n_out), "b": jnp.zeros(n_out)}

    def norm():
        return {"g": jnp.ones(WIDTH), "b": jnp.zeros(WIDTH)}

    block = {"ln_1": norm(), "attn": {"c_attn": linear(WIDTH, 3 * WIDTH), "c_proj": linear(WIDTH, WIDTH)},
             "ln_2": norm(), "mlp": {"c_fc": linear(WIDTH, 2 * WIDTH), "c_proj": linear(2 * WIDTH, WIDTH)}}
    return {"wte": normal(WORDS, WIDTH), "wpe": normal(LENGTH, WIDTH), "h": [block] * BLOCKS, "ln_f": norm()}


def norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["g"] + p["b"]


def dense(p, x):
    return x @ p["w"] + p["b"]


def attend(p, x, error):
    q, k, v = (part.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)
               for part in jnp.split(dense(p["c_attn"], x), 3, -1))
    scores = q @ k.swapaxes(-1, -2) / jnp.sqrt(q.shape[-1])
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool), -1 if error else 0)
    mixed = jax.nn.softmax(jnp.where(seen, scores, -1e10), axis=-1) @ v
    return dense(p["c_proj"], mixed.swapaxes(1, 2).reshape(x.shape))


def apply(p, ids, error=False):
    x = p["wte"][ids] + p["wpe"][:ids.shape[1]]
    for block in p["h"]:
        x = x + attend(block["attn"], norm(block["ln_1"], x), error)
        x = x + dense(block["mlp"]["c_proj"], jax.nn.gelu(dense(block["mlp"]["c_fc"], norm(block["ln_2"], x))))
    return norm(p["ln_f"], x) @ p["wte"].T


def port(error=False):
    return init, lambda p, ids: apply(p, ids, error)


def inputs():
    return np.random.default_rng(3).integers(0, WORDS, (3, LENGTH)).astype(np.int32)
