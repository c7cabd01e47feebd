"""Errors that several devices alone show. A program over a mesh is written as for one device; here its rows are taken
as each device has them, as a program that is written for one of many would. See `common/planted/mutants.py`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscale.common.planted.planting import registry
from twinscale.jaxscale import bits, devices_arrays, optimizer, trace, train

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

CHANGES, change = registry()


@change("spread", "accumulation", phase="devices")
def missing_gradient_sum() -> Iterator[None]:
    """Every device goes by its own gradients."""
    with changed_shares(lambda recipe, shares, weights: shares[0]):
        yield


@change("spread", "accumulation", needs="text", phase="devices")
def mean_of_replicas() -> Iterator[None]:
    """Devices count alike, however many tokens each holds."""
    def alike(recipe, shares, weights):
        total = sum(weights)
        scaled = [jax.tree.map(lambda g, w=w: g * total / w / len(shares), g) for g, w in zip(
            shares, weights, strict=True)]
        return added(scaled)

    with changed_shares(alike):
        yield


@change("spread", "accumulation", needs="clipping", phase="devices")
def clip_each_replica() -> Iterator[None]:
    """Every device clips its gradients before they are added up."""
    def clipped(recipe, shares, weights):
        return added([jax.tree.map(lambda g, w=w: g * w, optimizer.clip(
            jax.tree.map(lambda g, w=w: g / w, g), recipe.optimizer.clip_norm)[0])
            for g, w in zip(shares, weights, strict=True)])

    with changed_shares(clipped):
        yield


@change("spread", "data", phase="devices", needs="text")
def repeated_shard() -> Iterator[None]:
    """All devices read the rows of the first, as hosts do that do not know their number."""
    def share_of_the_first(where, batch, *rest):
        count = where.mesh.size
        first = {name: np.concatenate([x[:len(x) // count]] * count) for name, x in batch.items()}
        return devices_arrays.place(where, first, *rest)

    with patch.object(train, "place", share_of_the_first), patch.object(trace, "place", share_of_the_first):
        yield


@change("spread-bits", "random bits", needs="dropout", phase="devices")
def same_bits_on_replicas() -> Iterator[None]:
    """All devices drop the same elements: each numbers its rows from zero."""
    dropout = bits.dropout

    def anew(x, key, rows, *rest):
        own = rows.shape[0] // several()
        return dropout(x, key, jnp.arange(rows.shape[0], dtype=rows.dtype) % own, *rest)

    with patch.object(bits, "dropout", anew):
        yield


@change("spread-norm", "norm", needs="convnet", phase="devices")
def unsynchronised_norm() -> Iterator[None]:
    """Batch norm goes by each device's own rows."""
    call = nnx.BatchNorm.__call__

    def apart(self, x, use_running_average=None):
        parts = jnp.split(x, several())
        return jnp.concatenate([call(self, part, use_running_average=use_running_average) for part in parts])

    with patch.object(nnx.BatchNorm, "__call__", apart):
        yield


def several() -> int:
    """The devices that what is traced is laid out on."""
    return devices_arrays.LAID_OUT[-1].mesh.size if devices_arrays.LAID_OUT else 1


def added(trees: Sequence[Any]) -> Any:
    """The sum of trees of arrays."""
    return jax.tree.map(lambda *xs: sum(xs), *trees)


@contextmanager
def changed_shares(function: "Callable[[Recipe, Sequence[Any], Sequence[jax.Array]], Any]") -> Iterator[None]:
    """The gradients as a function of the recipe, of each device's own and of their weights makes them, where there are
    several."""
    sum_gradients = train.sum_gradients

    def changed(recipe, state, number, batch):
        gradients, running, sums = sum_gradients(recipe, state, number, batch)
        count, rows = several(), batch["row"].shape[0]
        if count == 1:
            return gradients, running, sums
        own = [sum_gradients(recipe, state, number, {name: x[i * rows // count:(i + 1) * rows // count]
                                                     for name, x in batch.items()}) for i in range(count)]
        return function(recipe, [g for g, _, _ in own], [of["weight"] for *_, of in own]), running, sums

    with patch.object(train, "sum_gradients", changed):
        yield
