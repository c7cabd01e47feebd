"""Single operations in plain TensorFlow, each compiled by XLA by itself."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

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

PACKAGES = ("tensorflow",)
compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def norm(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Layer norm of x (N, D)."""
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + NORM) * scale + bias


FUNCTIONS: Mapping[str, Callable[..., tf.Tensor]] = {
    "layer norm": norm, "transposing copy": lambda x: tf.transpose(x, (0, 2, 1, 3)), "softmax": tf.nn.softmax,
    "scores": lambda q, k: tf.matmul(q, k, transpose_b=True), "product": tf.matmul, "gelu": tf.nn.gelu,
    SQUARED: lambda x: x @ x, CALL: lambda x: x + 1}


def function_of(name: str) -> Callable[..., Any]:
    """What computes an operation, not compiled yet."""
    if not name.endswith(GRADIENT):
        return FUNCTIONS[name]

    def both(*given):
        with tf.GradientTape() as tape:
            tape.watch(given[:-1])
            y = FUNCTIONS[name.removesuffix(GRADIENT)](*given[:-1])
        return y, *tape.gradient(y, given[:-1], output_gradients=given[-1])

    return both


def update(w: tf.Variable, m: tf.Variable, v: tf.Variable, g: tf.Tensor) -> None:
    """AdamW's (weight, mean, mean square) after a gradient, in place."""
    m.assign(MEAN * m + (1 - MEAN) * g)
    v.assign(SQUARE * v + (1 - SQUARE) * g * g)
    w.assign_sub(RATE * (m / (1 - MEAN) / (tf.sqrt(v / (1 - SQUARE)) + EPSILON) + DECAY * w))


def made(name: str, given: list[np.ndarray]) -> Callable[[], Any]:
    """What computes an operation once; on a CPU a call returns when it is done. It returns the results; an update goes
    on from the last."""
    taken = [tf.constant(x) for x in given]
    if name != "update":
        return functools.partial(compiled(function_of(name)), *taken)
    state = [tuple(tf.Variable(tf.zeros_like(g)) for _ in range(3)) for g in taken]

    @compiled
    def all_of(gradients):
        for held, g in zip(state, gradients, strict=True):
            update(*held, g)

    def once():
        all_of(taken)
        return [w for w, _, _ in state]

    return once


if __name__ == "__main__":
    serve(lambda job: timed(job, made), PACKAGES)
