"""A decoder with RMS norms, rotary positions, fewer keys than queries and SwiGLU: a subclass of Keras with layers of
its own against NNX, whose gate and up projections are one kernel.

The error: rotary positions turn neighbours instead of halves."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx

WORDS, WIDTH, HEADS, KEYS, SIZE, BLOCKS = 11, 16, 4, 2, 4, 2
MATRICES = {"q": HEADS * SIZE, "k": KEYS * SIZE, "v": KEYS * SIZE}


class Rms(keras.layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones", name="gamma")

    def call(self, x):
        return x * keras.ops.rsqrt(keras.ops.mean(x * x, -1, keepdims=True) + 1e-6) * self.gamma


def turned(x):
    """(..., time, heads, size), halves turned by an angle that grows with time."""
    angles = np.arange(x.shape[-3])[:, None, None] * 100.0 ** -(np.arange(SIZE // 2) / (SIZE // 2))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    first, second = keras.ops.split(x, 2, -1)
    return keras.ops.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


class Block(keras.layers.Layer):
    def __init__(self, **more):
        super().__init__(**more)
        self.first_norm, self.second_norm = Rms(name="first_norm"), Rms(name="second_norm")
        for name, width in {**MATRICES, "o": WIDTH, "gate": 20, "up": 20, "down": WIDTH}.items():
            setattr(self, name, keras.layers.Dense(width, use_bias=False, name=name))

    def call(self, x):
        ops, h = keras.ops, self.first_norm(x)
        q, k, v = (ops.reshape(f(h), (-1, x.shape[1], f.units // SIZE, SIZE)) for f in (self.q, self.k, self.v))
        q, k = turned(q), ops.repeat(turned(k), HEADS // KEYS, 2)
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k) / SIZE**0.5
        scores = ops.where(np.tri(x.shape[1], dtype=bool), scores, -1e9)
        mixed = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), ops.repeat(v, HEADS // KEYS, 2))
        x = x + self.o(ops.reshape(mixed, (-1, x.shape[1], WIDTH)))
        h = self.second_norm(x)
        return x + self.down(ops.silu(self.gate(h)) * self.up(h))


class Decoder(keras.Model):
    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(WORDS, WIDTH, name="table")
        self.blocks = [Block(name=f"block_{i}") for i in range(BLOCKS)]
        self.norm, self.head = Rms(name="norm"), keras.layers.Dense(WORDS, use_bias=False, name="head")

    def call(self, ids):
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def keras_model():
    return Decoder()


class RMSNorm(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.ones(WIDTH))

    def __call__(self, x):
        return self.weight[...] * (x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6))


def rope(x, neighbours):
    """(batch, time, heads, size)."""
    t = jnp.arange(x.shape[1])[:, None] / 100.0 ** (jnp.arange(0, SIZE, 2) / SIZE)[None]
    c, s = jnp.cos(t)[:, None], jnp.sin(t)[:, None]
    if neighbours:
        a, b = x[..., ::2], x[..., 1::2]
        return jnp.stack([a * c - b * s, b * c + a * s], -1).reshape(x.shape)
    a, b = x[..., :SIZE // 2], x[..., SIZE // 2:]
    return jnp.concatenate([a * c - b * s, b * c + a * s], -1)


class TransformerBlock(nnx.Module):
    def __init__(self, neighbours, rngs):
        def linear(n_in, n_out):
            return nnx.Linear(n_in, n_out, use_bias=False, rngs=rngs)

        self.attention_norm, self.ffn_norm, self.neighbours = RMSNorm(), RMSNorm(), neighbours
        self.wq, self.wk, self.wv = (linear(WIDTH, size) for size in MATRICES.values())
        self.wo, self.gate_up, self.down_proj = linear(WIDTH, WIDTH), linear(WIDTH, 40), linear(20, WIDTH)

    def __call__(self, x):
        b, t, _ = x.shape
        h = self.attention_norm(x)
        q = rope(self.wq(h).reshape(b, t, HEADS, SIZE), self.neighbours)
        k = rope(self.wk(h).reshape(b, t, KEYS, SIZE), self.neighbours)
        v = self.wv(h).reshape(b, t, KEYS, SIZE)
        x = x + self.wo(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(b, t, -1))
        gate, up = jnp.split(self.gate_up(self.ffn_norm(x)), 2, axis=-1)
        return x + self.down_proj(nnx.silu(gate) * up)


class Transformer(nnx.Module):
    def __init__(self, neighbours):
        rngs = nnx.Rngs(0)
        self.tok_embeddings = nnx.Embed(WORDS, WIDTH, rngs=rngs)
        self.layers = nnx.List([TransformerBlock(neighbours, rngs) for _ in range(BLOCKS)])
        self.norm, self.output = RMSNorm(), nnx.Linear(WIDTH, WORDS, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def port(error=False):
    return Transformer(neighbours=error)


def inputs():
    return np.random.default_rng(2).integers(0, WORDS, (2, 6)).astype(np.int32)
