"""Depthwise convolutions and points, as MobileNet: Keras' own layer against Linen's convolution by groups.

The error: ReLU for ReLU6, of images that are bright."""

import keras
import numpy as np
from flax import linen


def keras_model():
    model = keras.Sequential([keras.Input((6, 6, 4))])
    for i, width in enumerate([6, 8]):
        model.add(keras.layers.DepthwiseConv2D(3, strides=1 + i, padding="same", use_bias=False, name=f"dw_{i}"))
        model.add(keras.layers.BatchNormalization(name=f"dw_bn_{i}"))
        model.add(keras.layers.ReLU(6.0))
        model.add(keras.layers.Conv2D(width, 1, use_bias=False, name=f"pw_{i}"))
        model.add(keras.layers.BatchNormalization(name=f"pw_bn_{i}"))
        model.add(keras.layers.ReLU(6.0))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(3, name="preds"))
    return model


class Separable(linen.Module):
    features: int
    stride: int
    error: bool

    @linen.compact
    def __call__(self, x, train):
        act = linen.relu if self.error else linen.relu6
        channels = x.shape[-1]
        x = linen.Conv(channels, (3, 3), self.stride, feature_group_count=channels, use_bias=False, name="depthwise")(x)
        x = act(linen.BatchNorm(not train, epsilon=1e-3, momentum=0.99)(x))
        x = linen.Conv(self.features, (1, 1), use_bias=False, name="pointwise")(x)
        return act(linen.BatchNorm(not train, epsilon=1e-3, momentum=0.99)(x))


class MobileNet(linen.Module):
    error: bool

    @linen.compact
    def __call__(self, x, train=False):
        for i, width in enumerate([6, 8]):
            x = Separable(width, 1 + i, self.error)(x, train)
        return linen.Dense(3)(x.mean((1, 2)))


def port(error=False):
    return MobileNet(error)


def inputs():
    return 4 * np.random.default_rng(5).normal(size=(2, 6, 6, 4)).astype(np.float32)
