"""A multi-layer perceptron as a functional Keras graph; a layer's name is its canonical name."""

from collections.abc import Mapping

from twinscale.common.families.mlp import MLP
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.layers import Keras, activation, layers


def build(m: MLP, classes: int, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """Logits (B, classes) of a dict of inputs: `inputs` (B, ...), and where used `row` and `key`."""
    stock, own = keras.layers, layers(keras)
    x = stock.Flatten(dtype=policy, name="flatten")(inputs["inputs"])
    for i, width in enumerate(m.hidden):
        x = own.Dense(width, dtype=policy, name=f"layer_{i}")(x)
        x = stock.Activation(activation(m.activation), dtype=policy, name=f"layer_{i}.activation")(x)
        if m.dropout:
            drop = own.SharedDropout(m.dropout, dtype=policy, name=f"layer_{i}.dropout")
            x = drop(x, row=inputs["row"], key=inputs["key"])
    logits = own.Dense(classes, dtype=policy, name="head")(x)
    wide = "float64" if policy == "float64" else "float32"
    return stock.Activation("linear", dtype=wide, name="logits")(logits)
