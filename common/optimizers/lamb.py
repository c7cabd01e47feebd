"""LAMB (You et al. 2020, "Large batch optimization for deep learning", algorithm 2)."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from twinscale.common.numbers.formats import walk
from twinscale.common.optimizers import adamw
from twinscale.common.optimizers.base import Moved, Optimizer, OwnOptions

if TYPE_CHECKING:
    from twinscale.common.operations.references import Format


def reference(o: OwnOptions, f: "Format", t: int, d: float, w: np.ndarray, g: np.ndarray,
              held: Mapping[str, np.ndarray]) -> Moved:
    """adamw's update, times the trust ratio; as `Optimizer.reference` says."""
    u, u_scale, moved = adamw.reference(o, f, t, d, w, g, held)
    w_norm, u_norm = f.norm([w]), f.norm([u])
    if w_norm > 0 and u_norm > 0:
        u_scale = u_scale + np.abs(u) * (1 + np.sqrt((u_scale**2).sum() / (u**2).sum()))
        u, u_scale = u * w_norm / u_norm, u_scale * w_norm / u_norm
    return u, u_scale, moved


def strides(o: OwnOptions, rates: np.ndarray, noise: np.ndarray, first: np.ndarray) -> np.ndarray:
    """|u| <= |w|, the tensor's norm, by the trust ratio, decay included; adamw's where |w| is 0. So |w| grows by a
    factor of 1 + lr at most, or was 0 and is lr sqrt(n) of adamw's at most, n elements."""
    found, norm = [], float(np.linalg.norm(first))
    for rate, update in zip(rates, adamw.strides(o, rates, noise, first), strict=True):
        found.append(max(update, norm))
        norm = max(norm * (1 + rate), rate * update * math.sqrt(first.size))
    return np.array(found)


LAMB = Optimizer(
    "LAMB", """u = the bracket of adamw;  w <- w - lr u |w| / |u|, the ratio 1 where a norm is 0, each norm over one
       canonical tensor  (You et al. 2020)""",
    OwnOptions, adamw.slots, reference, "twinscale.tfscale.optimizer:lamb", "twinscale.jaxscale.optimizer:lamb",
    eps=8 + walk(128) + 2, why="as adamw, and two norms of half of walk(128)",
    strides=strides, decays_inside=True, betas=adamw.betas)
