"""How far two backends may part along a null direction: a tensor whose gradient is zero in exact arithmetic, as that of
an attention key's bias is (it moves all scores of a row alike, and a softmax sees none of it). What either backend has
in that gradient's place is rounding of its own, and an optimizer may make strides of it.

The least that is known of noise g bounds each update u per unit of learning rate, whatever the noise is: an optimizer's
`strides` of `common/optimizers/` say by how much, and why.

Two walks part by twice that a step, and decay, which draws both to zero alike, shrinks what lies between them by
|1 - lr d|. An average of the weights lies between them, and parts no further; a slot m is such a mean of noise itself.

Clipping scales noise as all else. How large noise is follows from P2: no more than 16 sqrt(N) eps of the largest
gradient, N being the longest sum of a step (Higham & Mary 2019); here of the largest norm so far, as what cancels in a
gradient late in a training does not cancel in its rounding.
"""

from typing import Any

import numpy as np

from twinscale.common.families.parameters import is_decayed
from twinscale.common.numbers.formats import EPS
from twinscale.common.optimizers import described

ANY = 1e200  # noise of any size: of what bounds an update without it, the bound is the same


def parting(optimizer: Any, rates: np.ndarray, noise: np.ndarray, name: str, first: np.ndarray) -> float | None:
    """The furthest that two walks of rounding noise from the same start may part, element by element.

    Args:
      optimizer: the recipe's section.
      rates: learning rates of the updates (T,).
      noise: the largest |g| of the tensor at each update, after clipping (T,).
      name: the tensor's canonical name; first: its first value.
    Returns: the distance after T updates; infinite where nothing bounds an update, None where the optimizer's strides
      are not known.
    """
    decay = optimizer.weight_decay * is_decayed(name)
    kind = described(optimizer)
    if kind.strides is None:
        return None
    updates = kind.strides(optimizer, np.asarray(rates), np.asarray(noise), np.asarray(first, np.float64))
    within = 0.0 if kind.decays_inside else decay
    apart, reach = 0.0, float(np.abs(first).max(initial=0.0))
    for rate, update in zip(rates, updates, strict=True):
        apart = abs(1 - rate * within) * apart + 2 * rate * update
        reach += rate * (update + within * reach)
    return apart + 8 * len(rates) * EPS["float64"] * reach  # and each update's own rounding, as P3 has it


def noise_of(optimizer: Any, norms: np.ndarray, relative: float) -> np.ndarray:
    """The largest |g| of a null direction at each update, after clipping.

    Args:
      norms: of the gradients before clipping (T,). relative: rounding of a gradient against the largest one.
    """
    norms = np.asarray(norms, np.float64)
    clipped = np.minimum(1, optimizer.clip_norm / np.maximum(norms, 1e-300)) if optimizer.clip_norm else 1.0
    return relative * np.maximum.accumulate(norms) * clipped
