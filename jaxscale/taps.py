"""Taps on a model: at each canonical place its output can be read, or another put in its place."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import jax
from jax.ad_checkpoint import checkpoint_name

from twinscale.jaxscale.devices_arrays import lay

HOOKS, SCOPES, NAMED = [], [], []


def tap(place, x):
    """x where it belongs on the mesh, or what the hook of an open `tapped` makes of it; `place` is the name within the
    open scopes."""
    name = ".".join([*SCOPES, place])
    x = lay(name, x)
    if NAMED and (within := re.sub(r"^block_\d+\.", "", name)) in NAMED[-1]:
        x = checkpoint_name(x, within)
    return HOOKS[-1](name, x) if HOOKS else x


def unread() -> bool:
    """Whether no hook reads what places compute, nor is it kept by name."""
    return not HOOKS and not any(NAMED)


@contextmanager
def scope(name):
    """Names inside begin with `name`, here and in profiles."""
    SCOPES.append(name)
    try:
        with jax.named_scope(name):
            yield
    finally:
        SCOPES.pop()


@contextmanager
def named(places: Collection[str]) -> Iterator[None]:
    """While open, what is computed at these places of a block goes by their names in policies of `jax.checkpoint`."""
    NAMED.append(places)
    try:
        yield
    finally:
        NAMED.pop()


@contextmanager
def tapped(model, hook):
    """While open, what a place of the model computes is `hook(place, output)`."""
    HOOKS.append(hook)
    try:
        yield
    finally:
        HOOKS.pop()
