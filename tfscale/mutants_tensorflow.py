"""Other ways of TensorFlow's to compute the same, which no comparison is to flag. See `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import tensorflow as tf

from twinscale.common.planted.planting import registry
from twinscale.tfscale import trace, train

CHANGES, change = registry()


@change("layer")
def compiled_by_xla() -> Iterator[None]:
    """XLA compiles the step."""
    function, eagerly = tf.function, tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(False)
    with patch.object(tf, "function", lambda **options: function(**{**options, "jit_compile": True})):
        yield
    tf.config.run_functions_eagerly(eagerly)


@change("patches", needs="vit")
def norm_by_moments() -> Iterator[None]:
    """Layer norm by TensorFlow's own moments and batch normalisation."""
    def call(self, x):
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, tf.constant(self.epsilon, x.dtype))

    with patch.object(keras.layers.LayerNormalization, "call", call):
        yield


@change("spread", needs="several devices", phase="")
def summed_one_by_one() -> Iterator[None]:
    """Replicas add up one tensor after another."""
    add_up = train.add_up
    apart = lambda values: tf.nest.map_structure(add_up, values)  # noqa: E731
    with patch.object(train, "add_up", apart), patch.object(trace, "add_up", apart):
        yield
