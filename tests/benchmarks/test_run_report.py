"""report.json is read as it was written."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from twinscale.benchmarks.run_report import RunReport
from twinscale.common.files.results import write_result

EXAMPLE = Path(__file__).parents[1] / "examples" / "report.json"


def test_a_run_is_typed_and_a_curve_of_nobody_is_refused(tmp_path):
    values = json.loads(EXAMPLE.read_text())
    found = write_result(tmp_path / "report.json", RunReport, values)
    assert found.curves["loss"]["held_out"].values[-1] == found.held_out["loss"] and found.evaluated == found.step
    values["curves"]["loss"]["test"] = values["curves"]["loss"].pop("train")
    with pytest.raises(ValidationError, match="curves"):
        RunReport.model_validate(values)
