"""The order of training examples as pure arithmetic: no state, no list in memory, any step in O(batch).

Sources: a Feistel network (Luby and Rackoff 1988) over the next power of four, walked until it lands below n (cycle
walking, Black and Rogaway 2002), with SplitMix64's finaliser as round function (Steele, Lea and Flood 2014).
Row r of a global batch belongs to host r mod hosts, so any number of hosts reads the same global batches, and the
position in the data is one integer: the step.
"""

import numpy as np
from numpy.typing import ArrayLike

from twinscale.common.numbers.bits import name_word

ROUNDS = 6


def mixed(x: np.ndarray, key: np.uint64) -> np.ndarray:
    """SplitMix64's finaliser of x + key: uint64 in, uint64 out."""
    x = x + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permutation(i: ArrayLike, n: int, *seed: int) -> np.ndarray:
    """Where the permutation of [0, n) that the integers `seed` choose sends each `i`: int64 of i's shape."""
    half = np.uint64((max(2, (n - 1).bit_length()) + 1) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.SeedSequence(seed).generate_state(ROUNDS, np.uint64)
    x = np.array(i, np.uint64)
    walking = np.ones(x.shape, bool)
    while walking.any():
        left, right = x[walking] >> half, x[walking] & mask
        for key in keys:
            left, right = right, left ^ (mixed(right, key) & mask)
        x[walking] = (left << half) | right
        walking = x >= n
    return x.astype(np.int64)


def rows(step: int, global_batch: int, seed: int, host: int = 0, hosts: int = 1, shuffled: int = 0) -> np.ndarray:
    """This host's row numbers of the global batch: uint32, every hosts-th from `host`.

    `shuffled` (the twin) is the number of micro-batches within each of which the rows come in an order shuffled by seed
    and step; across them it would be another computation, with batch norm or a fault in how they are added up.
    """
    row = np.arange(global_batch)
    if shuffled:
        part = global_batch // shuffled
        row = row // part * part + permutation(row % part, part, seed, step, name_word("twin"))
    return row[host::hosts].astype(np.uint32)


def examples(row: ArrayLike, step: ArrayLike, global_batch: int, n: int, seed: int) -> np.ndarray:
    """The example (int64, below n) in each `row` of the batch of `step`: every epoch is a permutation of its own.

    `row` and `step` broadcast: rows (K, B) of steps (K, 1) give the examples of K steps at once, at the price of one.
    """
    epoch, place = np.divmod(np.asarray(step, np.int64) * global_batch + np.asarray(row, np.int64), n)
    example = np.empty_like(place)
    for e in np.unique(epoch):
        example[epoch == e] = permutation(place[epoch == e], n, seed, int(e))
    return example


def indices(step: int, global_batch: int, n: int, seed: int, host: int = 0, hosts: int = 1) -> np.ndarray:
    """The examples (int64) that `host` reads at `step`."""
    return examples(rows(step, global_batch, seed, host, hosts), step, global_batch, n, seed)
