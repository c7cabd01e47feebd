"""Errors and harmless changes at places of a JAX program that a user has written; see `common/planted/inside.py`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from twinscale.common.families.places import WHOLE
from twinscale.common.pairs import match, sides
from twinscale.common.planted.inside import PAIR, swapped
from twinscale.common.planted.planting import registry
from twinscale.common.planted.reach import everywhere
from twinscale.jaxscale import program_sight, programs, train
from twinscale.jaxscale.models import pair

INSIDE, change = registry()
WIDEST = 1024  # of an identity
assert sides.carried is match.carried  # whoever looks has taken it before it is changed, and so has it back


@change(PAIR, WHOLE)
def scaled_output(module: str) -> Iterator[None]:
    """What a module makes is a hundredth larger."""
    with changed_outputs(module, lambda x: x * 1.01):
        yield


@change(PAIR, WHOLE, phase="backward")
def missing_gradient(module: str) -> Iterator[None]:
    """No gradient goes through what a module makes."""
    with changed_outputs(module, jax.lax.stop_gradient):
        yield


@change(PAIR)
def equal_einsum(module: str) -> Iterator[None]:
    """What a module makes goes through an einsum with the identity, or with ones where it is wide."""
    def same(x):
        if not x.ndim:
            return x
        width = x.shape[-1]
        by, other = ("ij->...j", jnp.eye(width, dtype=x.dtype)) if width <= WIDEST else (
            "i->...i", jnp.ones(width, x.dtype))
        return jnp.einsum(f"...i,{by}", x, other, precision="highest")

    with changed_outputs(module, same):
        yield


@change(PAIR, WHOLE)
def swapped_tensors(at: str) -> Iterator[None]:
    """Two tensors of one shape stand for each other."""
    carried = match.carried
    with everywhere("carried", carried, lambda of, tensors, xp=np: carried(of, swapped(tensors, at), xp)):
        yield  # what is taken back goes by what is carried


@change(PAIR, "update", phase="optimizer")
def frozen_tensor(name: str) -> Iterator[None]:
    """One tensor stays at its first values."""
    update = train.update

    def changed(recipe, state, gradients):
        moved = update(recipe, state, gradients)
        weights = {**moved.weights, name: state.weights[name]}
        averages = train.average(state.averages, weights, recipe.optimizer.ema) if state.averages else {}
        return moved.replace(weights=weights, averages=averages)

    with patch.object(train, "update", changed):
        yield


@change(PAIR, WHOLE, phase="backward")
def lost_gradient(name: str) -> Iterator[None]:
    """One tensor gets no gradient."""
    sum_gradients = train.sum_gradients

    def changed(*given, **named):
        gradients, running, sums = sum_gradients(*given, **named)
        return {**gradients, name: jnp.zeros_like(gradients[name])}, running, sums

    with patch.object(train, "sum_gradients", changed):
        yield


@contextmanager
def changed_outputs(module: str, function: Callable[[jax.Array], jax.Array]) -> Iterator[None]:
    """What a module makes, by its path, is as a function of each float array makes it; whoever looks sees that."""
    of_linen, of_nnx = programs.seen_of_linen, programs.seen_of_nnx

    def made_of(tree):
        return jax.tree.map(lambda x: function(x) if program_sight.floats(x) else x, tree)

    def intercept(call, given, named, context):
        made = call(*given, **named)
        is_it = context.method_name == "__call__" and "/".join(context.module.path) == module
        return made_of(made) if is_it else made

    @contextmanager
    def linen_changed(seen):
        with of_linen(seen), linen.intercept_methods(intercept):
            yield

    @contextmanager
    def nnx_changed(whole, seen, named=False):
        it = next((one for path, one in nnx.iter_modules(whole) if "/".join(map(str, path)) == module), None)
        with ExitStack() as stack:
            if it is not None and "__call__" in dir(type(it)):
                call = type(it).__call__
                stack.enter_context(patch.object(type(it), "__call__", lambda self, *given, **more: made_of(
                    call(self, *given, **more)) if self is it else call(self, *given, **more)))
            stack.enter_context(of_nnx(whole, seen, named))
            yield

    def without_modules(of_tensors, tensors, inputs, seen):
        return programs.called_and_seen(of_tensors, tensors, inputs, [] if seen is None else seen, {module: function})

    pair.opened.cache_clear()  # what is compiled has no change in it, and later had no end of it
    try:
        with patch.object(programs, "seen_of_linen", linen_changed), patch.object(
                programs, "seen_of_nnx", nnx_changed), patch.object(programs, "_without_modules", without_modules):
            yield
    finally:
        pair.opened.cache_clear()
