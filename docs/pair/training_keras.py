"""How the digits' original is trained: its own optimizer and its own loss."""

import keras
from keras import ops


def optimizer():
    return keras.optimizers.AdamW(1e-3, weight_decay=0.01)


class PortedAdamW(keras.optimizers.AdamW):
    """Adds epsilon after bias correction, as optax does and Keras does not."""

    def update_step(self, gradient, variable, learning_rate):
        t = ops.cast(self.iterations + 1, variable.dtype)
        self.epsilon = 1e-8 * ops.sqrt(1 - ops.cast(self.beta_2, variable.dtype) ** t)
        super().update_step(gradient, variable, learning_rate)


def mended():
    return PortedAdamW(1e-3, weight_decay=0.01)


def loss(outputs, labels, gamma=2.0):
    """The focal loss of each row."""
    right = -keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)
    return -((1 - ops.exp(right)) ** gamma) * right
