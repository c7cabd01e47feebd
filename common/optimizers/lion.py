"""Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms")."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from twinscale.common.optimizers.base import Moved, Optimizer, OwnOptions, Slot, mixed

if TYPE_CHECKING:
    from twinscale.common.operations.references import Format


def reference(o: OwnOptions, f: "Format", t: int, d: float, w: np.ndarray, g: np.ndarray,
              held: Mapping[str, np.ndarray]) -> Moved:
    """One update in np.longdouble, as `Optimizer.reference` says; the scale of a sign that rounding
    decides is infinite."""
    beta1, beta2, m = np.longdouble(o.beta1), np.longdouble(o.beta2), held["m"]
    c, c_scale = beta1 * m + (1 - beta1) * g, beta1 * f.size(m) + (1 - beta1) * f.size(g)
    u, unsure = np.sign(c) + d * w, (np.abs(c) <= 4 * f.eps * c_scale) & ((m != 0) | (g != 0))
    return u, np.where(unsure, np.inf, 1) + d * np.abs(w), {"m": mixed(m, beta2, g)}


def strides(o: OwnOptions, rates: np.ndarray, noise: np.ndarray, first: np.ndarray) -> np.ndarray:
    """|u| <= 1: a sign."""
    return np.ones(len(rates))


def signs(o: OwnOptions, held: Mapping[str, np.ndarray], g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of beta1 m + (1 - beta1) g."""
    old, new = o.beta1 * held["m"], (1 - o.beta1) * g
    return np.abs(old + new), np.abs(old) + np.abs(new)


LION = Optimizer(
    "Lion", "w <- w - lr (sign(b1 m + (1 - b1) g) + d w);  m <- b2 m + (1 - b2) g  (Chen et al. 2023)", OwnOptions,
    lambda o: {"m": Slot("_momentums", "mu")}, reference,
    "twinscale.tfscale.optimizer:lion", "twinscale.jaxscale.optimizer:lion",
    eps=4.0, why="8 roundings", strides=strides, betas=lambda o: (o.beta1, o.beta2), signs=signs,
    tried={"beta2": 0.99}, peak=1e-3)
