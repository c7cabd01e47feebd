"""How far two backends may part along a null direction: a tensor whose gradient is zero in exact arithmetic, as that of
an attention key's bias is (it moves all scores of a row alike, and a softmax sees none of it). What either backend has
in that gradient's place is rounding of its own, and an optimizer may make strides of it.

The least that is known of noise g bounds each update u per unit of learning rate, whatever the noise is:

  lion   |u| <= 1: a sign
  adamw  |u| <= (1 - b1) / (1 - b1^t) sqrt((1 - b2^t) / (1 - b2) sum_{k<t} (b1^2 / b2)^k): Cauchy and Schwarz on
         m = (1 - b1) sum b1^(t-i) g_i and v = (1 - b2) sum b2^(t-i) g_i^2, and gradients that reach it exist; 1 at the
         first update. (Kingma & Ba 2015, section 2.1, bound it by max(1, (1 - b1) / sqrt(1 - b2)), which is this sum's
         first term, of gradients that come once.) And |u| <= max |g| / epsilon, for m / (1 - b1^t) is a mean of g.
  lamb   |u| <= |w|, the tensor's norm, by the trust ratio, decay included; adamw's where |w| is 0. So |w| grows by a
         factor of 1 + lr at most, or was 0 and is lr sqrt(n) of adamw's at most, n elements.
  sgd    |u| <= |m| with |m| <= momentum |m| + |g|, and with Nesterov |g| + momentum |m|: noise stays noise

Two walks part by twice that a step, and decay, which draws both to zero alike, shrinks what lies between them by
|1 - lr d|. An average of the weights lies between them, and parts no further; a slot m is such a mean of noise itself.

Clipping scales noise as all else. How large noise is follows from P2: no more than 16 sqrt(N) eps of the largest
gradient, N being the longest sum of a step (Higham & Mary 2019); here of the largest norm so far, as what cancels in a
gradient late in a training does not cancel in its rounding.
"""

import math

import numpy as np

from twinscale.common.errors import one_of
from twinscale.common.formats import EPS
from twinscale.common.parameters import is_decayed

ANY = 1e200  # noise of any size: of what bounds an update without it, the bound is the same


def parting(optimizer, rates, noise, name, first):
    """The furthest that two walks of rounding noise from the same start may part, element by element.

    Args:
      optimizer: the recipe's section.
      rates: learning rates of the updates (T,).
      noise: the largest |g| of the tensor at each update, after clipping (T,).
      name: the tensor's canonical name; first: its first value.
    Returns: the distance after T updates; infinite where nothing bounds an update.
    """
    decay = optimizer.weight_decay * is_decayed(name)
    strides = one_of(STRIDES, optimizer.name, "optimizer.name")
    updates = strides(optimizer, np.asarray(rates), np.asarray(noise), np.asarray(first, np.float64))
    within = 0.0 if optimizer.name == "lamb" else decay  # LAMB's strides have their decay in them
    apart, reach = 0.0, float(np.abs(first).max(initial=0.0))
    for rate, update in zip(rates, updates, strict=True):
        apart = abs(1 - rate * within) * apart + 2 * rate * update
        reach += rate * (update + within * reach)
    return apart + 8 * len(rates) * EPS["float64"] * reach  # and each update's own rounding, as P3 has it


def lion(o, rates, noise, first):
    return np.ones(len(rates))


def sgd(o, rates, noise, first):
    found, m = [], 0.0
    for g in noise:
        m = o.momentum * m + g
        found.append(g + o.momentum * m if o.nesterov else m)
    return np.array(found)


def adamw(o, rates, noise, first):
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


def lamb(o, rates, noise, first):
    found, norm = [], float(np.linalg.norm(first))
    for rate, update in zip(rates, adamw(o, rates, noise, first), strict=True):
        found.append(max(update, norm))
        norm = max(norm * (1 + rate), rate * update * math.sqrt(first.size))
    return np.array(found)


STRIDES = {"adamw": adamw, "lamb": lamb, "lion": lion, "sgd": sgd}  # the largest |u| of an element at each update


def noise_of(optimizer, norms, relative):
    """The largest |g| of a null direction at each update, after clipping.

    Args:
      norms: of the gradients before clipping (T,). relative: rounding of a gradient against the largest one.
    """
    norms = np.asarray(norms, np.float64)
    clipped = np.minimum(1, optimizer.clip_norm / np.maximum(norms, 1e-300)) if optimizer.clip_norm else 1.0
    return relative * np.maximum.accumulate(norms) * clipped
