"""A vision transformer: patches, a class token, norms before; Keras' layers against NNX, whose attention is its own.

The error: the second norm of a block stands after it."""

import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx

WIDTH, HEADS, BLOCKS, TOKENS = 8, 2, 2, 5


class Tokens(keras.layers.Layer):
    """A class token before the others, and positions."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, WIDTH), name="cls")
        self.positions = self.add_weight(shape=(1, TOKENS, WIDTH), name="pos_embedding")

    def call(self, x):
        first = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, WIDTH))
        return keras.ops.concatenate([first, x], 1) + self.positions


def keras_model():
    images = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(WIDTH, 3, 3, name="patch_embedding")(images)
    x = Tokens(name="tokens")(keras.layers.Reshape((-1, WIDTH))(x))
    for i in range(BLOCKS):
        y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"encoder_{i}_norm1")(x)
        x = x + keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"encoder_{i}_attention")(y, y)
        y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"encoder_{i}_norm2")(x)
        y = keras.layers.Dense(12, activation="gelu", name=f"encoder_{i}_mlp1")(y)
        x = x + keras.layers.Dense(WIDTH, name=f"encoder_{i}_mlp2")(y)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="encoder_norm")(x)
    return keras.Model(images, keras.layers.Dense(3, name="head")(x[:, 0]))


class EncoderBlock(nnx.Module):
    def __init__(self, error, rngs):
        self.norm1, self.norm2 = (nnx.LayerNorm(WIDTH, epsilon=1e-6, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.mlp1, self.mlp2 = nnx.Linear(WIDTH, 12, rngs=rngs), nnx.Linear(12, WIDTH, rngs=rngs)
        self.error = error

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        if self.error:
            return self.norm2(x + self.mlp2(nnx.gelu(self.mlp1(x), approximate=False)))
        return x + self.mlp2(nnx.gelu(self.mlp1(self.norm2(x)), approximate=False))


class Vit(nnx.Module):
    def __init__(self, error):
        rngs = nnx.Rngs(0)
        self.conv_proj = nnx.Conv(3, WIDTH, (3, 3), (3, 3), padding="VALID", rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros((1, 1, WIDTH)))
        self.pos_embedding = nnx.Param(jnp.zeros((1, TOKENS, WIDTH)))
        self.blocks = nnx.List([EncoderBlock(error, rngs) for _ in range(BLOCKS)])
        self.norm, self.head = nnx.LayerNorm(WIDTH, epsilon=1e-6, rngs=rngs), nnx.Linear(WIDTH, 3, rngs=rngs)

    def __call__(self, images):
        x = self.conv_proj(images)
        x = x.reshape(x.shape[0], -1, WIDTH)
        x = jnp.concatenate([jnp.tile(self.class_token[...], (x.shape[0], 1, 1)), x], axis=1) + self.pos_embedding[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def port(error=False):
    return Vit(error)


def inputs():
    return np.random.default_rng(16).normal(size=(2, 6, 6, 3)).astype(np.float32)
