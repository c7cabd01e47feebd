"""An encoder as BERT, two blocks with norms after them and a mask of padding: Keras' own attention, whose heads have an
axis of their own, against matrices under the names of the transformers library.

The error: GELU by tanh, which the port's library takes unless it is told otherwise."""

import jax.numpy as jnp
import keras
import numpy as np
from flax import linen

NAMES = {"ids": ("token_ids", "input_ids"), "mask": ("padding_mask", "attention_mask")}
OUTPUTS = ("sequence_output", "last_hidden_state")
WORDS, WIDTH, HEADS, LENGTH = 13, 12, 2, 6


class Positions(keras.layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="embeddings")

    def call(self, x):
        return x + self.table


def keras_model():
    ids = keras.Input((LENGTH,), dtype="int32", name="token_ids")
    mask = keras.Input((LENGTH,), dtype="int32", name="padding_mask")
    x = Positions(name="position_embedding")(keras.layers.Embedding(WORDS, WIDTH, name="token_embedding")(ids))
    x = keras.layers.LayerNormalization(epsilon=1e-12, name="embeddings_norm")(x)
    for i in range(2):
        attention = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"block_{i}_attention")
        y = attention(x, x, attention_mask=keras.ops.expand_dims(mask, 1))
        x = keras.layers.LayerNormalization(epsilon=1e-12, name=f"block_{i}_attention_norm")(x + y)
        y = keras.layers.Dense(2 * WIDTH, activation="gelu", name=f"block_{i}_intermediate")(x)
        y = keras.layers.Dense(WIDTH, name=f"block_{i}_output")(y)
        x = keras.layers.LayerNormalization(epsilon=1e-12, name=f"block_{i}_output_norm")(x + y)
    pooled = keras.layers.Dense(WIDTH, activation="tanh", name="pooled_dense")(x[:, 0])
    return keras.Model([ids, mask], {"sequence_output": x + 0 * pooled[:, None], "pooled_output": pooled})


class SelfAttention(linen.Module):
    @linen.compact
    def __call__(self, hidden_states, attention_mask):
        def heads(name):
            y = linen.Dense(WIDTH, name=name)(hidden_states)
            return y.reshape(*y.shape[:2], HEADS, WIDTH // HEADS)

        query, key, value = heads("query"), heads("key"), heads("value")
        bias = jnp.where(attention_mask[:, None, None, :] > 0, 0.0, jnp.finfo(jnp.float32).min)
        made = linen.dot_product_attention(query, key, value, bias=bias)
        return linen.Dense(WIDTH, name="out")(made.reshape(hidden_states.shape))


class Layer(linen.Module):
    approximate: bool

    @linen.compact
    def __call__(self, hidden_states, attention_mask):
        attended = SelfAttention(name="attention")(hidden_states, attention_mask)
        x = linen.LayerNorm(epsilon=1e-12, name="attention_layernorm")(attended + hidden_states)
        y = linen.gelu(linen.Dense(2 * WIDTH, name="intermediate")(x), approximate=self.approximate)
        return linen.LayerNorm(epsilon=1e-12, name="output_layernorm")(linen.Dense(WIDTH, name="output")(y) + x)


class Encoder(linen.Module):
    approximate: bool

    @linen.compact
    def __call__(self, input_ids, attention_mask):
        x = linen.Embed(WORDS, WIDTH, name="word_embeddings")(input_ids)
        x = x + linen.Embed(LENGTH, WIDTH, name="position_embeddings")(jnp.arange(input_ids.shape[1])[None])
        x = linen.LayerNorm(epsilon=1e-12, name="embeddings_layernorm")(x)
        for i in range(2):
            x = Layer(self.approximate, name=f"layer_{i}")(x, attention_mask)
        pooled = jnp.tanh(linen.Dense(WIDTH, name="pooler")(x[:, 0]))
        return {"last_hidden_state": x, "pooler_output": pooled}


def port(error=False):
    return Encoder(error)


def inputs():
    mask = np.ones((3, LENGTH), np.int32)
    mask[1, 4:] = mask[2, 3:] = 0
    return {"ids": np.random.default_rng(1).integers(0, WORDS, (3, LENGTH)).astype(np.int32), "mask": mask}
