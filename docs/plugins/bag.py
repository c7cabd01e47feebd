"""A family of text models in one file that is no decoder: the embeddings of a token and of the one before it, added up,
a hidden layer, and a head that says what comes next."""

import functools
import math
from typing import Literal

from pydantic import PositiveInt

from twinscale.common.families import Family, Traits
from twinscale.common.families.parameters import Parameter
from twinscale.common.section import Section


class Options(Section):
    family: str
    width: PositiveInt = 16
    hidden: PositiveInt = 32
    activation: Literal["gelu", "gelu_tanh"] = "gelu"


def tree(m, classes, example_shape):
    return {"embedding.embedding": Parameter((classes, m.width), 1.0),
            "layer_0.kernel": Parameter((m.width, m.hidden), 1 / math.sqrt(m.width)),
            "layer_0.bias": Parameter((m.hidden,)),
            "head.kernel": Parameter((m.hidden, classes), 1 / math.sqrt(m.hidden)),
            "head.bias": Parameter((classes,))}


def places(m, place):
    place("embedding", "embedding")
    place("bag", "sum", "embedding")
    place("layer_0", "linear", "bag")
    place("layer_0.activation", "activation", "layer_0")
    place("head", "linear", "layer_0.activation")


@functools.cache
def bag_layer(keras):
    """The class of the layer; positions begin anew in each document, before whose first token there is none."""
    from keras import ops

    class Bag(keras.layers.Layer):
        def call(self, x, positions):
            before = ops.pad(x, [[0, 0], [1, 0], [0, 0]])[:, :-1]
            return x + ops.where(ops.expand_dims(positions > 0, -1), before, ops.zeros_like(before))

    return Bag


def keras_model(m, classes, inputs, policy, keras):
    from twinscale.tfscale.models.layers import activation

    stock, wide = keras.layers, "float64" if policy == "float64" else "float32"
    x = stock.Embedding(classes, m.width, dtype=wide, name="embedding")(inputs["inputs"])
    x = bag_layer(keras)(dtype=policy, name="bag")(x, positions=inputs["positions"])
    x = stock.Dense(m.hidden, dtype=policy, name="layer_0")(x)
    x = stock.Activation(activation(m.activation), dtype=policy, name="layer_0.activation")(x)
    logits = stock.Dense(classes, dtype=policy, name="head")(x)
    return stock.Activation("linear", dtype=wide, name="logits")(logits)


@functools.cache
def flax_module():
    import jax.numpy as jnp
    from flax import nnx

    from twinscale.jaxscale.models.layers import Linear, activation, embedding
    from twinscale.jaxscale.taps import tap

    class BagModel(nnx.Module):
        def __init__(self, m, classes, kinds):
            self.m, self.kinds, rngs = m, kinds, nnx.Rngs(0)
            self.embedding = embedding(classes, m.width, kinds, rngs)
            self.layer_0 = Linear(m.width, m.hidden, kinds=kinds, rngs=rngs)
            self.head = Linear(m.hidden, classes, kinds=kinds, rngs=rngs)

        def __call__(self, batch, training=False):
            x = tap("embedding", self.embedding(batch["inputs"]).astype(self.kinds["dtype"]))
            before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
            x = tap("bag", x + jnp.where(batch["positions"][..., None] > 0, before, 0))
            x = tap("layer_0.activation", activation(self.m.activation)(tap("layer_0", self.layer_0(x))))
            return tap("head", self.head(x)).astype(self.kinds["param_dtype"])

    return BagModel


def jax_model(recipe, classes, example_shape, kinds):
    return flax_module()(recipe.model, classes, kinds)


BAG = Family(name="bag", options=Options, reads="text", tree=tree, places=places, keras=keras_model, jax=jax_model,
             traits=lambda m: Traits(activation=m.activation))
