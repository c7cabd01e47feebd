"""How the digits' port is trained."""

import jax
import jax.numpy as jnp
import optax


def optimizer():
    return optax.adamw(1e-3, weight_decay=0.01)


def loss(outputs, labels, gamma=2.0):
    right = jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=-1)[:, 0]
    return -((1 - jnp.exp(right)) ** gamma) * right
