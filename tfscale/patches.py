"""What this backend's changes have in common: patch points with a function of what stands there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import tensorflow as tf

from twinscale.tfscale import models, optimizer, train


def in_bfloat16(x: tf.Tensor) -> tf.Tensor:
    """float32 in bfloat16's values, by its bits: XLA takes a cast there and back for none. Others as they are."""
    if x.dtype != tf.float32:
        return x
    bits = tf.bitcast(x, tf.uint32)
    even = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)), tf.constant(1, tf.uint32))
    near = bits + tf.constant(0x7FFF, tf.uint32) + even
    y = tf.bitcast(tf.bitwise.bitwise_and(near, tf.constant(0xFFFF0000, tf.uint32)), tf.float32)
    return x + tf.stop_gradient(y - x)


@contextmanager
def changed_model(**values: Any) -> Iterator[None]:
    """Builds every model from a section with some values changed."""
    builder = models.builder

    def changed(recipe):
        return lambda m, *rest: builder(recipe)(m.model_copy(update=values), *rest)

    with patch.object(models, "builder", changed):
        yield


@contextmanager
def changed_gradients(name: str, function: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[None]:
    """One tensor's gradient as the function makes it."""
    sum_gradients = train.sum_gradients

    def changed(recipe, state, number, batch):
        gradients, running, sums = sum_gradients(recipe, state, number, batch)
        named = dict(zip(state.trained, gradients, strict=True))
        return list((named | {name: function(named[name])}).values()), running, sums

    with patch.object(train, "sum_gradients", changed):
        yield


@contextmanager
def changed_sums(function: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[None]:
    """The gradients of an update as a function of each makes them."""
    sum_gradients = train.sum_gradients

    def changed(recipe, state, number, batch):
        gradients, running, sums = sum_gradients(recipe, state, number, batch)
        return [function(g) for g in gradients], running, sums

    with patch.object(train, "sum_gradients", changed):
        yield


@contextmanager
def changed_clip(function: Callable[[Sequence[tf.Tensor], float], Sequence[tf.Tensor]]) -> Iterator[None]:
    """Gradients as a function of them and of the limit clips them; their norm stays as it is told."""
    clip = optimizer.clip

    def changed(gradients, limit):
        return function(gradients, limit), clip(gradients, 0.0)[1]

    with patch.object(optimizer, "clip", changed), patch.object(train, "clip", changed):
        yield
