"""tune.json is read as it was written."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from twinscale.benchmarks.tuning.result import Tuning
from twinscale.common.files.results import write_result

EXAMPLE = Path(__file__).parents[2] / "examples" / "tune.json"


def test_a_search_is_typed_and_a_state_that_nobody_knows_is_refused(tmp_path):
    values = json.loads(EXAMPLE.read_text())
    found = write_result(tmp_path / "tune.json", Tuning, values)
    assert found.trials[found.best].metric == found.best_value == min(
        trial.metric for trial in found.trials if trial.metric is not None)
    values["trials"][0]["state"] = "lost"
    with pytest.raises(ValidationError, match="state"):
        Tuning.model_validate(values)
