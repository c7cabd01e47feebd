"""The original: a small Keras model of 8 by 8 images."""

import keras
from keras import layers


def build(width=24):
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(images)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="norm")(x)
    x = layers.Flatten()(layers.MaxPooling2D()(layers.Activation("relu")(x)))
    x = layers.Dense(width, activation="gelu", name="hidden")(x)
    return keras.Model(images, layers.Dense(10, name="logits")(x))
