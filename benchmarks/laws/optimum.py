"""The sizes and tokens that a law of N and D advises for a budget of 6 N D operations (Kaplan et al. 2020)."""

import numpy as np

from twinscale.benchmarks.laws.curves import predicted
from twinscale.benchmarks.laws.forms import Form

CLOSED = "chinchilla"  # the form whose optimum is an equation
STEPS = 80  # of a golden section, which narrows the span of log N to 1e-13


def optimum(form: Form, public_BxP: np.ndarray, flops: float) -> dict[str, np.ndarray]:
    """{"N", "D", "ratio" (D / N), "loss"}: (B,) of laws of written parameters, at the least loss for 6 N D = `flops`.

    The chinchilla form's is Hoffmann et al. 2022, equation 4; another's is found by a golden section over log N, of
    data that are never repeated, dense weights and 32 bits.
    """
    if form.name == CLOSED:
        alpha, beta, A, B, _ = public_BxP.T
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            size = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
    else:
        size = _sought(form, public_BxP, flops)
    tokens = flops / 6 / size
    return {"N": size, "D": tokens, "ratio": tokens / size, "loss": loss_at(form, public_BxP, size, tokens)}


def loss_at(form: Form, public_BxP: np.ndarray, size_B: np.ndarray, tokens_B: np.ndarray) -> np.ndarray:
    """(B,): what each of B laws predicts for its own size and tokens."""
    return predicted(form, public_BxP, at(size_B[:, None], tokens_B[:, None]))[:, 0]


def at(size: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of dense runs whose tokens are all different, each of one shape."""
    return {"N": size, "D": tokens, "C": 6 * size * tokens, "unique_D": tokens, "bits": np.full(size.shape, 32.0),
            "sparsity": np.zeros(size.shape)}


def _sought(form, public_BxP, flops):
    """(B,) sizes of the least loss."""
    middle = 0.5 * np.log(flops / 6)
    low, high = np.full(len(public_BxP), middle - 15), np.full(len(public_BxP), middle + 15)
    inner = (np.sqrt(5) - 1) / 2
    for _ in range(STEPS):
        left, right = high - inner * (high - low), low + inner * (high - low)
        below = _along(form, public_BxP, left, flops) < _along(form, public_BxP, right, flops)
        high, low = np.where(below, right, high), np.where(below, low, left)
    return np.exp((low + high) / 2)


def _along(form, public_BxP, logs_B, flops):
    size = np.exp(logs_B)
    return loss_at(form, public_BxP, size, flops / 6 / size)
