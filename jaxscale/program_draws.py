"""Stock dropout of NNX and Linen in a program of the user's: off, or from the shared bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import jax.numpy as jnp
from flax import linen, nnx

from twinscale.common.pairs.draws import Draws, noted, refused
from twinscale.jaxscale import bits


@contextmanager
def drawing(training: bool, draws: Draws | None) -> Iterator[None]:
    """While open, Linen's dropout passes on what it is given, and attention draws nothing; with `draws`, stock dropout
    of Linen and NNX draws from the shared bits, and whatever else would draw raises BadInput."""
    if not training:
        yield
        return
    if draws is None:
        with linen.intercept_methods(_passing):
            yield
        return

    def linens(function, given, named, context):
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, linen.Dropout):
            return function(*given, **named)
        x, still, *_ = *given, *([named["inputs"]] if not given else []), named.get("deterministic"), None
        still = module.deterministic if still is None else still
        return _dropped(draws, x, module.rate, module.broadcast_dims, still)

    def nnxs(self, inputs, *, deterministic=None, rngs=None):
        still = self.deterministic if deterministic is None else deterministic
        return _dropped(draws, inputs, self.rate, self.broadcast_dims, still)

    with linen.intercept_methods(linens), patch.object(nnx.Dropout, "__call__", nnxs), \
            patch.object(linen.Module, "make_rng", _refusing), patch.object(nnx.RngStream, "__call__", _refusing):
        yield


def _passing(function, given, named, context):
    if context.method_name == "__call__" and isinstance(context.module, linen.Dropout):
        return given[0] if given else named["inputs"]
    if hasattr(context.module, "dropout_rate") and getattr(context.module, "deterministic", "") is None:
        named = {**named, "deterministic": True}
    return function(*given, **named)


def _dropped(draws, x: Any, rate: float, shared: Any, still: Any):
    """x less what dropout takes; axes of `shared` have one mask."""
    if still or not 0 < rate < 1:
        return x if still or not rate else jnp.zeros_like(x)
    axes = {axis % x.ndim for axis in shared}
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    rows = draws.rows.shape[0]
    place = noted(draws, "flax", rate, shape, rows)
    if shape[0] != rows:  # rows that something of theirs is beside
        grouped = x.reshape(rows, shape[0] // rows, *x.shape[1:])
        return bits.dropout(grouped, draws.key, draws.rows, rate, place).reshape(x.shape)
    if not axes:
        return bits.dropout(x, draws.key, draws.rows, rate, place)
    return x * bits.dropout(jnp.ones(shape, x.dtype), draws.key, draws.rows, rate, place)


def _refusing(self, *_, **__):
    where = "/".join(getattr(self, "path", ())) if isinstance(self, linen.Module) else "a module"
    raise refused("flax", f"{where or 'the program'} ({type(self).__name__})")
