"""Causes that are measured: what was planted between two modules, or within one, is what is said."""

import numpy as np
import pytest

from twinscale.common.pairs.causes import ACTIVATIONS, cause, is_activated, masked, padding
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


def test_a_table_is_given_no_floats():
    one, other = (Seen("table", (), (y,)) for y in (X, 1.5 * X))
    assert cause(None, (one, other), {"embedding": X}, {"embedding"}) == "What b passes on is 1.5 times what a does."
    assert cause(None, (one, Seen("table", (), (BIAS + X,))), {"embedding": X}, {"embedding"}) == ""


def test_a_factor_and_a_shift_are_measured():
    y = RNG.normal(size=X.shape)
    assert between(y, 0.125 * y) == "What b passes on is 0.125 times what a does."
    assert between(y, y + 2) == "What b passes on is what a does and 2."
    assert between(y, RNG.normal(size=X.shape)) == ""
    assert between(y, y * (1 + 1e-6 * np.sign(y))) == ""  # nearer than that is not what stands there


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


def test_a_batch_norm_in_training_takes_the_statistics_of_the_batch():
    def trained(x, epsilon):
        return (x - x.mean(0)) / np.sqrt(x.var(0) + epsilon) * SCALE + BIAS

    tensors = {"scale": SCALE, "bias": BIAS, "mean": BIAS / 2, "var": SCALE**2}
    assert within(trained(X, 1e-1), trained(X, 1e-5), **tensors) == (
        "a divides by a root of the variance and 0.1, b by one with 1e-05.")



def test_a_bias_that_is_left_out_and_padding_are_said():
    y, kernel = RNG.normal(size=(4, 16)), RNG.normal(size=(16, 16))
    assert within(y + BIAS, y, kernel=kernel, bias=BIAS) == "b leaves out the bias."
    assert within(y, y + BIAS, kernel=kernel, bias=BIAS) == "a leaves out the bias."
    image = RNG.normal(size=(2, 5, 5, 3))
    other = image.copy()
    other[:, 0] += 1
    assert "the padding" in within(image, other, x=image, kernel=kernel)


def conv(x, kernel, before, stride, depthwise=False):
    """Of places written out, so many zeros before each axis."""
    size, places = len(kernel), x.shape[1] // stride
    x = np.pad(x, ((0, 0), (before, size + stride), (before, size + stride), (0, 0)))
    windows = [[x[:, i * stride:i * stride + size, j * stride:j * stride + size] for j in range(places)]
               for i in range(places)]
    made = [[np.einsum("bhwi,hwio->bio" if depthwise else "bhwi,hwio->bo", one, kernel) for one in row]
            for row in windows]
    return np.stack([np.stack(row, 1) for row in made], 1).reshape(len(x), places, places, -1)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_zeros_before_an_image_are_found_by_trial(stride, depthwise):
    x, kernel = RNG.normal(size=(2, 6, 6, 3)), RNG.normal(size=(3, 3, 3, 1 if depthwise else 4))
    made = {before: conv(x, kernel, before, stride, depthwise) for before in (0, 1)}
    assert [padding(x, np.maximum(y, 0), {"kernel": kernel}) for y in made.values()] == [(0, 0), (1, 1)]
    assert within(made[0], made[1], x=x, kernel=kernel) == "Of zeros before each axis of the image a pads 0, b 1."
    assert padding(x, made[0][..., ::-1] ** 2, {"kernel": kernel}) is None


def test_channels_that_come_first_are_turned_before_anything_is_measured():
    x, kernel = RNG.normal(size=(2, 6, 6, 3)), RNG.normal(size=(3, 3, 3, 4))
    one, other = conv(x, kernel, 0, 1), conv(x, kernel, 1, 1).transpose(0, 3, 1, 2)
    here = seen(x, one), seen(x.transpose(0, 3, 1, 2), other)
    assert "a pads 0, b 1" in cause(None, here, {"kernel": kernel}, {"kernel"})
    assert is_activated(seen(x, one), seen(x.transpose(0, 3, 1, 2), np.maximum(one, 0).transpose(0, 3, 1, 2)))


