"""Subsets of documents for sweeps over data: those that come first in an order that is of their contents alone, so that
each is inside of all larger ones, in whatever order a source has them, and the same in both backends."""

import hashlib

import numpy as np

from twinscale.common.data.order import mixed
from twinscale.common.quality import Subset


def word_of(content: bytes) -> int:
    """64 bits of a document's content (bytes), others than those that split it."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, person=b"subset").digest(), "big")


def chosen(words: np.ndarray, sizes: np.ndarray, subset: Subset) -> np.ndarray:
    """Which documents a subset takes: bool (N,), of their words uint64 (N,) and their bytes int64 (N,). At least one of
    any: the first, though it were larger than what is asked for."""
    keys = mixed(words, np.random.SeedSequence(subset.seed).generate_state(1, np.uint64)[0])
    order = np.argsort(keys, kind="stable")
    taken = np.ones(len(words), bool)
    if subset.share < 1:
        taken &= keys[order] < np.uint64(subset.share * 2**64)
    if subset.documents:
        taken &= np.arange(len(words)) < subset.documents
    if subset.bytes:
        taken &= np.cumsum(sizes[order]) <= subset.bytes
    taken[:1] = True
    found = np.zeros(len(words), bool)
    found[order[taken]] = True
    return found
