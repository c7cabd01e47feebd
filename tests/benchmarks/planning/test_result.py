"""serving.json has a schema, and a figure that is not finite stands in it as null."""

import json

import pytest
from pydantic import ValidationError

from tests.benchmarks.planning.test_serving_words import ROW
from twinscale.benchmarks.planning.result import Candidate
from twinscale.common.files.access import plain


def test_what_is_not_finite_is_null_in_the_file_and_what_is_missing_is_refused():
    made = Candidate.model_validate(ROW | {"loss": float("inf"), "interval": None})
    again = Candidate.model_validate_json(json.dumps(plain(made)))
    assert again.loss is None and again.interval is None and again.bits == 4.0
    with pytest.raises(ValidationError, match="limited_by"):
        Candidate.model_validate({key: value for key, value in ROW.items() if key != "limited_by"})
