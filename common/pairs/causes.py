"""The usual causes of a parting, found by measuring: what stands between two modules, or within one.

Of a function between two modules, each side's values are held to a list of activations; of a norm, the epsilon is
solved for that its outputs were made with; of any module, a bias that one side leaves out.
"""

import math
from typing import Any

import numpy as np
import scipy

from twinscale.common.files.tensors import difference
from twinscale.common.pairs.program import Seen

CLOSE = 2e-5  # of values in float32 that one function made
ACTIVATIONS = {
    "the exact GELU": lambda x: 0.5 * x * (1 + scipy.special.erf(x / math.sqrt(2))),
    "the tanh GELU": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "the sigmoid GELU": lambda x: x * scipy.special.expit(1.702 * x),
    "ReLU": lambda x: np.maximum(x, 0), "SiLU": lambda x: x * scipy.special.expit(x), "tanh": np.tanh,
    "sigmoid": scipy.special.expit, "ReLU6": lambda x: np.clip(x, 0, 6), "softplus": lambda x: np.logaddexp(x, 0),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    **{f"leaky ReLU of {slope}": lambda x, slope=slope: np.where(x > 0, x, slope * x) for slope in (0.01, 0.2, 0.3)},
    "no activation": lambda x: x}


def cause(before: tuple[Seen, Seen] | None, here: tuple[Seen, Seen] | None, tensors: Any, roles: Any) -> str:
    """A sentence on what two programs do otherwise, or "" where none of what is tried is it.

    Args:
      before: the last module that agrees, on both sides, where they part after it.
      here: the module at which they part, or before which.
      tensors: {role: array} of a module whose own outputs differ. roles: which it has.
    """
    if before and here:
        return _between(before, here)
    if here and tensors is not None:
        return _within(here, tensors, roles)
    return ""


def is_activated(one: Seen, other: Seen) -> bool:
    """Whether what one module makes is an activation of what the other makes: a layer may have it within it."""
    x, y = (np.asarray(of.outputs[0], np.float64) for of in (one, other))
    return x.shape == y.shape and bool(_activation(x, y) or _activation(y, x))


def _activation(x, y):
    """The name of the activation that makes y of x; "" where none does."""
    return next((name for name, f in ACTIVATIONS.items() if difference(f(x), y) < CLOSE), "")


def _between(before, here):
    outputs = [np.asarray(of.outputs[0], np.float64) for of in before]
    inputs = [np.asarray(of.inputs[0], np.float64) for of in here]
    if len({x.shape for x in (*outputs, *inputs)}) == 1:
        bare = outputs[1] if _activation(outputs[1], outputs[0]) else outputs[0]  # a layer may have it within it
        names = [_activation(bare, x) for x in inputs]
        if all(names) and names[0] != names[1]:
            return f"a applies {names[0]}, b {names[1]}."
    x, y = (np.asarray(of.inputs[0], np.float64) for of in here)
    if x.shape == y.shape:
        return _constant(x, y)
    return ""


def _constant(x, y):
    """Whether y is x times a number, or x and a number."""
    factor = float((x * y).sum() / max((x * x).sum(), 1e-300))
    if difference(factor * x, y) < CLOSE:
        return f"What b passes on is {factor:.6g} times what a does."
    shift = float((y - x).mean())
    if difference(x + shift, y) < CLOSE:
        return f"What b passes on is what a does and {shift:.6g}."
    return ""


def _within(here, tensors, roles):
    x, (one, other) = np.asarray(here[0].inputs[0], np.float64), (np.asarray(of.outputs[0], np.float64) for of in here)
    if one.shape != other.shape:
        return ""
    if "scale" in roles and "kernel" not in roles:
        found = [_epsilon(x, y, tensors) for y in (one, other)]
        if all(value is not None for value in found) and not math.isclose(*found, rel_tol=0.2):
            return f"a divides by a root of the variance and {found[0]:.1g}, b by one with {found[1]:.1g}."
    if "bias" in tensors and tensors["bias"].shape == one.shape[-1:]:
        for left, right, who in ((one, other, "b"), (other, one, "a")):
            if difference(left - tensors["bias"], right) < CLOSE:
                return f"{who} leaves out the bias."
    for name, f in ACTIVATIONS.items():
        for left, right, who in ((one, other, "b"), (other, one, "a")):
            if name != "no activation" and difference(f(left), right) < CLOSE:
                return f"{who} applies {name} within it, the other does not."
    borders = _borders(one, other)
    return borders or _constant(one, other)


def _epsilon(x, y, tensors):
    """The epsilon of a norm over the last axis, or over all others with running statistics, by least squares of the
    variances that its outputs want; None where it is no such norm."""
    scale, bias = np.asarray(tensors["scale"], np.float64), np.asarray(tensors.get("bias", 0.0), np.float64)
    even = (y - bias) / scale
    if "var" in tensors:
        x, variance = x - tensors["mean"], np.broadcast_to(np.asarray(tensors["var"], np.float64), x.shape)
    elif "bias" in tensors:
        x, variance = x - x.mean(-1, keepdims=True), np.broadcast_to(x.var(-1, keepdims=True), x.shape)
    else:
        variance = np.broadcast_to((x**2).mean(-1, keepdims=True), x.shape)
    large = np.abs(x) > np.abs(x).max() / 4
    wanted = (x[large] / even[large]) ** 2 - variance[large]
    found = float(np.median(wanted))
    made = x / np.sqrt(np.maximum(variance + found, 1e-300))
    return found if difference(made, even) < 1e-3 and found > 0 else None


def _borders(one, other):
    """Whether images agree but at one side, as where padding is added before or after."""
    if one.ndim != 4 or min(one.shape[1:3]) < 3:
        return ""
    apart = np.abs(one - other).max((0, 3)) > CLOSE * np.abs(one).max()
    if apart.any() and not apart[1:-1, 1:-1].any():
        return "They differ at the border of the image alone: the padding."
    return ""
