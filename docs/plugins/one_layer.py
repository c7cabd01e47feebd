"""A family of image models in one file: a hidden layer under tanh, and a linear head."""

import functools
import math

from pydantic import PositiveInt

from twinscale.common.families import Family
from twinscale.common.families.parameters import Parameter
from twinscale.common.section import Section


class Options(Section):
    family: str
    hidden: PositiveInt = 32


def tree(m, classes, example_shape):
    inputs = math.prod(example_shape)
    return {"layer_0.kernel": Parameter((inputs, m.hidden), 1 / math.sqrt(inputs)),
            "layer_0.bias": Parameter((m.hidden,)),
            "head.kernel": Parameter((m.hidden, classes), 1 / math.sqrt(m.hidden)),
            "head.bias": Parameter((classes,))}


def places(m, place):
    place("layer_0", "linear")
    place("layer_0.activation", "activation", "layer_0")
    place("head", "linear", "layer_0.activation")


def keras_model(m, classes, inputs, policy, keras):
    stock, wide = keras.layers, "float64" if policy == "float64" else "float32"
    x = stock.Flatten(dtype=policy, name="flatten")(inputs["inputs"])
    x = stock.Dense(m.hidden, dtype=policy, name="layer_0")(x)
    x = stock.Activation("tanh", dtype=policy, name="layer_0.activation")(x)
    logits = stock.Dense(classes, dtype=policy, name="head")(x)
    return stock.Activation("linear", dtype=wide, name="logits")(logits)


@functools.cache
def flax_module():
    """The class of the module; a function, for without one this file can be read where there is no JAX."""
    import jax.numpy as jnp
    from flax import nnx

    from twinscale.jaxscale.models.layers import Linear
    from twinscale.jaxscale.taps import tap

    class OneLayer(nnx.Module):
        def __init__(self, inputs, hidden, classes, kinds):
            self.kinds, rngs = kinds, nnx.Rngs(0)
            self.layer_0 = Linear(inputs, hidden, kinds=kinds, rngs=rngs)
            self.head = Linear(hidden, classes, kinds=kinds, rngs=rngs)

        def __call__(self, batch, training=False):
            x = batch["inputs"]
            x = tap("layer_0", self.layer_0(x.reshape(x.shape[0], -1).astype(self.kinds["dtype"])))
            x = tap("layer_0.activation", jnp.tanh(x))
            return tap("head", self.head(x)).astype(self.kinds["param_dtype"])

    return OneLayer


def jax_model(recipe, classes, example_shape, kinds):
    return flax_module()(math.prod(example_shape), recipe.model.hidden, classes, kinds)


ONE_LAYER = Family(name="one_layer", options=Options, reads="images", tree=tree, places=places, keras=keras_model,
                   jax=jax_model)
