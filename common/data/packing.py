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
        last, starts = len(self.tokens) - 1, np.asarray(indices, np.int64) * self.sequence
        tokens = self.tokens.windows(starts, self.sequence + 1)
        inputs, labels = (np.ascontiguousarray(part, np.int32) for part in (tokens[:, :-1], tokens[:, 1:]))
        weights = np.ones(inputs.shape, np.float32)
        if len(starts) and starts.max() + self.sequence > last:
            weights[starts[:, None] + np.arange(self.sequence) >= last] = 0
        more = {"positions": np.empty_like(inputs)}
        if self.cross_documents:
            more["positions"][:] = np.arange(self.sequence, dtype=np.int32)
        else:
            ended = inputs == self.end
            weights[ended] = 0
            more = documents_within(ended)
        return {"inputs": inputs, "labels": labels, "weights": weights, **more}


def documents_within(ended: np.ndarray) -> dict[str, np.ndarray]:
    """segments and positions (int32, BxT) of rows where `ended` (bool, BxT) marks each document's last token."""
    width = ended.shape[1]
    begins = np.ones_like(ended)
    begins[:, 1:] = ended[:, :-1]
    at = np.flatnonzero(begins)  # few beside the tokens, so that what is said of each is said once and repeated
    place, lengths, number = at % width, np.diff(at, append=begins.size), np.arange(len(at))
    segment = number - np.maximum.accumulate(np.where(place == 0, number, 0))
    segments, start = (np.repeat(x.astype(np.int32), lengths).reshape(ended.shape) for x in (segment, place))
    return {"segments": segments, "positions": np.arange(width, dtype=np.int32) - start}
