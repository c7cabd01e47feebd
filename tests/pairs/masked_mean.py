"""A classifier of text as a subclass with two inputs, the mean of those words that are no padding, against two NNX
modules.

The error: the port divides by the number of all words."""

import keras
import numpy as np
from flax import nnx

NAMES = {"ids": ("token_ids", "tokens"), "mask": ("real", "valid")}


class Classifier(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(10, 6)
        self.hidden = keras.layers.Dense(6, activation="elu")
        self.classes = keras.layers.Dense(3)

    def call(self, token_ids, real):
        weights = keras.ops.expand_dims(real, -1)
        x = self.hidden(self.embedding(token_ids)) * weights
        return self.classes(keras.ops.sum(x, 1) / keras.ops.sum(weights, 1))


def keras_model():
    return Classifier()


class Body(nnx.Module):
    def __init__(self, rngs):
        self.lookup, self.fc = nnx.Embed(10, 6, rngs=rngs), nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, tokens):
        return nnx.elu(self.fc(self.lookup(tokens)))


class Port(nnx.Module):
    def __init__(self, error):
        rngs = nnx.Rngs(0)
        self.body, self.head, self.error = Body(rngs), nnx.Linear(6, 3, rngs=rngs), error

    def __call__(self, tokens, valid):
        x = (self.body(tokens) * valid[..., None]).sum(1)
        return self.head(x / (tokens.shape[1] if self.error else valid.sum(1, keepdims=True)))


def port(error=False):
    return Port(error)


def inputs():
    mask = np.ones((3, 5), np.float32)
    mask[1, 3:] = mask[2, 1:] = 0
    return {"ids": np.random.default_rng(12).integers(0, 10, (3, 5)).astype(np.int32), "mask": mask}
