"""Stock dropout of Keras and tf_keras in a program of the user's: off, or from the shared bits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import keras
from keras.src import backend

from twinscale.common.pairs.draws import Draws, noted, refused
from twinscale.tfscale import bits
from twinscale.tfscale.runtimes import on_tensorflow

# What random numbers are made by, of layers that are no dropout, and of initial values: of TensorFlow, and of Keras on
# other runtimes.
OTHERS = ("stateless_normal", "stateless_uniform", "stateless_truncated_normal", "stateless_gamma",
          "stateless_categorical")
OF_KERAS = ("normal", "uniform", "truncated_normal", "gamma", "categorical", "randint", "binomial", "beta", "shuffle")


@contextmanager
def drawing(training: bool, own: Callable[[], Draws | None]) -> Iterator[None]:
    """While open, dropout passes on what it is given; where the calling replica has draws of its `own`, it draws from
    the shared bits, and whatever else would draw raises BadInput."""
    if not on_tensorflow():
        with _drawing_elsewhere(training, own):
            yield
        return
    import tensorflow as tf

    with ExitStack() as stack:
        for nn in (tf.nn, tf.compat.v2.nn) if training else ():  # Keras' and tf_keras'
            for room, name in ((nn.experimental, "stateless_dropout"), (nn.experimental, "general_dropout"),
                               (nn, "dropout")):
                stack.enter_context(patch.object(room, name, _dropout(own)))
        for name in OTHERS if training and own() is not None else ():
            stack.enter_context(patch.object(tf.random, name, _refusing(f"tf.random.{name}")))
        yield


@contextmanager
def _drawing_elsewhere(training, own):
    with ExitStack() as stack:
        if training:
            stack.enter_context(patch.object(backend.random, "dropout", _dropout(own)))
        for name in OF_KERAS if training and own() is not None else ():
            stack.enter_context(patch.object(backend.random, name, _refusing(f"keras.random.{name}")))
        yield


def _dropout(own):
    def dropout(x, rate, *_, noise_shape=None, **__):
        draws = own()
        return x if draws is None or not 0 < rate < 1 else _shared(draws, x, rate, noise_shape)

    return dropout


def _shared(draws, x: Any, rate: float, noise_shape: Any):
    shape = _sizes(noise_shape, x)
    rows = draws.rows.shape[0]
    # As words: in a program of bfloat16 Keras on JAX takes NumPy's whole numbers for floats.
    key, numbers = (keras.ops.convert_to_tensor(x, "uint32") for x in (draws.key, draws.rows))
    place = noted(draws, "keras", rate, shape, rows)
    if shape[0] != rows:  # rows that something of theirs is beside
        grouped = keras.ops.reshape(x, (rows, shape[0] // rows, *x.shape[1:]))
        return keras.ops.reshape(bits.dropout(grouped, key, numbers, rate, place), x.shape)
    if shape == list(x.shape):
        return bits.dropout(x, key, numbers, rate, place)
    return x * bits.dropout(keras.ops.ones(shape, x.dtype), key, numbers, rate, place)


def _sizes(noise_shape, x):
    """The shape of a mask, [int], which TensorFlow may have as a tensor, and Keras with None for a size of x."""
    if noise_shape is None:
        return list(x.shape)
    if on_tensorflow():
        import tensorflow as tf

        if tf.is_tensor(noise_shape):
            return [int(size) for size in tf.get_static_value(noise_shape)]
    return [x.shape[i] if size is None else int(size) for i, size in enumerate(noise_shape)]


def _refusing(name):
    def refusing(*_, **__):
        raise refused("keras", f"a layer by {name}")

    return refusing
