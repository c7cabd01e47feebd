"""The usual causes of a parting, found by measuring: what stands between two modules, or within one.

Of a function between two modules, each side's values are held to a list of activations, to each other by a factor, and
by the order of channels; of a norm, axes and epsilon are solved for that its outputs were made with; of a convolution
the padding is found by trial; of any module, a bias that one side leaves out.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy

from twinscale.common.files.tensors import difference
from twinscale.common.pairs.program import Seen

MOST = 1 << 16  # elements of an array whose axes are tried in other orders
CLOSE = 2e-5  # of values in float32 that one function made
ACTIVATIONS = {
    "no activation": lambda x: x,
    "the exact GELU": lambda x: 0.5 * x * (1 + scipy.special.erf(x / math.sqrt(2))),
    "the tanh GELU": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "the sigmoid GELU": lambda x: x * scipy.special.expit(1.702 * x),
    "ReLU": lambda x: np.maximum(x, 0), "SiLU": lambda x: x * scipy.special.expit(x), "tanh": np.tanh,
    "sigmoid": scipy.special.expit, "ReLU6": lambda x: np.clip(x, 0, 6), "softplus": lambda x: np.logaddexp(x, 0),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    **{f"leaky ReLU of {slope}": lambda x, slope=slope: np.where(x > 0, x, slope * x) for slope in (0.01, 0.2, 0.3)}}


@np.errstate(invalid="ignore")  # of what is no number, nothing that is tried is the cause
def cause(before: tuple[Seen, Seen] | None, here: tuple[Seen, Seen] | None, tensors: Any, roles: Any,
          bound: float = 0.0) -> str:
    """A sentence on what two programs do otherwise, or "" where none of what is tried is it, or several are.

    Args:
      before: the last module that agrees, on both sides, where they part after it.
      here: the module at which they part, or before which.
      tensors: {role: array} of a module whose own outputs differ. roles: which it has.
      bound: how far rounding alone may take the programs apart, as `allowed` has it of their precision: what one
        function made is so near, or as near as in float32.
    """
    close = max(CLOSE, bound)
    if before and here:
        return _between(before, here, close)
    if here and tensors is not None:
        return _within(here, tensors, roles, close)
    return ""


def is_activated(one: Seen, other: Seen, bound: float = 0.0) -> bool:
    """Whether what one module makes is an activation of what the other makes, to within what rounding may do: a layer
    may have it within it."""
    x, y, close = np.asarray(one.outputs[0], np.float64), _aligned(one, other), max(CLOSE, bound)
    return x.shape == y.shape and bool(_activation(x, y, close) or _activation(y, x, close))


def activates(x: Any, y: Any) -> bool:
    """Whether an array is an activation of another of its shape."""
    return np.shape(x) == np.shape(y) and bool(_activation(np.asarray(x, np.float64), np.asarray(y, np.float64)))


def _aligned(one, other):
    """What the other module makes, its axes in the order in which one has them, by their inputs: an image may have its
    channels first. float64."""
    made = np.asarray(other.outputs[0], np.float64)
    if not one.inputs or not other.inputs:
        return made
    x, given = (np.asarray(of.inputs[0], np.float64) for of in (one, other))
    if not x.ndim == given.ndim == made.ndim or x.shape == given.shape or x.size > MOST:
        return made
    orders = [order for order in itertools.permutations(range(x.ndim)) if given.transpose(order).shape == x.shape]
    return made.transpose(min(orders, key=lambda order: difference(x, given.transpose(order)), default=range(x.ndim)))


@np.errstate(invalid="ignore")
def _activation(x, y, close=CLOSE):
    """The name of the activation that makes y of x, of several that are close the nearest; "" where none does."""
    return next(iter(_activations(x, y, close)), "")


def _activations(x, y, close):
    """Names of all activations that make y of x, the nearest first, as in bfloat16 GELUs do; of those that are one on
    these values, as ReLU and ReLU6 of small ones, the first."""
    names: dict[float, str] = {}
    for name, f in ACTIVATIONS.items():
        names.setdefault(difference(f(x), y), name)
    return [names[apart] for apart in sorted(names) if apart < close]


def _told_apart(one, other):
    """Whether of two sides each has its activations, and none is both's."""
    return bool(one and other) and not set(one) & set(other)


def _between(before, here, close):
    outputs = [np.asarray(of.outputs[0], np.float64) for of in before]
    inputs = [np.asarray(of.inputs[0], np.float64) for of in here]
    outputs[1], inputs[1] = _as(*outputs), _as(*inputs)
    if len({x.shape for x in (*outputs, *inputs)}) == 1:
        bare = outputs[1] if _activation(outputs[1], outputs[0], close) else outputs[0]  # a layer may have it within it
        names = [_activations(bare, x, close) for x in inputs]
        if _told_apart(*names):
            return "a applies {}, b {}.".format(*(" or ".join(several) for several in names))
        axes = [_softmax_axis(bare, x, close) for x in inputs]
        if None not in axes and axes[0] != axes[1]:
            return f"a takes a softmax over axis {axes[0]}, b over axis {axes[1]}."
    return _constant(*inputs, close) or _order(*inputs, close)


