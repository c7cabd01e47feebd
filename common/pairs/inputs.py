"""Inputs that nobody has to have: drawn from what a program says of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.families.parameters import stream

KINDS = ("ids", "mask", "normal")


class Spec(NamedTuple):
    """What an input is, in each of its rows. A plain tuple of the same does as well."""

    shape: tuple[int, ...]  # of one row
    dtype: str = "float32"  # a name of NumPy
    kind: str = "normal"  # ids, whole numbers below a bound; mask, ones and then zeros; normal, images and features
    bound: int | None = None  # of ids


def random_inputs(specs: Mapping[str, Spec | tuple], seed: int = 0, rows: int = 4) -> dict[str, np.ndarray]:
    """{name: array of (rows, *shape)} of {name: Spec}, the same for the same seed.

    A row of a mask is ones, and from a place of its own on zeros along its last axis; the first is all ones, the
    others have padding. Masks of one length have the same padding.

    Raises BadInput, which names the input, for a kind or a dtype that there is not, ids without a bound, and a bound
    that the dtype cannot hold.
    """
    if rows < 1:
        raise BadInput(f"rows: {rows}: one or more is wanted")
    return {name: _drawn(name, Spec(*spec), seed, rows) for name, spec in specs.items()}


def _drawn(name, spec, seed, rows):
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        raise BadInput(f"{name}: no dtype {spec.dtype}") from None
    shape = (rows, *spec.shape)
    if spec.kind == "mask":
        return _mask(shape, seed).astype(dtype)
    if spec.kind == "normal":
        if dtype.kind != "f":
            raise BadInput(f"{name}: normal numbers are floats, not {dtype}: kind ids or mask is meant")
        return stream(seed, "inputs", name).standard_normal(shape).astype(dtype)
    if spec.kind != "ids":
        raise BadInput(f"{name}: no kind {spec.kind}: {', '.join(KINDS)}{did_you_mean(spec.kind, KINDS)}")
    if spec.bound is None or spec.bound < 1:
        raise BadInput(f"{name}: ids are drawn below a bound of one or more, not {spec.bound}")
    largest = {"i": lambda: np.iinfo(dtype).max, "u": lambda: np.iinfo(dtype).max, "b": lambda: 1,
               "f": lambda: 2 ** (np.finfo(dtype).nmant + 1)}.get(dtype.kind, lambda: 0)()
    if spec.bound - 1 > largest:
        raise BadInput(f"{name}: {dtype} holds no ids up to {spec.bound - 1}, but up to {largest}")
    return stream(seed, "inputs", name).integers(0, spec.bound, shape).astype(dtype)


def _mask(shape, seed):
    """1 of what counts and 0 of padding, which each row but the first has at its end."""
    rows, *between, length = shape if len(shape) > 1 else (*shape, 1)
    kept = stream(seed, "mask", length).integers(1, max(length, 2), rows)
    kept[0] = length
    whole = (np.arange(length) < kept[:, None]).reshape(rows, *[1] * len(between), length)
    return np.broadcast_to(whole, (rows, *between, length)).reshape(shape)
