"""A law over a table: derivatives, and parameters as people write them."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED, planted
from twinscale.benchmarks.laws.curves import Curve, predicted
from twinscale.benchmarks.laws.forms import FORMS


def begun(name):
    """(curve, theta near the planted one, a weight for each row)."""
    columns, _ = planted(name, sizes=4)
    curve, form = Curve(FORMS[name], columns), FORMS[name]
    Q = len(form.exponents)
    public = np.array([PLANTED[name]])
    theta = public.copy()
    s, _ = form.terms(public[:, :Q], columns)
    theta[:, Q:] = np.log(public[:, Q:]) + s.mean(1)
    return curve, theta, np.random.default_rng(1).standard_normal((1, len(columns["N"])))


@pytest.mark.parametrize("name", FORMS)
def test_written_parameters_predict_what_the_curve_does(name):
    curve, theta, _ = begun(name)
    assert np.allclose(curve.public(theta), [PLANTED[name]], rtol=1e-12)
    assert np.allclose(np.exp(curve.values(theta)), predicted(curve.form, curve.public(theta), curve.columns),
                       rtol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_slopes_and_bends_are_those_of_differences(name):
    curve, theta, weights = begun(name)
    bent, P = curve.bent(theta), theta.shape[1]
    steps = 1e-5 * np.eye(P)[:, None]
    first = np.stack([(curve.values(theta + h) - curve.values(theta - h)) / 2e-5 for h in steps], axis=-1)
    assert np.allclose(bent.slopes, first, atol=1e-7 * max(1, np.abs(first).max()))
    assert np.allclose(bent.shares.sum(-1), 1)
    if curve.form.linear:  # of others, the terms' own second derivatives are left out
        second = np.stack([((curve.bent(theta + h).slopes - curve.bent(theta - h).slopes) / 2e-5
                            * weights[..., None]).sum(1)[0] for h in steps], axis=-1)
        assert np.allclose(bent.bend(weights)[0], second, atol=1e-6 * max(1, np.abs(second).max()))


def test_several_vectors_are_each_as_alone():
    curve, theta, weights = begun("precision")
    both = np.concatenate([theta, theta * 1.1])
    bent = curve.bent(both)
    for i in range(2):
        alone = curve.bent(both[i:i + 1])
        assert np.array_equal(bent.values[i], alone.values[0])
        assert np.allclose(bent.bend(np.repeat(weights, 2, 0))[i], alone.bend(weights)[0], rtol=1e-12)