def _as(x, y):
    """y with its axes in the order of x, of which it is nearest."""
    if x.shape == y.shape or x.size != y.size or x.ndim != y.ndim or x.size > MOST:
        return y
    orders = [order for order in itertools.permutations(range(y.ndim)) if y.transpose(order).shape == x.shape]
    return min((y.transpose(order) for order in orders), key=lambda z: difference(x, z), default=y)


def _softmax_axis(x, y, close):
    return next((axis for axis in range(x.ndim)[::-1] if difference(scipy.special.softmax(x, axis), y) < close), None)


def _constant(x, y, close):
    """Whether y is x times a number, or x and a number, or each row times a number of its own."""
    if x.shape != y.shape:
        return ""
    near = min(close, difference(x, y) / 4)  # what is left, where that is what differs
    factor = float((x * y).sum() / max((x * x).sum(), 1e-300))
    if difference(factor * x, y) < near:
        return f"What b passes on is {factor:.6g} times what a does."
    shift = float((y - x).mean())
    if difference(x + shift, y) < near:
        return f"What b passes on is what a does and {shift:.6g}."
    rows = tuple(range(1, x.ndim))
    factors = (x * y).sum(rows, keepdims=True) / np.maximum((x * x).sum(rows, keepdims=True), 1e-300)
    if rows and difference(factors * x, y) < near:
        said = ", ".join(f"{factor:.4g}" for factor in factors.ravel()[:6])
        return f"What b passes on is {said} times what a does, by row."
    return ""


def _order(x, y, close):
    """Whether y has x's values of the last axis in parts that lie in another order, as of tensors that are joined."""
    if x.shape != y.shape:
        return ""
    for shift in range(1, x.shape[-1]):
        if difference(np.roll(x, -shift, -1), y) < close:
            return f"b has the first {shift} of a's {x.shape[-1]} channels last."
    return ""


def masked(one: Any, other: Any, inputs: Any, bound: float = 0.0) -> str:
    """A sentence where two arrays part in just those rows in which an input has zeros beside ones: a mask; or "".

    Args:
      one, other: what the programs have at one place, their first axis that of the batch.
      inputs: an array, a tuple, or {name: array}. bound: as `cause` has it.
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    given = inputs.items() if isinstance(inputs, Mapping) else enumerate(
        inputs if isinstance(inputs, tuple) else [inputs])
    for name, mask in given:
        mask = np.asarray(mask)
        if mask.ndim < 2 or x.shape != y.shape or x.shape[:1] != mask.shape[:1] or not np.isin(mask, (0, 1)).all():
            continue
        covered = (mask == 0).any(tuple(range(1, mask.ndim)))
        apart = np.array([difference(u, v) > max(CLOSE, bound) for u, v in zip(x, y, strict=True)])
        if covered.any() and not covered.all() and (covered == apart).all():
            return f"They differ in just those rows of the batch that {name} masks in part: how the mask is applied."
    return ""


def _within(here, tensors, roles, close):
    one, other = np.asarray(here[0].outputs[0], np.float64), _aligned(*here)
    if one.shape != other.shape:
        return ""
    if not here[0].inputs:  # of floats: a table is given ids
        return _constant(one, other, close)
    x = np.asarray(here[0].inputs[0], np.float64)
    if "scale" in roles and "kernel" not in roles:
        return _norms(x, one, other, tensors, close) or _constant(one, other, close)
    if "bias" in tensors and tensors["bias"].shape == one.shape[-1:]:
        for left, right, who in ((one, other, "b"), (other, one, "a")):
            if difference(left - tensors["bias"], right) < close:
                return f"{who} leaves out the bias."
    for left, right, who in ((one, other, "b"), (other, one, "a")):
        names = _activations(left, right, close)
        if names and "no activation" not in names:
            return f"{who} applies {' or '.join(names)} within it, the other does not."
    pads = [padding(x, y, tensors, close) for y in (one, other)] if "kernel" in tensors else [None]
    if None not in pads and pads[0] != pads[1]:
        return "Of zeros before each axis of the image a pads {}, b {}.".format(
            *(" and ".join(map(str, dict.fromkeys(pad))) for pad in pads))
    return _borders(one, other, close) or _constant(one, other, close)


def padding(x: np.ndarray, y: np.ndarray, tensors: Mapping[str, np.ndarray], close: float = CLOSE
            ) -> tuple[int, ...] | None:
    """Zeros that a convolution puts before each axis of its images, or sequences, found by trial; None where its
    outputs are none of x.

    Args:
      x, y: (rows, *places, channels), float64: inputs and outputs, before or after an activation.
      tensors: the kernel, (*window, inputs, outputs) or depthwise (*window, inputs, multiplier), and maybe a bias.
      close: what one convolution made is so near.
    """
    kernel = np.asarray(tensors["kernel"], np.float64)
    axes = kernel.ndim - 2
    if axes not in (1, 2) or x.ndim != axes + 2 or y.ndim != x.ndim or kernel.shape[axes] != x.shape[-1]:
        return None
    window, strides = kernel.shape[:axes], [round(n / m) for n, m in zip(x.shape[1:-1], y.shape[1:-1], strict=True)]
    if x.size * math.prod(window) > 1 << 22 or not all(strides):
        return None
    depthwise = y.shape[-1] != kernel.shape[-1]
    for before in itertools.product(*map(range, window)):
        wide = np.pad(x, [(0, 0), *((n, m + stride) for n, m, stride in zip(before, window, strides, strict=True)),
                          (0, 0)])
        seen = np.lib.stride_tricks.sliding_window_view(wide, window, tuple(range(1, axes + 1)))
        seen = seen[(slice(None), *(slice(None, stride * m, stride) for stride, m in
                                    zip(strides, y.shape[1:-1], strict=True)))]
        letters = "hw"[:axes]
        if seen.shape[1:axes + 1] != y.shape[1:-1]:
            continue
        made = np.einsum(f"...i{letters},{letters}io->...{'io' if depthwise else 'o'}", seen, kernel).reshape(
            *seen.shape[:axes + 1], -1)
        if made.shape == y.shape and _activation(made + np.asarray(tensors.get("bias", 0.0), np.float64), y, close):
            return before
    return None


def _norms(x, one, other, tensors, close):
    """What two norms over x do otherwise: whose statistics they take, the axes, or the epsilon."""
    taken = [_taken(x, y, tensors, close) for y in (one, other)] if "var" in tensors else []
    if all(taken) and len(set(taken)) > 1:
        return f"a takes {taken[0]}, b {taken[1]}: `training` is not passed on, or is fixed."
    found = [_norm(x, y, tensors, close) for y in (one, other)]
    if None in found:
        return ""
    (axes, centred, epsilon), (others, shifted, small) = found
    if axes != others:
        said = [f"over axes {' and '.join(map(str, these))}" if these else "by its running statistics"
                for these in (axes, others)]
        return f"a takes a norm {said[0]}, b {said[1]}."
    if centred != shifted:
        return f"{'a' if centred else 'b'} takes the mean off before it divides, the other does not."
    seen = 1e-6 if close <= CLOSE else close  # of the variance: what rounding leaves of an epsilon
    if abs(epsilon - small) > max(0.2 * max(epsilon, small), seen * float((x**2).mean())):
        return f"a divides by a root of the variance and {epsilon:.1g}, b by one with {small:.1g}."
    return ""


def _taken(x, y, tensors, close):
    """Whose statistics a batch norm has taken that makes y of x, in words; "" where neither's."""
    if _epsilon(x, y, tensors, (), close) is not None:
        return "its running statistics, as in evaluation"
    axes, own = tuple(range(x.ndim - 1)), {name: t for name, t in tensors.items() if name not in ("mean", "var")}
    found = _epsilon(x - x.mean(axes, keepdims=True), y, own, axes, close)
    return "" if found is None else "the batch's statistics, as in training"


