"""Errors of adapters, of frozen tensors and of classes that weigh; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import tensorflow as tf

from twinscale.common.families.adapters import A
from twinscale.common.planted.planting import registry
from twinscale.tfscale import optimizer, train

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


@change("patches", "decay", needs="frozen tensors, AdamW")
def decayed_though_frozen() -> Iterator[None]:
    """Tensors that are frozen decay, and others by the whole rate, whatever their own is."""
    decay = keras.optimizers.AdamW._apply_weight_decay
    with patch.object(optimizer.ByFactors, "_apply_weight_decay", decay):
        yield
