"""Which side an example is on: decided by its content, so that duplicates never straddle the split."""

import hashlib
from collections.abc import Mapping

from twinscale.common.errors import BadInput
from twinscale.common.sources import Data, as_written

SPLITS = ("train", "held_out")


def side(content: bytes, held_out: float) -> str:
    """The split ("train" or "held_out") of `content` (bytes), held out with probability `held_out`."""
    word = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
    return "held_out" if word < held_out * 2**64 else "train"


def check_sides(data: Data, counts: Mapping[str, int], what: str) -> None:
    """Raises BadInput unless `counts` ({split: number}) has at least one document on each side."""
    for split, verb in zip(SPLITS, ("lower", "raise"), strict=True):
        if not counts[split]:
            raise BadInput(f'data.held_out={data.held_out} leaves the {split} split of {as_written(data)} '
                           f"empty ({sum(counts.values())} {what} in all): {verb} data.held_out or add {what}")
