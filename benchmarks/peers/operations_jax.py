"""Single operations in plain JAX, each jitted by itself."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.benchmarks.peers.operations import (
    CALL,
    DECAY,
    EPSILON,
    GRADIENT,
    MEAN,
    NORM,
    RATE,
    SQUARE,
    SQUARED,
    timed,
)
from twinscale.benchmarks.peers.serve import serve

PACKAGES = ("jax", "jaxlib")


def norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Layer norm of x (N, D)."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + NORM) * scale + bias


def gelu(x: jax.Array) -> jax.Array:
    """GELU by the error function, as TensorFlow has it; JAX' own goes by 1 - erf, which XLA takes longer for."""
    return 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))


FUNCTIONS: Mapping[str, Callable[..., jax.Array]] = {
    "layer norm": norm, "transposing copy": lambda x: x.transpose(0, 2, 1, 3), "softmax": jax.nn.softmax,
    "scores": lambda q, k: q @ k.swapaxes(2, 3), "product": jnp.matmul,
    "gelu": gelu, SQUARED: lambda x: x @ x, CALL: lambda x: x + 1}


def function_of(name: str) -> Callable[..., Any]:
    """What computes an operation, not jitted yet."""
    if not name.endswith(GRADIENT):
        return FUNCTIONS[name]

    def both(*given):
        y, back = jax.vjp(FUNCTIONS[name.removesuffix(GRADIENT)], *given[:-1])
        return y, *back(given[-1])

    return both


def update(w: jax.Array, m: jax.Array, v: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """AdamW's (weight, mean, mean square) after a gradient."""
    m, v = MEAN * m + (1 - MEAN) * g, SQUARE * v + (1 - SQUARE) * g * g
    by = m / (1 - MEAN) / (jnp.sqrt(v / (1 - SQUARE)) + EPSILON) + DECAY * w
    return w - RATE * by, m, v


def made(name: str, given: list[np.ndarray]) -> Callable[[], Any]:
    """What computes an operation once and waits; returns its results. An update goes on from the last, in place."""
    taken = [jnp.asarray(x) for x in given]
    if name != "update":
        jitted = jax.jit(function_of(name))
        return lambda: jax.block_until_ready(jitted(*taken))
    all_of = jax.jit(lambda held, gradients: [update(w, m, v, g) for (w, m, v), g in zip(held, gradients, strict=True)],
                     donate_argnums=0)
    state = [tuple(jnp.zeros_like(g) for _ in range(3)) for g in taken]

    def once():
        state[:] = jax.block_until_ready(all_of(state, taken))
        return [w for w, _, _ in state]

    return once


if __name__ == "__main__":
    serve(lambda job: timed(job, made), PACKAGES)
