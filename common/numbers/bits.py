"""Shared random bits: Threefry-2x32 in JAX's partitionable layout, the NumPy reference of `*/bits.py`.

A draw is addressed, never sequenced: key(seed), folded with the step and the canonical name of the place that draws;
element j of global row r is the block (r, j) of the cipher. So a row's bits are the same on any mesh, in any
micro-batch and in any order of rows. Row 0 equals `jax.random.bits(key, (size,))`.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; JAX's `jax_threefry_partitionable`.
"""

import hashlib
import math
from typing import Any

import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry_2x32(key: np.ndarray, hi: Any, lo: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two uint32 arrays encrypted under `key` (uint32, shape (2,)) in 20 rounds; returns two uint32 arrays."""
    key = np.asarray(key, np.uint32)
    schedule = key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY)
    with np.errstate(over="ignore"):
        hi, lo = hi + schedule[0], lo + schedule[1]
        for i in range(5):
            for r in ROTATIONS[i % 2]:
                hi = hi + lo
                lo = ((lo << np.uint32(r)) | (lo >> np.uint32(32 - r))) ^ hi
            hi = hi + schedule[(i + 1) % 3]
            lo = lo + schedule[(i + 2) % 3] + np.uint32(i + 1)
    return hi, lo


def key(seed: int) -> np.ndarray:
    """The root key of a recipe's seed: uint32, shape (2,); equal to the data of `jax.random.key(seed)` below 2**32."""
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)


def fold_in(key: np.ndarray, data: Any) -> np.ndarray:
    """A key of its own for `data` (an unsigned 32-bit integer), as `jax.random.fold_in`."""
    hi, lo = threefry_2x32(key, np.zeros(1, np.uint32), np.array([data], np.uint32))
    return np.concatenate([hi, lo])


def step_key(root: np.ndarray, step: Any) -> np.ndarray:
    """The key of a step under a root key: nothing else folds a step in."""
    return fold_in(root, step)


def name_word(name: str) -> int:
    """The 32-bit word that a canonical name is folded in as."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")


def draw(key: np.ndarray, rows_B: np.ndarray, size: int) -> np.ndarray:
    """uint32 bits, shape (B, size), of the global rows `rows_B` (uint32)."""
    row, column = np.broadcast_arrays(np.asarray(rows_B, np.uint32)[:, None], np.arange(size, dtype=np.uint32))
    hi, lo = threefry_2x32(key, row, column)
    return hi ^ lo


def uniform(bits: np.ndarray) -> np.ndarray:
    """float32 in [0, 1) from the upper 23 bits, as `jax.random.uniform`."""
    return ((bits >> np.uint32(9)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def keep_below(rate: float) -> int:
    """The integer t for which `bits >> 9 < t` keeps an element with probability 1 - rate, as `jax.random.bernoulli`."""
    return math.ceil(float(np.float32(1 - rate)) * 2**23)
