"""Documents that have been seen before: the same text once it is normalised, or nearly the same by MinHash."""

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from twinscale.common.data.order import mixed
from twinscale.common.errors import MissingEnvironment
from twinscale.common.need import missing
from twinscale.common.quality import Thresholds

NO_WORD = re.compile(r"[\W_]+")
TOGETHER = 4096  # shingles whose hashes are made at a time: their table is of shape (TOGETHER, bands * rows)
FACTOR = 0x9E3779B97F4A7C15  # odd, 2^64 over the golden ratio: a shingle's hash is a polynomial in it


class Seen(NamedTuple):
    """Who was there before, as it was `keep`t, and what is said of the two."""

    other: Any
    said: str


class Finder(NamedTuple):
    """`find(text)` is a Seen or None; `keep(text, number)` has later ones compared with a text."""

    find: Callable[[str], Seen | None]
    keep: Callable[[str, int], None]


def normal(text: str) -> str:
    """A text in lower case, without accents, punctuation a space, white space one space (Penedo et al. 2023); one
    that has nothing else is as it was."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return NO_WORD.sub(" ", text.lower()).strip() or text


def exact(thresholds: Thresholds) -> Finder:
    """Finds texts that are the same once they are `normal`."""
    known: dict[bytes, int] = {}

    def digest(text: str) -> bytes:
        return hashlib.blake2b(normal(text).encode(), digest_size=16).digest()

    def find(text: str) -> Seen | None:
        other = known.get(digest(text))
        return None if other is None else Seen(other, "the same text")

    def keep(text: str, number: int) -> None:
        known.setdefault(digest(text), number)

    return Finder(find, keep)


def near(thresholds: Thresholds) -> Finder:
    """Finds texts of whose shingles, `near_words` in a row, a share of `near_similarity` is the same: by MinHash with
    `near_bands` bands of `near_rows` hashes (Broder 1997; Penedo et al. 2023), each pair that shares a band then judged
    by the estimate of all hashes.

    Raises MissingEnvironment where the package datasketch is not installed.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise MissingEnvironment(f'data.quality: "near": {missing("datasketch")}') from None
    bands, rows = thresholds.near_bands, thresholds.near_rows
    empty = MinHash(bands * rows, seed=1, hashfunc=int, scheme="affine32")
    index = MinHashLSH(num_perm=bands * rows, params=(bands, rows))
    kept: dict[int, Any] = {}
    last: list[Any] = [None, None]  # who finds a text usually keeps it

    def signature(text: str) -> Any:
        if last[0] != text:
            found, all_of = empty.copy(), shingles(text, thresholds.near_words)
            for start in range(0, len(all_of), TOGETHER):
                found.update_batch(all_of[start:start + TOGETHER].tolist())
            last[:] = text, found
        return last[1]

    def find(text: str) -> Seen | None:
        own = signature(text)
        by = sorted((-own.jaccard(kept[number]), number) for number in index.query(own))
        if not by or -by[0][0] < thresholds.near_similarity:
            return None
        return Seen(by[0][1], f"about {-by[0][0]:.0%} of its shingles")

    def keep(text: str, number: int) -> None:
        kept[number] = signature(text)
        index.insert(number, kept[number], check_duplication=False)

    return Finder(find, keep)


def shingles(text: str, words: int) -> np.ndarray:
    """The distinct hashes, below 2^32, of a text's shingles once it is `normal`: int64, sorted. A shorter text is one
    shingle."""
    own = np.array([zlib.crc32(word.encode()) for word in normal(text).split()] or [0], np.uint64)
    own = mixed(own, np.uint64(FACTOR))
    found = np.zeros(max(1, len(own) - words + 1), np.uint64)
    for i in range(min(words, len(own))):
        found = found * np.uint64(FACTOR) + own[i:i + len(found)]
    return np.unique(mixed(found, np.uint64(words)) >> np.uint64(32)).astype(np.int64)


FINDERS = {"exact": exact, "near": near}
CITED = {"exact": "Penedo et al. 2023", "near": "Broder 1997; Penedo et al. 2023"}
