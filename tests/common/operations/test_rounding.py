"""Bounds of an operation in its place: what is rounded once passes, what is rounded on the way does not."""

import math

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.places import places
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.points import POINTS
from twinscale.common.operations.references import FORMATS
from twinscale.common.operations.rounding import (
    Bound,
    backward_bound,
    beside,
    error,
    forward_bound,
    scores_size,
    together,
)
from twinscale.common.recipe.schema import Recipe

RNG = np.random.default_rng(5)
NARROW = FORMATS["bfloat16"]


def rms_norm(x, scale, inner=lambda x: x):
    x = x.astype(np.float32)
    return inner(x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)) * scale


def test_one_rounding_passes_and_a_second_one_is_seen_by_its_share():
    x, scale = (rounded(v, NARROW) for v in (RNG.standard_normal((64, 32)), 1 + 0.3 * RNG.standard_normal(32)))
    wanted = rms_norm(x, scale).astype(np.float64)
    bound = forward_bound("norm", 32, "rms")
    once = rounded(rms_norm(x, scale), NARROW)
    twice = rounded(rms_norm(x, scale, inner=lambda v: rounded(v, NARROW)), NARROW)
    worst, limit = error(once, wanted, bound, "bfloat16")
    share, rare = beside(once, wanted, bound)
    assert worst <= limit < 0.51 and share <= rare < 0.02
    share, rare = beside(twice, wanted, bound)
    assert share > 10 * rare


def test_softmax_by_narrow_scores_is_hundreds_of_bounds_off():
    scores = 5 * RNG.standard_normal((16, 64))

    def softmax(x):
        powers = np.exp(x - x.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    bound, wanted = forward_bound("softmax", 64), softmax(np.float32(scores).astype(np.float64))
    worst, limit = error(softmax(np.float32(scores)), wanted, bound, "bfloat16")
    assert worst <= limit
    worst, limit = error(softmax(rounded(scores, NARROW)), wanted, bound, "bfloat16")
    assert worst > 100 * limit


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_activation_a_tenth_too_large_is_far_above_its_bound(precision):
    x = rounded(RNG.standard_normal(1000), FORMATS[precision])
    wanted = np.maximum(x, 0).astype(np.float64)
    bound = forward_bound("activation", 1, "relu")
    for by, agrees in ((1.0, True), (1.1, False)):
        worst, limit = error(rounded(by * np.maximum(x, 0), FORMATS[precision]), wanted, bound, precision, x)
        assert (worst <= limit) == agrees and (agrees or worst > 10 * limit)


def test_a_float32_sum_in_bfloat16_is_found():
    x, w = (rounded(v, NARROW) for v in (RNG.standard_normal((128, 256)), RNG.standard_normal((256, 16))))
    wanted, narrow = x.astype(np.float64) @ w.astype(np.float64), np.zeros((128, 16), np.float32)
    for i in range(256):
        narrow = rounded(narrow + x[:, i:i + 1] * w[i], NARROW)
    bound = forward_bound("linear", 256)
    assert np.less_equal(*error(rounded(x @ w, NARROW), wanted, bound, "bfloat16"))
    assert np.greater(*error(narrow, wanted, bound, "bfloat16"))


def test_another_shape_and_what_is_not_finite_are_infinitely_far():
    assert error(np.ones(3), np.ones(4), Bound(1, 0), "float32")[0] == math.inf
    assert error(np.array([1, np.nan]), np.ones(2), Bound(1, 0), "float32")[0] == math.inf
    assert error(np.array(1.0), np.ones(1), Bound(1, 0), "float32")[0] == 0  # a file has no scalars


def test_what_is_off_already_is_rounded_at_the_size_that_it_has():
    """A value that is carried beyond a power of two is rounded by twice as much."""
    wanted, tie = np.array([0.99]), 1 + 5.5 * FORMATS["bfloat16"].eps
    assert np.less_equal(*error(rounded([tie], NARROW), wanted, Bound(0, 0.5), "bfloat16", more=tie - wanted))
    assert np.greater(*error(rounded([tie], NARROW), wanted, Bound(0, 0.5), "bfloat16", more=0.99 * (tie - wanted)))


def test_every_operation_of_every_family_has_its_bounds():
    text = {"source": "stdlib", "sequence": 16}
    sections = [({"family": "decoder", "dropout": 0.1}, text),
                ({"family": "convnet", "dropout": 0.1}, {"source": "digits"}),
                ({"family": "decoder", "norm": "rms", "positions": "rotary", "activation": "swiglu"}, text),
                ({"family": "mlp", "dropout": 0.1}, {"source": "digits"})]
    for model, data in sections:
        recipe = Recipe.model_validate({"name": "any", "data": data, "model": model})
        for place in places(recipe.model).values():
            for bound in (forward_bound(place.operation, 16), backward_bound(place.operation, 16)):
                assert bound.wide > 0 and bound.narrow >= 0
    assert POINTS[0] == "first"


def test_contributions_add_up_and_their_roundings_with_them():
    one = backward_bound("linear", 16)
    three = together([one] * 3)
    assert together([one]) is one
    assert three.narrow == 2 * (3 * one.narrow + 1) and three.wide > 6 * one.wide
    assert together([one, Bound(1, 1, least=3.0)]).least == 3.0


@pytest.mark.parametrize("by", [0, 1])
def test_the_size_of_scores_is_above_their_roundings_and_not_far(by):
    """Of cotangents of a softmax over keys that are nearly alike: what is left of the sum is less than what rounding
    its terms moves."""
    b, k, g, t, s, d = 2, 2, 3, 5, 64, 8
    arriving = RNG.normal(size=(b, k, g, t, s)) / s
    arriving -= arriving.mean(-1, keepdims=True)
    q = RNG.normal(size=(b, t, k * g * d))
    keys = rounded(RNG.normal(size=(b, 1, k * d)) + 0.02 * RNG.normal(size=(b, s, k * d)), NARROW)

    def summed(x):
        if by == 0:
            return np.einsum("bkgts,bskd->btkgd", x, keys.reshape(b, s, k, d)) / math.sqrt(d)
        return np.einsum("bkgts,btkgd->bskd", x, q.reshape(b, t, k, g, d)) / math.sqrt(d)

    size = scores_size(arriving, q, keys, by)
    moved = np.abs(summed(rounded(arriving, NARROW)) - summed(arriving)).max() / (NARROW.eps / 2)
    assert moved < size < 10 * moved
    if by == 0:
        assert np.abs(summed(arriving)).max() < moved


def test_no_bound_is_taken_for_another_kinds():
    for operation in ("norm", "activation"):
        with pytest.raises(BadInput, match="unheard"):
            forward_bound(operation, 16, "unheard")
    with pytest.raises(BadInput, match="unheard"):
        backward_bound("activation", 16, "unheard")
