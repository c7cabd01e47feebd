"""Errors that several devices alone show. See `common/planted/mutants.py`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

import tensorflow as tf

from twinscale.common.planted.planting import registry
from twinscale.tfscale import bits, devices_arrays, optimizer, trace, train
from twinscale.tfscale.models import layers_wide

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

CHANGES, change = registry()


@change("spread", "accumulation", phase="devices")
def missing_gradient_sum() -> Iterator[None]:
    """Every replica goes by its own gradients."""
    add_up = train.add_up
    own = lambda values: values if isinstance(values, list) else add_up(values)  # noqa: E731
    with patch.object(train, "add_up", own), patch.object(trace, "add_up", own):
        yield


@change("spread", "accumulation", needs="text", phase="devices")
def mean_of_replicas() -> Iterator[None]:
    """Replicas count alike, however many tokens each holds."""
    def alike(recipe, gradients, weight):
        context = tf.distribute.get_replica_context()
        total = train.add_up({"weight": weight})["weight"]
        return [g * tf.cast(total / (weight * context.num_replicas_in_sync), g.dtype) for g in gradients]

    with changed_shares(alike):
        yield


@change("spread", "accumulation", needs="clipping", phase="devices")
def clip_each_replica() -> Iterator[None]:
    """Every replica clips its gradients before they are added up, as Keras has it."""
    def clipped(recipe, gradients, weight):
        own = [g / tf.cast(weight, g.dtype) for g in gradients]
        return [g * tf.cast(weight, g.dtype) for g in optimizer.clip(own, recipe.optimizer.clip_norm)[0]]

    with changed_shares(clipped):
        yield


@change("spread", "data", phase="devices", needs="text")
def repeated_shard() -> Iterator[None]:
    """All replicas read the rows of the first, as hosts do that do not know their number."""
    def share_of_the_first(where, batch):
        if where.replicas == 1:
            return devices_arrays.place(where, batch)
        first = {name: tf.constant(devices_arrays.split(where, x)[:, 0].reshape(-1, *x.shape[1:])) for name, x in
                 batch.items()}
        return where.strategy.experimental_distribute_values_from_function(lambda context: first)

    with patch.object(train, "place", share_of_the_first), patch.object(trace, "place", share_of_the_first):
        yield


@change("spread-bits", "random bits", needs="dropout", phase="devices")
def same_bits_on_replicas() -> Iterator[None]:
    """All replicas drop the same elements: each numbers its rows from zero."""
    dropout = bits.dropout

    def anew(x, key, rows, *rest):
        return dropout(x, key, tf.cast(tf.range(tf.size(rows)), rows.dtype), *rest)

    with patch.object(bits, "dropout", anew):
        yield


@change("spread-norm", "norm", needs="convnet", phase="devices")
def unsynchronised_norm() -> Iterator[None]:
    """Batch norm goes by each replica's own rows, as Keras has it by default."""
    with patch.object(layers_wide, "over_replicas", lambda values: values):
        yield


@contextmanager
def changed_shares(function: "Callable[[Recipe, Sequence[tf.Tensor], tf.Tensor], Sequence[tf.Tensor]]"
                   ) -> Iterator[None]:
    """Each replica's gradients as a function of the recipe, of them and of their weight makes them, where there are
    several."""
    sum_gradients = train.sum_gradients

    def changed(recipe, state, number, batch):
        gradients, running, sums = sum_gradients(recipe, state, number, batch)
        several = tf.distribute.get_replica_context().num_replicas_in_sync > 1
        return function(recipe, gradients, sums["weight"]) if several else gradients, running, sums

    with patch.object(train, "sum_gradients", changed):
        yield
