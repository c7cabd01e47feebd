"""Causes that are measured: what was planted between two modules, or within one, is what is said."""

import numpy as np
import pytest

from twinscale.common.pairs.causes import ACTIVATIONS, cause, is_activated
from twinscale.common.pairs.program import Seen

RNG = np.random.default_rng(0)
X, SCALE, BIAS = 4 * RNG.normal(size=(4, 16)), RNG.normal(1, 0.3, 16), RNG.normal(size=16)


def seen(inputs, outputs=X):
    return Seen("here", (np.asarray(inputs, np.float32),), (np.asarray(outputs, np.float32),))


def between(one, other):
    return cause((seen(X, X), seen(X, X)), (seen(one), seen(other)), None, None)


def within(one, other, x=X, **tensors):
    return cause(None, (seen(x, one), seen(x, other)), tensors, set(tensors))


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "ReLU"])
def test_activations_are_told_apart(name):
    said = between(ACTIVATIONS["ReLU"](X), ACTIVATIONS[name](X))
    assert said == f"a applies ReLU, b {name}."


def test_an_activation_that_one_layer_has_within_it_is_seen_through():
    gelu, tanh = ACTIVATIONS["the exact GELU"](X), ACTIVATIONS["the tanh GELU"](X)
    one, other = seen(X, gelu), seen(X, X)
    assert is_activated(one, other) and is_activated(other, one) and not is_activated(seen(X, gelu), seen(X, tanh))
    assert cause((one, other), (seen(gelu), seen(tanh)), None, None) == "a applies the exact GELU, b the tanh GELU."


def test_a_factor_and_a_shift_are_measured():
    y = RNG.normal(size=X.shape)
    assert between(y, 0.125 * y) == "What b passes on is 0.125 times what a does."
    assert between(y, y + 2) == "What b passes on is what a does and 2."
    assert between(y, RNG.normal(size=X.shape)) == ""


def layer_norm(x, epsilon):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * SCALE + BIAS


def rms_norm(x, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * SCALE


def batch_norm(x, epsilon):
    return (x - BIAS / 2) / np.sqrt(SCALE**2 + epsilon) * SCALE + BIAS


@pytest.mark.parametrize("norm, tensors", [
    (layer_norm, {"scale": SCALE, "bias": BIAS}), (rms_norm, {"scale": SCALE}),
    (batch_norm, {"scale": SCALE, "bias": BIAS, "mean": BIAS / 2, "var": SCALE**2})])
def test_the_epsilon_of_a_norm_is_solved_for(norm, tensors):
    said = within(norm(X, 1e-3), norm(X, 1e-5), **tensors)
    assert said == "a divides by a root of the variance and 0.001, b by one with 1e-05."


def test_a_bias_that_is_left_out_and_padding_are_said():
    y, kernel = RNG.normal(size=(4, 16)), RNG.normal(size=(16, 16))
    assert within(y + BIAS, y, kernel=kernel, bias=BIAS) == "b leaves out the bias."
    assert within(y, y + BIAS, kernel=kernel, bias=BIAS) == "a leaves out the bias."
    image = RNG.normal(size=(2, 5, 5, 3))
    other = image.copy()
    other[:, 0] += 1
    assert "the padding" in within(image, other, x=image, kernel=kernel)
