"""What changes of TensorFlow's step have in common: patch points with a function of what stands there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import tensorflow as tf

from twinscale.tfscale import optimizer, train


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
