"""A result on disk, whatever it holds."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from twinscale.benchmarks.verdict import Verdict
from twinscale.common.files.results import write_result

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_what_its_own_definition_refuses_is_on_disk_all_the_same(tmp_path):
    values = json.loads((EXAMPLES / "verdict.json").read_text()) | {"agrees": "perhaps"}
    with pytest.raises(ValidationError):
        write_result(tmp_path / "verdict.json", Verdict, values)
    assert json.loads((tmp_path / "verdict.json").read_text()) == values
