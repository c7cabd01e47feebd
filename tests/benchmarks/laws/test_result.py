"""fit.json has a schema, and what is not finite stands in it as null."""

from twinscale.benchmarks.laws.result import FittedLaw, Known
from twinscale.benchmarks.results import schema


def test_a_fit_has_a_schema_and_refuses_a_parameter_without_a_name():
    assert schema("fit")["title"] == FittedLaw.__name__
    known = Known(name="E", value=float("inf"), known=False, deviation=None, interval=None, profile=None)
    assert known["known"] is False and known["profile"] is None
