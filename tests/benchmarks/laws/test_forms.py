"""Laws as data: what each says of itself holds, and its derivatives are those of its terms."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED, planted
from twinscale.benchmarks.laws.forms import FORMS


def test_every_law_has_a_planted_one():
    assert PLANTED.keys() == FORMS.keys()
    for name, form in FORMS.items():
        assert len(PLANTED[name]) == len(form.parameters) and form.name == name


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_derivatives_of_terms_are_those_of_their_differences(form):
    """Central differences of step h = eps^(1/3) are off by some eps^(2/3) = 4e-11 of the terms' scale."""
    columns, _ = planted(form.name)
    at = np.array([PLANTED[form.name][:len(form.exponents)]])
    terms, slopes = form.terms(at, columns)
    assert terms.shape == (1, len(columns["N"]), len(form.coefficients))
    for q in range(at.shape[1]):
        step = np.zeros_like(at)
        step[0, q] = 6e-6
        difference = (form.terms(at + step, columns)[0] - form.terms(at - step, columns)[0]) / 12e-6
        assert np.allclose(difference, slopes[..., q], rtol=0, atol=1e-8 * max(1, np.abs(slopes).max()))
        assert np.abs(slopes[..., q]).max() > 0


@pytest.mark.parametrize("form", [form for form in FORMS.values() if form.linear], ids=lambda form: form.name)
def test_what_is_said_to_be_linear_is(form):
    columns, _ = planted(form.name)
    at = np.array([PLANTED[form.name][:len(form.exponents)]])
    assert np.allclose(form.terms(3 * at, columns)[0], 3 * form.terms(at, columns)[0], rtol=1e-13)
    assert form.terms(at, columns)[1].shape[0] == 1


def test_data_seen_once_are_worth_themselves_and_repeated_ones_less_and_less():
    columns, _ = planted("repetition")
    star = np.array([[0.34, 0.30, np.log(12.0)]])
    many = {key: np.full(4, value) for key, value in (("N", 1e8), ("unique_D", 1e9))} | {
        "D": 1e9 * np.array([1.0, 4.0, 64.0, 1e4])}
    term = FORMS["repetition"].terms(star, many)[0][0, :, 1]
    worth = np.exp(-(term - term[0]) / 0.30)  # D' over the unique data
    assert worth[0] == 1 and 3.2 < worth[1] < 4 and worth[3] == pytest.approx(13.0) and worth[2] < 13
