"""Which token comes next: one definition for both backends, in NumPy on float64 log-probabilities of their logits.

A token is drawn by the shared bits (`common/numbers/bits.py`): one uniform number for a row and a step, addressed and
never sequenced, so that neither the batch nor the backend changes it. It picks by the inverse of the distribution
function over the tokens that are left, in the order of their ids. Ties in a ranking go to the lower id.

Two backends' logits differ by rounding, so each choice has a *margin*: how far every logit would have to move for
another token to be chosen. Where no logit moves further than the margin, the token is the same.

    greedy      half the lead: the best falls and the second rises
    drawn       a value F of the distribution function is a sum of e^(logit / T) over all of them, so that the log-odds
                of F move by 2 d / T at most where each logit moves by d; the token is the same while that is below
                their distance from the log-odds of the number that picks it, at both of its edges
    top-k       half the gap between the last that is left and the first that is not
    top-p       that gap too, and the probabilities at which the sum passes p, by the formula of a drawn one
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twinscale.common.errors import BadInput, TwinscaleError
from twinscale.common.numbers import bits
from twinscale.common.numbers.formats import EPS

PLACE = "generation"  # whose bits they are, as a layer's name is for dropout
FARTHEST = -1e300  # from the likeliest, in logits: so that gaps of two of them are numbers


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn. Raises BadInput for values that mean nothing."""

    greedy: bool = False
    temperature: float = 1.0  # logits are divided by it; 0 is greedy
    top_k: int = 0  # the likeliest so many are left; 0: all
    top_p: float = 1.0  # and of them the fewest likeliest whose probabilities sum to this or more
    seed: int = 0

    def __post_init__(self):
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise BadInput(f"--temperature {self.temperature}: a number from 0 on is wanted; 0 takes the likeliest")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"--top-p {self.top_p}: a number above 0 and at most 1 is wanted; 1 leaves all tokens")
        if self.top_k < 0:
            raise BadInput(f"--top-k {self.top_k}: 1 or more is wanted, or 0 for all tokens")
        if not 0 <= self.seed < 2**64:
            raise BadInput(f"--seed {self.seed}: a whole number from 0 to 2^64 - 1 is wanted")

    @property
    def likeliest(self) -> bool:
        """Whether no bits are drawn."""
        return self.greedy or self.temperature == 0


class Choice(NamedTuple):
    """A token, its log-probability by the model (nats; neither temperature nor cuts are in it), and the margin."""

    token: int
    logprob: float
    margin: float


def uniforms(seed: int, step: int, rows: int) -> np.ndarray:
    """A number in [0, 1) with 53 bits for each of the first `rows` rows at a step: float64 (rows,)."""
    key = bits.fold_in(bits.step_key(bits.key(seed), step), bits.name_word(PLACE))
    high, low = bits.draw(key, np.arange(rows, dtype=np.uint32), 2).astype(np.uint64).T
    return ((high >> np.uint64(5)) * 2.0**26 + (low >> np.uint64(6))) * (EPS["float64"] / 2)


def choose(logits: np.ndarray, drawing: Drawing, uniform: float) -> Choice:
    """The Choice among logits (V,), floats of any width. Raises TwinscaleError where one of them is not finite."""
    wide = np.asarray(logits, np.float64)
    if not np.isfinite(wide).all():
        raise TwinscaleError("the model computes logits that are not finite")
    if drawing.likeliest:
        token, second = int(np.argmax(wide)), np.partition(wide, -2)[-2] if len(wide) > 1 else -math.inf
        return Choice(token, float(log_softmax(wide)[token]), float(wide[token] - second) / 2)
    with np.errstate(over="ignore"):  # of temperatures near 0, at which all but the likeliest are as far as can be
        scaled = np.maximum((wide - wide.max()) / drawing.temperature, FARTHEST)
    left, edge = cut(scaled, drawing)
    shares = np.exp(scaled[left] - scaled[left].max())
    sums = np.cumsum(shares) / shares.sum()
    at = min(int(np.searchsorted(sums, uniform, side="right")), len(left) - 1)
    edges = [apart(sums[at - 1], uniform) if at else math.inf,
             apart(sums[at], uniform) if at < len(left) - 1 else math.inf]
    token = int(left[at])
    return Choice(token, float(log_softmax(wide)[token]), drawing.temperature * min(edge, *edges))


def cut(scaled: np.ndarray, drawing: Drawing) -> tuple[np.ndarray, float]:
    """(ids of the tokens that are left, ascending, the margin in which they stay the same) of finite logits (V,) that
    are divided by the temperature already."""
    count, edge = len(scaled), math.inf
    if not (0 < drawing.top_k < count or drawing.top_p < 1):
        return np.arange(count), edge
    order = np.argsort(-scaled, kind="stable")
    ranked = scaled[order]
    if 0 < drawing.top_k < count:
        count = drawing.top_k
        edge = (ranked[count - 1] - ranked[count]) / 2
    if drawing.top_p < 1:
        shares = np.exp(ranked[:count] - ranked[0])
        sums = np.cumsum(shares) / shares.sum()
        fewest = min(int(np.searchsorted(sums, drawing.top_p)) + 1, count)
        if fewest < count:
            edge = min(edge, (ranked[fewest - 1] - ranked[fewest]) / 2, apart(sums[fewest - 1], drawing.top_p))
        if fewest > 1:
            edge = min(edge, apart(sums[fewest - 2], drawing.top_p))
        count = fewest
    return np.sort(order[:count]), float(edge)


def apart(share: float, other: float) -> float:
    """Half the distance of two probabilities' log-odds: how far logits have to move for the one to reach the other."""
    return abs(log_odds(share) - log_odds(other)) / 2


def log_odds(share: float) -> float:
    """log(p / (1 - p)), infinite at 0 and 1."""
    if not 0 < share < 1:
        return math.copysign(math.inf, share - 0.5)
    return math.log(share) - math.log1p(-share)


def log_softmax(wide: np.ndarray) -> np.ndarray:
    """Log-probabilities of float64 logits over their last axis."""
    shifted = wide - wide.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
