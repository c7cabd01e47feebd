"""The canonical parameter tree: every tensor's dotted name, shape and first value, in forward order.

A Keras layer's name and a Flax module's path ARE the name without its leaf, so there is no mapping table.
Kernels multiply from the right, (inputs, outputs); convolutions are HWIO.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from twinscale.common.families import family_of
from twinscale.common.families.weights import taken

SPREAD = 0.3  # of the noise that moves a tensor, relative to its own size
SIZE = 0.1  # of a tensor that is zero


@dataclass(frozen=True)
class Parameter:
    """One tensor: its shape, and the standard deviation or constant it starts from."""

    shape: tuple
    deviation: float = 0.0  # of the normal distribution its first value is drawn from
    constant: float = 0.0  # its first value where deviation is 0
    start: Callable[[], np.ndarray] | None = None  # gives its first value, in place of both


def parameters(model: Any, classes: int, example_shape: Sequence[int]) -> dict[str, Parameter]:
    """The canonical tree of a model section of the recipe.

    Args:
      model: the section, of the options of any family.
      classes: size of the vocabulary, or number of classes.
      example_shape: (T,) for text, (H, W, C) for images.
    Returns: {canonical name: Parameter}, in forward order. Where the section says whose first weights they are, those
    are their first values. Raises BadInput where they are of another architecture.
    """
    family = family_of(model)
    tree = family.tree(model, classes, example_shape)
    if not (family.layouts and getattr(model, "weights", "")):
        return tree
    values = taken(model, tree).values
    return {name: replace(p, start=partial(values.__getitem__, name)) if name in values else p
            for name, p in tree.items()}


def initial_values(tree: Mapping[str, Parameter], seed: int, dtype: Any, dither: float = 0.0) -> dict[str, Any]:
    """First values of a canonical tree: bitwise equal for every backend, mesh and order of creation.

    Each name has a counter-based stream of its own (Philox, keyed by the seed and the name's BLAKE2b), drawn in
    float64, then cast to `dtype`. With `dither`, each value v becomes v (1 + u), u uniform in [-dither, dither].
    """
    return {name: initial_value(name, parameter, seed, dtype, dither) for name, parameter in tree.items()}


def initial_value(name: str, parameter: Parameter, seed: int, dtype: Any, dither: float = 0.0) -> np.ndarray:
    """The first value of one tensor, an array of `parameter.shape` and `dtype`."""
    value = np.full(parameter.shape, parameter.constant)
    if parameter.start:
        value = np.asarray(parameter.start(), np.float64)
    elif parameter.deviation:
        value = stream(seed, name).standard_normal(parameter.shape) * parameter.deviation
    if dither:
        value = value * dithering(seed, name, dither, parameter.shape)
    return value.astype(dtype)


def dithering(seed: int, name: str, dither: float, shape: Sequence[int]) -> np.ndarray:
    """What a tensor is multiplied by to be dithered: 1 + u, u uniform in [-dither, dither], float64 of `shape`."""
    return 1 + stream(seed, name, "dither").uniform(-dither, dither, shape)


def generic_value(value: np.ndarray, noise: np.ndarray, positive: bool) -> np.ndarray:
    """A tensor at a generic point, nowhere zero, one or equal: moved by `noise`, standard normal of its shape, in its
    own size; one that has to stay `positive`, a variance, is near 1."""
    if positive:
        return np.exp(SPREAD * noise)
    return value + noise * (SPREAD * np.sqrt(np.mean(value**2)) or SIZE)


def stream(*words: Any) -> np.random.Generator:
    """A NumPy generator of its own for the words (a seed, names): counter-based, keyed by their BLAKE2b."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def is_trained(name: str) -> bool:
    """Whether the optimizer moves a tensor; running statistics, and what a stage of `common/compress/rules.py` has
    besides the weights, are moved by the forward pass, and a teacher never."""
    moved = (".mean", ".var", "_mask", "_clustered", "_range", ".range")
    return not name.endswith(moved) and not name.startswith("teacher.")


def is_decayed(name: str) -> bool:
    """Whether weight decay applies to a tensor: kernels, adapters of kernels and tables, never biases and norms."""
    return name.endswith((".kernel", ".embedding", ".lora_a", ".lora_b"))


def longest_sum(tree: Mapping[str, Parameter]) -> int:
    """Values that one output of the tree's largest kernel adds up."""
    return max(math.prod(p.shape[:-1]) for name, p in tree.items() if name.endswith(".kernel"))


def trained_size(tree: Mapping[str, Parameter]) -> int:
    """Number of trained values, N in the scaling laws (embeddings included)."""
    return sum(math.prod(p.shape) for name, p in tree.items() if is_trained(name))
