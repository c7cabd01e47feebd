"""A convolutional autoencoder: strides down, transposed convolutions up, against Linen's, which are told to lie as the
gradient of a convolution does.

The error: the port ends with a linear layer, its loss takes logits."""

import keras
import numpy as np
from flax import linen


def keras_model():
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="down_1")(images)
    x = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu", name="down_2")(x)
    code = keras.layers.Dense(5, name="code")(keras.layers.Flatten()(x))
    x = keras.layers.Reshape((2, 2, 6))(keras.layers.Dense(24, activation="relu", name="uncode")(code))
    x = keras.layers.Conv2DTranspose(4, 2, 2, padding="same", activation="relu", name="up_1")(x)
    x = keras.layers.Conv2DTranspose(1, 2, 2, padding="same", activation="sigmoid", name="up_2")(x)
    return keras.Model(images, {"image": x, "code": code})


class Encoder(linen.Module):
    @linen.compact
    def __call__(self, x):
        for features in (4, 6):
            x = linen.relu(linen.Conv(features, (3, 3), strides=2)(x))
        return linen.Dense(5)(x.reshape(x.shape[0], -1))


class Decoder(linen.Module):
    error: bool

    @linen.compact
    def __call__(self, z):
        x = linen.relu(linen.Dense(24)(z)).reshape(-1, 2, 2, 6)
        x = linen.relu(linen.ConvTranspose(4, (2, 2), (2, 2), transpose_kernel=True)(x))
        x = linen.ConvTranspose(1, (2, 2), (2, 2), transpose_kernel=True)(x)
        return x if self.error else linen.sigmoid(x)


class AutoEncoder(linen.Module):
    error: bool

    def setup(self):
        self.encoder, self.decoder = Encoder(), Decoder(self.error)

    def __call__(self, x):
        z = self.encoder(x)
        return {"image": self.decoder(z), "code": z}


def port(error=False):
    return AutoEncoder(error)


def inputs():
    return np.random.default_rng(9).uniform(size=(3, 8, 8, 1)).astype(np.float32)