def test_axes_of_norms_and_of_a_softmax_are_told_apart():
    x = RNG.normal(size=(3, 5, 16))
    whole = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-6) * SCALE + BIAS
    said = within(layer_norm(x, 1e-6), whole, x=x, scale=SCALE, bias=BIAS)
    assert said == "a takes a norm over axes 2, b over axes 1 and 2."
    centred = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * SCALE
    assert within(rms_norm(x, 1e-6), centred, x=x, scale=SCALE).startswith("b takes the mean off")
    shares = [np.exp(x) / np.exp(x).sum(axis, keepdims=True) for axis in (0, 2)]
    said = cause((seen(x, x), seen(x, x)), (seen(shares[1]), seen(shares[0])), None, None)
    assert said == "a takes a softmax over axis 2, b over axis 0."


def test_an_epsilon_that_is_next_to_nothing_is_one():
    x = X.repeat(8, 0)
    said = within(layer_norm(x, 1e-12), layer_norm(x, 1e-3), x=x, scale=SCALE, bias=BIAS)
    assert said.startswith("a divides by a root of the variance and ") and said.endswith("b by one with 0.001.")


def test_factors_by_row_and_channels_in_another_order_are_said():
    y = RNG.normal(size=(3, 5, 6))
    rows = np.array([1.0, 0.5, 0.25])[:, None, None]
    assert between(y, rows * y) == "What b passes on is 1, 0.5, 0.25 times what a does, by row."
    assert between(y, np.roll(y, -2, -1)) == "b has the first 2 of a's 6 channels last."


def test_rows_that_a_mask_covers_in_part_are_told():
    mask = np.ones((3, 4))
    mask[1, 2:] = 0
    x = RNG.normal(size=(3, 4, 2))
    other = x + (np.arange(3) == 1)[:, None, None]
    assert "rows of the batch that valid masks in part" in masked(x, other, {"ids": x, "valid": mask})
    assert masked(x, x + 1, {"valid": mask}) == "" and masked(x, other, (x, 1 - mask)) == ""


def test_what_is_close_follows_the_precision_and_activations_that_rounding_hides_are_all_named():
    def said(one, other, bound):
        return cause((seen(X, X), seen(X, X)), (seen(one), seen(other)), None, None, bound)

    relu, exact, tanh = (ACTIVATIONS[name](X) for name in ("ReLU", "the exact GELU", "the tanh GELU"))
    rounded = [y * (1 + RNG.uniform(-0.003, 0.003, y.shape)) for y in (relu, exact)]  # as bfloat16 does
    assert said(*rounded, 0.0) == ""
    a, b = said(*rounded, 0.01).removesuffix(".").split(", b ")
    assert a == "a applies ReLU" and {"the exact GELU", "the tanh GELU"} <= set(b.split(" or "))
    assert said(exact, tanh, 0.0) == "a applies the exact GELU, b the tanh GELU."
    assert "GELU" not in said(exact, tanh, 0.01)  # of which bfloat16 tells nothing


@pytest.mark.parametrize("turned", [False, True])
def test_a_batch_norm_that_is_not_told_that_it_trains_is_said(turned):
    mean, var = RNG.normal(size=16), RNG.uniform(1, 2, 16)
    batch = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3) * SCALE + BIAS
    running = (X - mean) / np.sqrt(var + 1e-3) * SCALE + BIAS
    one, other = (running, batch) if turned else (batch, running)
    said = within(one, other, scale=SCALE, bias=BIAS, mean=mean, var=var)
    of = {True: "its running statistics, as in evaluation", False: "the batch's statistics, as in training"}
    assert said == f"a takes {of[turned]}, b {of[not turned]}: `training` is not passed on, or is fixed."
    assert within(batch, batch, scale=SCALE, bias=BIAS, mean=mean, var=var) == ""
