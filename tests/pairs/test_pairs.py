"""Pairs written by hand, the two sides in different hands' styles: each is matched without a rule and agrees; with one
error of a port planted, it does not, and the place and, where it can be measured, the cause are said."""

import importlib

import keras
import pytest

import twinscale
from tests.pairs.table import ELSEWHERE, MISLED, PAIRS, SLOW

pytestmark = pytest.mark.usefixtures("hurried")


def verdict_of(name, error, match=None):
    keras.utils.clear_session()  # names count from 0
    keras.utils.set_random_seed(0)
    pair = importlib.import_module(f"tests.pairs.{name}")
    return twinscale.check(pair.keras_model(), pair.port(error), pair.inputs(), names=getattr(pair, "NAMES", None),
                           outputs=getattr(pair, "OUTPUTS", None), match=match)


def known(names, failures):
    """Names as parameters, with the marks of those that take long, and of those that are known to fail."""
    found = []
    for name in names:
        marks = [pytest.mark.slow] * (name in SLOW)
        if name in failures:
            marks.append(pytest.mark.xfail(strict=True, raises=AssertionError, reason=failures[name]))
        found.append(pytest.param(name, marks=marks))
    return found


def is_placed(verdict, name):
    place, cause = PAIRS[name]
    assert not verdict
    assert place in verdict.place and cause in verdict.cause, verdict
    assert len(verdict.others) == ELSEWHERE.get(name, 0), verdict


@pytest.mark.parametrize("name", known(PAIRS, {}))
def test_a_pair_is_matched_without_a_rule_and_agrees(name):
    verdict = verdict_of(name, error=False)
    assert verdict, verdict


@pytest.mark.parametrize("name", known(PAIRS, MISLED))
def test_a_planted_error_of_a_port_is_caught_and_placed(name):
    is_placed(verdict_of(name, error=True), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MISLED)
def test_a_planted_error_is_placed_by_the_match_of_the_port_that_is_right(name):
    is_placed(verdict_of(name, error=True, match=verdict_of(name, error=False).match), name)
