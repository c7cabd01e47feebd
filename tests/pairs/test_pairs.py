"""Pairs written by hand, the two sides in different hands' styles: each is matched without a rule and agrees; with one
error of a port planted, it does not, and the place and, where it can be measured, the cause are said."""

import importlib

import keras
import pytest

import twinscale
from tests.pairs.table import PAIRS

pytestmark = pytest.mark.usefixtures("hurried")


def verdict_of(name, error):
    keras.utils.clear_session()  # names count from 0
    keras.utils.set_random_seed(0)
    pair = importlib.import_module(f"tests.pairs.{name}")
    return twinscale.check(pair.keras_model(), pair.port(error), pair.inputs(), names=getattr(pair, "NAMES", None),
                           outputs=getattr(pair, "OUTPUTS", None))


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_matched_without_a_rule_and_agrees(name):
    verdict = verdict_of(name, error=False)
    assert verdict, verdict


@pytest.mark.parametrize("name", PAIRS)
def test_a_planted_error_of_a_port_is_caught_and_placed(name):
    verdict = verdict_of(name, error=True)
    place, cause = PAIRS[name]
    assert not verdict
    assert place in verdict.place and cause in verdict.cause, verdict
