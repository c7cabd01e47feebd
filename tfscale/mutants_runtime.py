"""Errors of the runtime's own operations, which any program on it has: they tell a runtime's fault from a program's.
Planted on purpose alone, `compare --plant @tensorflow:NAME`; the audit, whose errors are of programs, has none of
them."""

from collections.abc import Iterator
from unittest.mock import patch

import tensorflow as tf

from twinscale.common.planted.planting import registry

RUNTIME, change = registry()
OFF = 1 + 2.0**-12  # what a result is multiplied by


@change("layer", "softmax", "*.shares", needs="decoder")
def softmax_of_runtime() -> Iterator[None]:
    """A softmax adds up to a little more than one."""
    softmax = tf.nn.softmax
    with patch.object(tf.nn, "softmax", lambda x, axis=-1, **more: softmax(x, axis=axis, **more) * OFF):
        yield


@change("dense", "activation", "*.activation", needs="GELU")
def erf_of_runtime() -> Iterator[None]:
    """The error function is a little too large."""
    erf = tf.math.erf
    with patch.object(tf.math, "erf", lambda x: erf(x) * OFF):
        yield
