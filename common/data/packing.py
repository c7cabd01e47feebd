"""A stream of tokens cut into examples of T inputs and T labels; documents are told apart inside a row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from twinscale.common.data.shards import Tokens


@dataclass(frozen=True)
class Packed:
    """Example i reads tokens[i*T : i*T + T + 1] of the stream.

    `partial` keeps the stream's last, incomplete example, its missing tokens padded with weight 0: evaluation drops
    nothing, while training (without it) sees only whole examples.
    """

    tokens: Tokens
    sequence: int
    end: int
    cross_documents: bool
    partial: bool = False

    def __len__(self) -> int:
        spare = self.sequence - 1 if self.partial else 0
        return (len(self.tokens) - 1 + spare) // self.sequence

    def take(self, indices: ArrayLike) -> dict[str, np.ndarray]:
        """The examples `indices` (integers, shape (B,)) as arrays of shape (B, T).

        inputs int32, labels int32, weights float32 and positions int32 (from 0 in each row). Unless `cross_documents`
        positions start over in each document, there are segments int32 (the document's number within the row, from
        0), and weight is 0 where the input is an end, because its label is the next document's first token.
        """
        last = len(self.tokens) - 1
        offsets = np.asarray(indices, np.int64)[:, None] * self.sequence + np.arange(self.sequence + 1)
        tokens = self.tokens.gather(np.minimum(offsets, last)).astype(np.int32)
        inputs, labels, weights = tokens[:, :-1], tokens[:, 1:], offsets[:, :-1] < last
        more = {"positions": np.broadcast_to(np.arange(self.sequence, dtype=np.int32), inputs.shape)}
        if not self.cross_documents:
            ended = inputs == self.end
            weights = weights & ~ended
            more = documents_within(ended)
        whole = {"inputs": inputs, "labels": labels, "weights": weights.astype(np.float32), **more}
        return {name: np.ascontiguousarray(value) for name, value in whole.items()}


def documents_within(ended: np.ndarray) -> dict[str, np.ndarray]:
    """segments and positions (int32, BxT) of rows where `ended` (bool, BxT) marks each document's last token."""
    begins = np.zeros_like(ended)
    begins[:, 1:] = ended[:, :-1]
    place = np.arange(ended.shape[1], dtype=np.int32)
    start = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    return {"segments": np.cumsum(begins, axis=1, dtype=np.int32), "positions": (place - start).astype(np.int32)}
