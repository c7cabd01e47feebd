"""study.json has a schema."""

import pytest
from pydantic import ValidationError

from twinscale.benchmarks.results import schema
from twinscale.benchmarks.studies.result import Parity, Studied


def test_a_study_has_a_schema_and_parity_may_be_lacking_and_nothing_else_of_it():
    assert schema("study")["title"] == Studied.__name__
    assert Parity(pairs=3, lacking="few").rows is None
    with pytest.raises(ValidationError):
        Parity(lacking="few")
