"""Stock dropout of Keras and tf_keras in a program of the user's: off, or from the shared bits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import tensorflow as tf

from twinscale.common.pairs.draws import Draws, noted, refused
from twinscale.tfscale import bits

# What Keras' random numbers are made by, of layers that are no dropout, and of initial values.
OTHERS = ("stateless_normal", "stateless_uniform", "stateless_truncated_normal", "stateless_gamma",
          "stateless_categorical")


@contextmanager
def drawing(training: bool, own: Callable[[], Draws | None]) -> Iterator[None]:
    """While open, dropout passes on what it is given; where the calling replica has draws of its `own`, it draws from
    the shared bits, and whatever else would draw raises BadInput."""
    with ExitStack() as stack:
        for nn in (tf.nn, tf.compat.v2.nn) if training else ():  # Keras' and tf_keras'
            for room, name in ((nn.experimental, "stateless_dropout"), (nn.experimental, "general_dropout"),
                               (nn, "dropout")):
                stack.enter_context(patch.object(room, name, _dropout(own)))
        for name in OTHERS if training and own() is not None else ():
            stack.enter_context(patch.object(tf.random, name, _refusing(name)))
        yield


def _dropout(own):
    def dropout(x, rate, *_, noise_shape=None, **__):
        draws = own()
        return x if draws is None or not 0 < rate < 1 else _shared(draws, x, rate, noise_shape)

    return dropout


def _shared(draws, x: Any, rate: float, noise_shape: Any):
    shape = [int(size) for size in (tf.get_static_value(noise_shape) if tf.is_tensor(noise_shape) else noise_shape)
             ] if noise_shape is not None else x.shape.as_list()
    rows = draws.rows.shape[0]
    place = noted(draws, "keras", rate, shape, rows)
    if shape[0] != rows:  # rows that something of theirs is beside
        grouped = tf.reshape(x, (rows, shape[0] // rows, *x.shape[1:]))
        return tf.reshape(bits.dropout(grouped, draws.key, draws.rows, rate, place), x.shape)
    if shape == x.shape.as_list():
        return bits.dropout(x, draws.key, draws.rows, rate, place)
    return x * bits.dropout(tf.ones(shape, x.dtype), draws.key, draws.rows, rate, place)


def _refusing(name):
    def refusing(*_, **__):
        raise refused("keras", f"a layer by tf.random.{name}")

    return refusing