def _norm(x, y, tensors, close):
    """(axes, whether the mean is taken off, epsilon) of a norm that makes y of x; None where none does. The last axis
    is tried first, and before it running statistics, with which there are no axes; in training nobody takes these."""
    found = _epsilon(x, y, tensors, (), close) if "var" in tensors else None
    if found is not None:
        return (), True, found
    tensors = {role: value for role, value in tensors.items() if role not in ("mean", "var")}
    several = (itertools.combinations(range(1, x.ndim), count) for count in range(1, x.ndim))
    axes = [(x.ndim - 1,), *itertools.chain(*several), (0,), tuple(range(x.ndim - 1))]
    for centred in (True, False) if "bias" in tensors else (False, True):
        for one in axes:
            found = _epsilon(x - x.mean(one, keepdims=True) if centred else x, y, tensors, one, close)
            if found is not None:
                return one, centred, found
    return None


def _epsilon(x, y, tensors, axes, close):
    """The epsilon of a norm of x over some axes, or with running statistics, by least squares of the variances that
    its outputs want; None where it is no such norm."""
    scale, bias = np.asarray(tensors["scale"], np.float64), np.asarray(tensors.get("bias", 0.0), np.float64)
    even = (y - bias) / scale
    if "var" in tensors:
        x, variance = x - tensors["mean"], np.broadcast_to(np.asarray(tensors["var"], np.float64), x.shape)
    else:
        variance = np.broadcast_to((x**2).mean(axes, keepdims=True), x.shape)
    large = np.abs(x) > np.abs(x).max() / 4
    if not large.any() or not even[large].all():
        return None
    found = float(np.median((x[large] / even[large]) ** 2 - variance[large]))
    made = x / np.sqrt(np.maximum(variance + found, 1e-300))
    return max(found, 0.0) if difference(made, even) < max(1e-3, close) and (
        found > -max(1e-4, close if close > CLOSE else 0.0) * variance.mean()) else None


def _borders(one, other, close):
    """Whether images agree but at one side, as where padding is of other values."""
    if one.ndim != 4 or min(one.shape[1:3]) < 3:
        return ""
    apart = np.abs(one - other).max((0, 3)) > close * np.abs(one).max()
    if apart.any() and not apart[1:-1, 1:-1].any():
        return "They differ at the border of the image alone: the padding."
    return ""
