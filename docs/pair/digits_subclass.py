"""The same model as a subclass, by who refactors it; in `untold` a layer is no longer told whether it trains."""

import keras
from keras import layers


class Stem(layers.Layer):
    def __init__(self, told):
        super().__init__()
        self.conv = layers.Conv2D(8, 3, padding="same", use_bias=False)
        self.norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        self.told = told

    def call(self, x, train=False):  # Keras hands on `training` by itself, and knows no `train`
        x = self.conv(x)
        return keras.ops.relu(self.norm(x) if self.told else self.norm(x, training=train))


class Digits(keras.Model):
    def __init__(self, width, told):
        super().__init__()
        self.stem, self.pool, self.flat = Stem(told), layers.MaxPooling2D(), layers.Flatten()
        self.fc1, self.fc2 = layers.Dense(width, activation="gelu"), layers.Dense(10)

    def call(self, images, training=False):
        return self.fc2(self.fc1(self.flat(self.pool(self.stem(images)))))


def build(width=24):
    return Digits(width, told=True)


def untold(width=24):
    return Digits(width, told=False)
