"""A model of tf_keras with batch norm of rows against Linen.

The error: a momentum of 0.9, which no output shows before the model is trained."""

import numpy as np
import tf_keras
from flax import linen


def keras_model():
    return tf_keras.Sequential([
        tf_keras.layers.Dense(8, use_bias=False, input_shape=(5,)),
        tf_keras.layers.BatchNormalization(name="bn"),
        tf_keras.layers.Activation("relu"),
        tf_keras.layers.Dense(3)])


class Port(linen.Module):
    momentum: float

    @linen.compact
    def __call__(self, x, is_training=False):
        x = linen.Dense(8, use_bias=False, name="linear_1")(x)
        x = linen.BatchNorm(use_running_average=not is_training, momentum=self.momentum, epsilon=1e-3, name="norm")(x)
        return linen.Dense(3, name="linear_2")(linen.relu(x))


def port(error=False):
    return Port(0.9 if error else 0.99)


def inputs():
    return np.random.default_rng(14).normal(size=(6, 5)).astype(np.float32)
