"""Stochastic gradient descent, plain, with momentum, or with Nesterov's (Sutskever et al. 2013)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from twinscale.common.optimizers.base import Moved, Optimizer, OwnOptions, Slot

if TYPE_CHECKING:
    from twinscale.common.operations.references import Format


def reference(o: OwnOptions, f: "Format", t: int, d: float, w: np.ndarray, g: np.ndarray,
              held: Mapping[str, np.ndarray]) -> Moved:
    """One update in np.longdouble, as `Optimizer.reference` says."""
    momentum = np.longdouble(o.momentum)
    m, m_scale = momentum * held["m"] + g, momentum * np.abs(held["m"]) + np.abs(g)
    u, u_scale = (g + momentum * m, np.abs(g) + momentum * m_scale) if o.nesterov else (m, m_scale)
    return u + d * w, u_scale + d * np.abs(w), {"m": (m, m_scale)}


def strides(o: OwnOptions, rates: np.ndarray, noise: np.ndarray, first: np.ndarray) -> np.ndarray:
    """|u| <= |m| with |m| <= momentum |m| + |g|, and with Nesterov |g| + momentum |m|: noise stays noise."""
    found, m = [], 0.0
    for g in noise:
        m = o.momentum * m + g
        found.append(g + o.momentum * m if o.nesterov else m)
    return np.array(found)


def traits(o: OwnOptions) -> list:
    """Whether it has momentum, and whether that is Nesterov's."""
    return [*["momentum"] * (o.momentum > 0), *["Nesterov"] * o.nesterov]


SGD = Optimizer(
    "SGD", "m <- momentum m + g;  w <- w - lr (m + d w); with Nesterov g + momentum m in place of m", OwnOptions,
    lambda o: {"m": Slot("momentums", "trace")} if o.momentum else {}, reference,
    "twinscale.tfscale.optimizer:sgd", "twinscale.jaxscale.optimizer:sgd",
    eps=4.0, why="8 roundings", strides=strides, traits=traits,
    tried={"nesterov": True}, peak=0.1, choices={"nesterov": (False, True), "momentum": (0.9, 0.0)})
