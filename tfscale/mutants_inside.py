"""Errors and harmless changes at places of a Keras model that a user has built; see `common/planted/inside.py`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from keras import ops

from twinscale.common.families.places import WHOLE
from twinscale.common.planted.inside import PAIR, swapped
from twinscale.common.planted.planting import registry
from twinscale.tfscale import program_sight, programs
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models import pair
from twinscale.tfscale.runtimes import nest

INSIDE, change = registry()
WIDEST = 1024  # of an identity


@change(PAIR, WHOLE)
def scaled_output(module: str) -> Iterator[None]:
    """What a module makes is a hundredth larger."""
    with changed_outputs(module, lambda x: x * 1.01):
        yield


@change(PAIR, WHOLE, phase="backward")
def missing_gradient(module: str) -> Iterator[None]:
    """No gradient goes through what a module makes."""
    with changed_outputs(module, ops.stop_gradient):
        yield


@change(PAIR)
def equal_einsum(module: str) -> Iterator[None]:
    """What a module makes goes through an einsum with the identity, or with ones where it is wide."""
    def same(x):
        if not len(x.shape):
            return x
        width = x.shape[-1]
        return ops.einsum("...i,ij->...j", x, ops.eye(width, dtype=x.dtype)) if width <= WIDEST else ops.einsum(
            "...i,i->...i", x, ops.ones(width, x.dtype))

    with changed_outputs(module, same):
        yield


@change(PAIR, WHOLE)
def swapped_tensors(at: str) -> Iterator[None]:
    """Two tensors of one shape stand for each other."""
    opened = pair.opened

    def changed(*given):
        program = opened(*given)

        def call(tensors, *more, **named):
            made, moved = program.call(swapped(tensors, at), *more, **named)
            return made, swapped(moved, at)

        return replace(program, call=call)

    with patch.object(pair, "opened", changed):
        yield


@change(PAIR, "update", phase="optimizer")
def frozen_tensor(name: str) -> Iterator[None]:
    """One tensor stays at its first values."""
    import tensorflow as tf

    from twinscale.tfscale import train

    update = train.update

    def changed(recipe, state, gradients):
        variable = state.trained[name]
        first = tf.identity(variable.value)
        update(recipe, replace(state, averages=[]), gradients)
        variable.assign(first)
        if state.averages:
            train.average(state.averages, state.trained.values(), recipe.optimizer.ema)

    with patch.object(train, "update", changed):
        yield


@change(PAIR, WHOLE, phase="backward")
def lost_gradient(name: str) -> Iterator[None]:
    """One tensor gets no gradient."""
    from twinscale.tfscale.patches_step import changed_gradients

    with changed_gradients(name, ops.zeros_like):
        yield


# Of those the ones that touch the program alone, on whichever runtime.
PORTABLE = {name: INSIDE[name] for name in ("scaled_output", "missing_gradient", "equal_einsum", "swapped_tensors")}


@contextmanager
def changed_outputs(module: str, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """What a module makes, by its path, is as a function of each float tensor makes it; whoever looks sees that."""
    watched = programs.seen_of_keras

    @contextmanager
    def changed(kind, names, seen):
        base = next(one for one in kind.__mro__ if one.__name__ == "Layer")
        call = base.__call__

        def __call__(self, *given, **named):
            made = call(self, *given, **named)
            return nest().map_structure(lambda x: function(x) if program_sight.floats(x) else x, made) if names.get(
                id(self)) == module else made

        with patch.object(base, "__call__", __call__), watched(kind, names, seen):
            yield

    with patch.object(programs, "seen_of_keras", changed):
        yield
