"""References of operations, held to more digits, other libraries and differences."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy import signal, special

from twinscale.common.numbers.formats import walk
from twinscale.common.operations import references as ref
from twinscale.common.operations import references_training
from twinscale.common.operations.judge import FORMATS, inputs_of, wanted_of
from twinscale.common.operations.references import CHANNELS, IMAGE, Wide

F64 = FORMATS["float64"]
WIDE_EPS = float(np.finfo(Wide).eps)
pytestmark = pytest.mark.skipif(F64.eps / 256 < WIDE_EPS, reason="longdouble is float64 here")


def decimal(x):
    """A longdouble as an exact decimal: the sum of a float64 and what is left of it."""
    high = float(x)
    return Decimal(high) + Decimal(float(Wide(x) - Wide(high)))


def test_erf_is_that_of_60_digits():
    """The alternating Taylor series (Abramowitz & Stegun 7.1.5), summed in 60 digits, for 2^-7 eps of float64."""
    with localcontext() as context:
        context.prec = 60
        root = Decimal("1.77245385090551602729816748334114518279754945612238712821381")  # of pi
        for x in (0.0, 1e-300, 1e-9, 0.1, 0.5, 1.0, -1.5, 2.0, 3.0, -4.0, 5.9, 6.5):
            total, term, n = Decimal(0), Decimal(x), 0
            while n < 400:
                total += term / (2 * n + 1)
                n += 1
                term *= -Decimal(x) ** 2 / n
            wanted = 2 * total / root
            assert abs(decimal(ref.erf(Wide(x))) - wanted) <= abs(wanted) * Decimal(2.0**-59)


def test_erf_is_scipys():
    x = np.linspace(-8, 8, 1001)
    assert np.abs(ref.erf(x.astype(Wide)) - special.erf(x)).max() <= 2 * F64.eps


def test_exp_and_log_are_those_of_60_digits():
    with localcontext() as context:
        context.prec = 60
        for x in (0.1, 1.0, 3.7, 50.0, 700.0):
            assert abs(decimal(np.log(Wide(x))) - Decimal(x).ln()) <= abs(Decimal(x).ln()) * Decimal(2 * WIDE_EPS)
            assert abs(decimal(np.exp(Wide(-x))) / Decimal(-x).exp() - 1) <= Decimal(2 * WIDE_EPS) * max(1, Decimal(x))


def test_products_are_those_of_fractions():
    x, w, b = (array[..., :3] for array in inputs_of("dense", "float64")["cancellation"])
    x = inputs_of("dense", "float64")["cancellation"][0][0, :2]
    (value, scale), = ref.dense(F64, x.astype(Wide), w.astype(Wide), b.astype(Wide))
    for i in range(2):
        for j in range(3):
            exact = sum(Fraction(p) * Fraction(q) for p, q in zip(x[i], w[:, j], strict=True)) + Fraction(b[j])
            assert abs(Fraction(decimal(value[i, j])) - exact) <= Fraction(float(scale[i, j])) * Fraction(
                walk(len(w)) * WIDE_EPS)


def test_convolutions_are_scipys():
    x, kernel = inputs_of("conv stride 2", "float64")["normal"]
    (full, _), = ref.conv(1)(F64, x, kernel)
    for d in (0, CHANNELS[1] - 1):
        wanted = sum(signal.correlate2d(x[0, :, :, c], kernel[:, :, c, d], "same") for c in range(CHANNELS[0]))
        assert np.allclose(full[0, :, :, d].astype(float), wanted, rtol=0, atol=1e-13)
    (strided, _), = ref.conv(2)(F64, x, kernel)
    # SAME with stride 2 begins at -1 where the side is odd, at 0 where it is even.
    at = [slice(0 if n % 2 else 1, None, 2) for n in IMAGE]
    assert np.allclose(strided.astype(float), full[:, at[0], at[1]].astype(float), rtol=0, atol=1e-13)


FORWARD = {"gelu gradient": ref.gelu, "gelu_tanh gradient": ref.gelu_tanh, "swiglu gradient": ref.swiglu,
           "layer norm gradient": ref.norm(True), "rms norm gradient": ref.norm(False),
           "batch norm gradient": ref.norm(True, (0, 1, 2)), "dense gradient": ref.dense,
           "tied head gradient": ref.tied_head, "conv gradient": ref.conv(2), "embedding gradient": ref.embedding,
           "softmax gradient": ref.attend(True), "cross-entropy gradient": references_training.loss}
MOVED = {"softmax gradient": [0, 2], "cross-entropy gradient": [0, 2], "batch norm gradient": [0, 1, 2]}


@pytest.mark.parametrize("name", FORWARD)
def test_gradients_are_differences_of_the_forward_reference(name):
    """(F(x + h d) - F(x - h d)) / 2h along a random direction d, in longdouble: to h^2 = 1e-10 of the terms."""
    arrays = inputs_of(name, "float64")["normal"]
    *inputs, dy = (x.astype(Wide) if x.dtype.kind == "f" else x for x in arrays)
    rng, h = np.random.default_rng(0), Wide(1e-5)
    moved = MOVED.get(name, [i for i, x in enumerate(inputs) if x.dtype.kind == "f"])
    found = wanted_of(name, "float64", arrays)
    for i, (gradient, _) in zip(moved, found, strict=True):
        direction = rng.standard_normal(inputs[i].shape).astype(Wide)

        def at(step, i=i, direction=direction):
            changed = [x + step * direction if j == i else x for j, x in enumerate(inputs)]
            return (dy * FORWARD[name](F64, *changed)[0][0]).sum()

        terms = gradient * direction
        assert abs((at(h) - at(-h)) / (2 * h) - terms.sum()) <= 1e-7 * np.sqrt((terms**2).sum())
