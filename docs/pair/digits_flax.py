"""Its port to Flax, by another hand: other names, modules of its own, channels first behind the convolution."""

import jax.numpy as jnp
from flax import nnx


class Digits(nnx.Module):
    def __init__(self, width, approximate, rngs):
        self.stem = nnx.Conv(1, 8, (3, 3), use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(128, width, rngs=rngs), nnx.Linear(width, 10, rngs=rngs)
        self.approximate = approximate

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.bn(self.stem(x))), (2, 2), (2, 2))
        x = jnp.transpose(x, (0, 3, 1, 2)).reshape(x.shape[0], -1)
        return self.fc2(nnx.gelu(self.fc1(x), approximate=self.approximate))


def build(width=24):
    return Digits(width, True, nnx.Rngs(0))


def mended(width=24):
    return Digits(width, False, nnx.Rngs(0))
