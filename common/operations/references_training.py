"""What the loss, dropout, clipping and the optimizers should give; see `common/operations/references.py`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.families.parameters import is_decayed
from twinscale.common.numbers.bits import draw, fold_in, keep_below, name_word
from twinscale.common.operations.references import (
    BIAS,
    CLASSES,
    CLIP,
    KERNEL,
    MLP,
    PLACE,
    RATE,
    WIDTH,
    T,
    Wide,
    moment_of,
    recipe_of,
    trial_of,
)
from twinscale.common.optimizers import described

if TYPE_CHECKING:
    from twinscale.common.operations.references import Format


def losses_of(f: "Format", logits: Any, labels: Any, smoothing: Any, z_loss: Any) -> tuple:
    """(losses, their scale, logsumexp, its scale, shares, their scale) of logits (..., V). A loss cannot be better
    than logits are: that of the label, and by their shares all others; smoothing and z-loss read logsumexp itself."""
    top = logits.max(-1, keepdims=True)
    total = np.exp(logits - top).sum(-1, keepdims=True)
    shares, total = np.exp(logits - top) / total, (top + np.log(total))
    label = np.take_along_axis(logits, labels[..., None], -1)
    total_scale = (shares * np.abs(logits)).sum(-1, keepdims=True) + np.abs(top) + np.log(Wide(CLASSES))
    values = (1 - smoothing) * (total - label) + smoothing * (total - logits.mean(-1, keepdims=True))
    scale = total_scale + (1 - smoothing) * np.abs(label) + smoothing * np.abs(logits).mean(-1, keepdims=True)
    loose = np.abs(logits - top)
    shares_scale = shares * (1 + loose + (shares * loose).sum(-1, keepdims=True))
    return ((values + z_loss * total**2)[..., 0], (scale + 2 * z_loss * np.abs(total) * total_scale
                                                   + z_loss * total**2)[..., 0],
            total, total_scale, shares, shares_scale)


def loss(f: "Format", logits: Any, labels: Any, weights: Any) -> list:
    """The weighted sum of cross-entropies."""
    values, scale, *_ = losses_of(f, logits, labels, Wide(0), Wide(0))
    return [((weights * values).sum(), (weights * scale).sum())]


def loss_gradient(smoothing: float = 0.0, z_loss: float = 0.0) -> Callable[..., list]:
    """By the logits, and by the weights, which is each position's loss."""
    def reference(f, logits, labels, weights, dy):
        s, z = Wide(smoothing), Wide(z_loss)
        values, scale, total, total_scale, shares, shares_scale = losses_of(f, logits, labels, s, z)
        target = (1 - s) * np.eye(CLASSES, dtype=Wide)[labels] + s / CLASSES
        dx = shares - target + 2 * z * total * shares
        # A term that vanishes may come as 1 - share: no better than 1.
        dx_scale = shares_scale + target + 2 * z * (np.abs(total) * shares_scale + total_scale * shares)
        return [(weights[..., None] * dx, weights[..., None] * dx_scale), (values, scale)]

    return reference


def dropout(f: "Format", x: Any, row: Any, key: Any) -> list:
    """x with some elements 0, the others larger by 1 / (1 - RATE)."""
    bits = draw(fold_in(key, name_word(PLACE)), row, T * WIDTH).reshape(x.shape)
    return [(np.where(bits >> 9 < keep_below(RATE), x / (1 - Wide(RATE)), 0), np.abs(x) / (1 - RATE))]


def clip(f: "Format", *gradients: Any) -> list:
    """Gradients whose norm together is at most the limit, and what it was."""
    total = f.norm(gradients)
    by = np.minimum(Wide(1), Wide(CLIP) / total) if total else Wide(1)
    return [(g * by, np.abs(g) * by) for g in gradients] + [(total, total)]


def optimizer(name: str) -> Callable[..., list]:
    """One update as an Optimizer has it, the weights' average after it. Outputs, for the kernel and then the bias:
    weight, slots, average."""
    o = recipe_of("float64", MLP, optimizer=trial_of(name)).optimizer
    kind, rate, decay, ema = described(o), Wide(o.learning_rate), Wide(o.weight_decay), Wide(o.ema)

    def reference(f, kernel, bias, done):
        found = []
        for tensor, (w, g, *moments, a) in ((KERNEL, kernel), (BIAS, bias)):
            held = {slot: moments[moment_of(slot)] for slot in kind.slots(o)}
            u, u_scale, slots = kind.reference(o, f, int(done) + 1, decay * is_decayed(tensor), w, g, held)
            w, w_scale = w - rate * u, np.abs(w) + rate * u_scale
            average = ema * a + (1 - ema) * w, ema * np.abs(a) + (1 - ema) * w_scale
            found += [(w, w_scale), *(slots[slot] for slot in held), average]
        return found

    return reference
