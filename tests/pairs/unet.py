"""Down and up again, what was on the way down joined on the way up, against Linen.

The error: the two that are joined stand in the other order."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import linen


def keras_model():
    images = keras.Input((4, 4, 2))
    kept = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="enc")(images)
    x = keras.layers.MaxPooling2D(2)(kept)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="mid")(x)
    x = keras.layers.Concatenate()([keras.layers.UpSampling2D(2)(x), kept])
    x = keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="dec")(x)
    return keras.Model(images, keras.layers.Conv2D(1, 1, name="mask")(x))


class UNet(linen.Module):
    error: bool

    @linen.compact
    def __call__(self, x):
        skip = linen.relu(linen.Conv(4, (3, 3), name="encoder")(x))
        x = linen.max_pool(skip, (2, 2), (2, 2))
        x = linen.relu(linen.Conv(4, (3, 3), name="bottleneck")(x))
        x = jax.image.resize(x, (x.shape[0], 4, 4, 4), "nearest")
        x = jnp.concatenate([skip, x] if self.error else [x, skip], -1)
        return linen.Conv(1, (1, 1), name="segment")(linen.relu(linen.Conv(5, (3, 3), name="decoder")(x)))


def port(error=False):
    return UNet(error)


def inputs():
    return np.random.default_rng(17).normal(size=(3, 4, 4, 2)).astype(np.float32)
