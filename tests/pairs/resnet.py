"""A residual convolutional network with batch norm, functional against NNX, whose blocks are a list.

The error: the epsilon of the batch norms is Flax' default, not Keras'."""

import keras
import numpy as np
from flax import nnx


def keras_model():
    def normed(x, width, stride, kernel, name):
        x = keras.layers.Conv2D(width, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
        return keras.layers.BatchNormalization(name=f"{name}_bn")(x)

    images = keras.Input((6, 6, 3))
    x = keras.layers.ReLU()(normed(images, 6, 1, 3, "stem"))
    for i, (width, stride) in enumerate([(6, 1), (8, 2)]):
        y = keras.layers.ReLU()(normed(x, width, stride, 3, f"stage{i}_1"))
        y = normed(y, width, 1, 3, f"stage{i}_2")
        x = x if stride == 1 else normed(x, width, stride, 1, f"stage{i}_shortcut")
        x = keras.layers.ReLU()(x + y)
    return keras.Model(images, keras.layers.Dense(4, name="probs")(keras.layers.GlobalAveragePooling2D()(x)))


class ConvBn(nnx.Module):
    def __init__(self, n_in, n_out, kernel, stride, epsilon, rngs):
        self.conv = nnx.Conv(n_in, n_out, (kernel, kernel), (stride, stride), use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(n_out, epsilon=epsilon, momentum=0.99, rngs=rngs)

    def __call__(self, x):
        return self.bn(self.conv(x))


class Residual(nnx.Module):
    def __init__(self, n_in, n_out, stride, epsilon, rngs):
        self.a = ConvBn(n_in, n_out, 3, stride, epsilon, rngs)
        self.b = ConvBn(n_out, n_out, 3, 1, epsilon, rngs)
        self.downsample = ConvBn(n_in, n_out, 1, stride, epsilon, rngs) if stride > 1 else None

    def __call__(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return nnx.relu(self.b(nnx.relu(self.a(x))) + shortcut)


class ResNet(nnx.Module):
    def __init__(self, epsilon):
        rngs = nnx.Rngs(3)
        self.stem = ConvBn(3, 6, 3, 1, epsilon, rngs)
        self.blocks = nnx.List([Residual(6, 6, 1, epsilon, rngs), Residual(6, 8, 2, epsilon, rngs)])
        self.fc = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.stem(images))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((1, 2)))


def port(error=False):
    return ResNet(1e-5 if error else 1e-3)


def inputs():
    return np.random.default_rng(4).normal(size=(3, 6, 6, 3)).astype(np.float32)
