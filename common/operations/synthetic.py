"""Gradients made up for the optimizer's rung: the same numbers for both backends, over many orders of magnitude."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twinscale.common.families.parameters import is_trained, stream

if TYPE_CHECKING:
    import numpy as np


def synthetic_gradients(tree: Mapping[str, Any], update: int) -> "dict[str, np.ndarray]":
    """{canonical name: float64 array} for one update: normal, scaled by 10^u with u uniform in [-6, 0] per element."""
    gradients = {}
    for name, parameter in tree.items():
        if is_trained(name):
            drawn = stream(update, name)
            gradients[name] = 10.0 ** drawn.uniform(-6, 0, parameter.shape) * drawn.standard_normal(parameter.shape)
    return gradients
