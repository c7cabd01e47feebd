"""An optimizer, a schedule, a metric and an objective that Twinscale does not have. A recipe beside this file names
them theirs.py:RMSPROP, theirs.py:INVERSE_ROOT, theirs.py:BRIER and theirs.py:FOCAL.

A framework is imported where it builds something: this file is read by processes that have none.
"""

import math

import numpy as np
from pydantic import Field, PositiveInt

from twinscale.common.metrics import Metric
from twinscale.common.objectives import Objective, ObjectiveOptions
from twinscale.common.optimizers import Optimizer, Options, Slot, mixed
from twinscale.common.schedules import Schedule, ScheduleOptions
from twinscale.common.section import Fraction, Positive

# ---- an optimizer: RMSprop (Tieleman & Hinton 2012), its epsilon inside of the root


class RMSpropOptions(Options):
    """v <- rho v + (1 - rho) g^2;  w <- w - lr (g / sqrt(v + epsilon) + d w)"""

    rho: Fraction = 0.9
    epsilon: Positive = 1e-8


def rmsprop_reference(o, f, t, d, w, g, held):
    rho, epsilon = np.longdouble(o.rho), np.longdouble(o.epsilon)
    v, v_scale = mixed(held["v"], rho, g**2)
    root = np.sqrt(v + epsilon)
    loose = v_scale / (v + epsilon) / 2  # what the error of v makes of 1 / root
    return g / root + d * w, np.abs(g) / root * (1 + loose) + d * np.abs(w), {"v": (v, v_scale)}


def rmsprop_strides(o, rates, noise, first):
    """v >= (1 - rho) g^2, so |u| <= 1 / sqrt(1 - rho); and |u| <= |g| / sqrt(epsilon)."""
    return np.minimum(1 / math.sqrt(1 - o.rho), noise / math.sqrt(o.epsilon))


def keras_rmsprop(o, shared, number):
    import keras

    return keras.optimizers.RMSprop(**shared, rho=number(o.rho), epsilon=number(o.epsilon))


def optax_rmsprop(o, decay):
    import optax

    return optax.scale_by_rms(o.rho, o.epsilon), decay


RMSPROP = Optimizer(
    "RMSprop", "v <- rho v + (1 - rho) g^2;  w <- w - lr (g / sqrt(v + epsilon) + d w)", RMSpropOptions,
    lambda o: {"v": Slot("_velocities", "nu")}, rmsprop_reference, keras_rmsprop, optax_rmsprop,
    strides=rmsprop_strides, betas=lambda o: (o.rho,))


# ---- a schedule: the inverse square root of the update (Vaswani et al. 2017), from the peak on


class InverseRootOptions(ScheduleOptions):
    """sqrt(timescale / (timescale + t)), t updates after the warm-up."""

    timescale: PositiveInt = Field(100, description="updates until the rate is 1 / sqrt(2) of the peak")


def inverse_root(s, steps):
    after = np.maximum(0.0, np.arange(steps) - s.warmup)
    return np.sqrt(s.timescale / (s.timescale + after))


INVERSE_ROOT = Schedule("inverse root", inverse_root, InverseRootOptions)


# ---- a metric: the Brier score, the mean squared distance of shares from the truth (Brier 1950)


def brier_sums(xp, logits, labels, weights):
    shares = xp.exp(xp.subtract(logits, xp.max(logits, axis=-1, keepdims=True)))
    shares = xp.divide(shares, xp.sum(shares, axis=-1, keepdims=True))
    right = xp.squeeze(xp.take_along_axis(shares, xp.expand_dims(labels, -1), axis=-1), axis=-1)
    return {"squares": xp.sum(xp.multiply(weights, xp.sum(xp.square(shares), axis=-1))),
            "right": xp.sum(xp.multiply(weights, right))}


def brier(sums):
    return {"brier": 1 + (sums["squares"] - 2 * sums["right"]) / sums["weight"]}


BRIER = Metric("brier", brier_sums, brier, better={"brier": "lower"})


# ---- an objective: the focal loss (Lin et al. 2017)


class FocalOptions(ObjectiveOptions):
    """-(1 - p)^gamma log p of the label's share p"""

    gamma: Positive = Field(2.0, description="how much less a position counts that is nearly right")


def keras_focal(recipe, logits, labels):
    from keras import ops

    logged = ops.log_softmax(logits, axis=-1)
    right = ops.squeeze(ops.take_along_axis(logged, ops.expand_dims(labels, -1), axis=-1), axis=-1)
    return -((1 - ops.exp(right)) ** recipe.objective.gamma) * right


def jax_focal(recipe, logits, labels):
    import jax
    import jax.numpy as jnp

    logged = jax.nn.log_softmax(logits)
    right = jnp.take_along_axis(logged, labels[..., None], axis=-1)[..., 0]
    return -((1 - jnp.exp(right)) ** recipe.objective.gamma) * right


FOCAL = Objective("focal", "-(1 - p)^gamma log p of the label's share p", keras_focal, jax_focal, FocalOptions)
