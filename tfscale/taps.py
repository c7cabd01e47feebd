"""Taps on a model: at each canonical place its output can be read, or another put in its place."""

from contextlib import ExitStack, contextmanager
from unittest.mock import patch


@contextmanager
def tapped(model, hook):
    """While open, what a place of the model computes is `hook(place, output)`."""
    with ExitStack() as patches:
        for layer in model.layers:
            patches.enter_context(patch.object(layer, "call", hooked(layer, hook)))
        yield


def hooked(layer, hook):
    """A layer's `call` with the hook on its output; a table that is read in reverse is at another place."""
    call = layer.call

    def changed(*args, **kwargs):
        return hook(layer.reverse_place if kwargs.get("reverse") else layer.name, call(*args, **kwargs))

    return changed
