"""AdamW (Loshchilov & Hutter 2019, "Decoupled weight decay regularization")."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from twinscale.common.optimizers.base import Moved, Optimizer, OwnOptions, Slot, bias_correction, mixed

if TYPE_CHECKING:
    from twinscale.common.operations.references import Format


def reference(o: OwnOptions, f: "Format", t: int, d: float, w: np.ndarray, g: np.ndarray,
              held: Mapping[str, np.ndarray]) -> Moved:
    """One update in np.longdouble, as `Optimizer.reference` says."""
    beta1, beta2, epsilon = (np.longdouble(value) for value in (o.beta1, o.beta2, o.epsilon))
    m, m_scale = mixed(held["m"], beta1, g)
    v, v_scale = mixed(held["v"], beta2, g**2)
    (c1, loose1), (c2, loose2) = bias_correction(beta1, t), bias_correction(beta2, t)
    root = np.sqrt(v / c2) + epsilon
    u, u_scale = m / c1 / root + d * w, m_scale / c1 / root * (1 + loose1 + loose2 / 2) + d * np.abs(w)
    return u, u_scale, {"m": (m, m_scale), "v": (v, v_scale)}


def strides(o: OwnOptions, rates: np.ndarray, noise: np.ndarray, first: np.ndarray) -> np.ndarray:
    """|u| <= (1 - b1) / (1 - b1^t) sqrt((1 - b2^t) / (1 - b2) sum_{k<t} (b1^2 / b2)^k): Cauchy and Schwarz on
    m = (1 - b1) sum b1^(t-i) g_i and v = (1 - b2) sum b2^(t-i) g_i^2, and gradients that reach it exist; 1 at the first
    update. (Kingma & Ba 2015, section 2.1, bound it by max(1, (1 - b1) / sqrt(1 - b2)), which is this sum's first term,
    of gradients that come once.) And |u| <= max |g| / epsilon, for m / (1 - b1^t) is a mean of g."""
    found, total = [], 0.0
    for t in range(1, len(rates) + 1):
        if o.beta2:
            total = total * o.beta1**2 / o.beta2 + 1
        elif o.beta1 and t > 1:  # the root is of the last gradient alone, the mean is not
            total = math.inf
        else:
            total = 1.0
        found.append((1 - o.beta1) / (1 - o.beta1**t) * math.sqrt((1 - o.beta2**t) / (1 - o.beta2) * total))
    return np.minimum(found, np.maximum.accumulate(noise) / o.epsilon)


def slots(o: OwnOptions) -> dict:
    """Both moments."""
    return {"m": Slot("_momentums", "mu"), "v": Slot("_velocities", "nu")}


def betas(o: OwnOptions) -> tuple[float, float]:
    """Of both moments."""
    return o.beta1, o.beta2


ADAMW = Optimizer(
    "AdamW", """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  (Loshchilov & Hutter 2019)
       w <- w - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + d w)""",
    OwnOptions, slots, reference, "twinscale.tfscale.optimizer:adamw", "twinscale.jaxscale.optimizer:adamw",
    strides=strides, betas=betas)
