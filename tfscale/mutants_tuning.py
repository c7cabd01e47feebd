"""Errors of adapters and of frozen tensors in TensorFlow's step; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import tensorflow as tf

from twinscale.common.families.adapters import A
from twinscale.common.planted.planting import registry
from twinscale.tfscale import train

CHANGES, change = registry()


@change("adapted", "linear", needs="adapters", phase="backward")
def frozen_factor() -> Iterator[None]:
    """The first factor of an adapter stays at its random values."""
    adapted = train.adapted

    def held(recipe, values, *key):
        return adapted(recipe, {name: tf.stop_gradient(tf.convert_to_tensor(x)) if name.endswith(A) else x
                                for name, x in values.items()}, *key)

    with patch.object(train, "adapted", held):
        yield


@change("patches", "convolution", "patch", needs="vit, frozen tensors", phase="backward")
def gradients_of_frozen() -> Iterator[None]:
    """Tensors that are frozen have gradients, which count where the norm is clipped."""
    with patch.object(train, "still", lambda recipe, trained: list(trained.values())):
        yield
