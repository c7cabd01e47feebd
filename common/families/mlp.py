"""Multi-layer perceptrons on images."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field, PositiveInt

from twinscale.common.families import Family, Traits
from twinscale.common.families.parameters import Parameter
from twinscale.common.section import Fraction, Section


class MLP(Section):
    """A multi-layer perceptron over flattened examples."""

    family: Literal["mlp"]
    hidden: tuple[PositiveInt, ...] = Field((64,), strict=False)
    activation: Literal["relu", "gelu", "gelu_tanh"] = "relu"
    dropout: Fraction = 0.0


def tree_of(m: MLP, classes: int, example_shape: Sequence[int]) -> dict[str, Any]:
    """Names of a multi-layer perceptron; kernels start as in He et al. 2015."""
    tree, inputs = {}, math.prod(example_shape)
    for i, outputs in enumerate(m.hidden):
        tree[f"layer_{i}.kernel"] = Parameter((inputs, outputs), math.sqrt(2 / inputs))
        tree[f"layer_{i}.bias"] = Parameter((outputs,))
        inputs = outputs
    tree["head.kernel"] = Parameter((inputs, classes), 1 / math.sqrt(inputs))
    tree["head.bias"] = Parameter((classes,))
    return tree


def places(m: MLP, place: Callable) -> None:
    """Describes a perceptron in forward order by calls of `place`."""
    x: tuple = ()
    for i in range(len(m.hidden)):
        x = place(f"layer_{i}.activation", "activation", place(f"layer_{i}", "linear", *x)),
        if m.dropout:
            x = place(f"layer_{i}.dropout", "random bits", *x),
    place("head", "linear", *x)


def traits(m: MLP) -> Traits:
    """What others ask of such a perceptron."""
    return Traits(activation=m.activation, planted=("mlp",))


def drawn(one: Callable) -> dict[str, Any]:
    """Options of a small perceptron at random."""
    return {"hidden": one([24], [24, 16]), "activation": one("relu", "relu", "gelu", "gelu_tanh"),
            "dropout": one(0.0, 0.1)}


FAMILY = Family(
    name="mlp", options=MLP, reads="images", tree=tree_of, places=places, traits=traits, drawn=drawn)
