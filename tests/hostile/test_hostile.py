"""A part of the hostile inputs (`make hostile` is all of them): those that need no trained inputs, and the harness
itself."""

import json
import subprocess
import sys

import pytest

from tests.hostile import part
from tests.hostile.stage import ROOT


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The rows of both, from a process that has imported what the cases need and nothing of what this one has."""
    out = tmp_path_factory.mktemp("hostile")
    subprocess.run([sys.executable, "-m", "tests.hostile.part", out], cwd=ROOT, check=True)
    return json.loads((out / "rows.json").read_text())


@pytest.mark.slow  # `make hostile` has all of them
def test_hostile_inputs_are_refused_in_a_line_and_odd_ones_taken(rows):
    cases, rows = part.chosen(), rows["chosen"]
    assert sum(not case.benign for case in cases) >= 30 and sum(case.benign for case in cases) >= 8
    assert len(rows) == len(cases)
    assert not [(row["kind"], row["case"], row["detail"], row["said"]) for row in rows if row["result"] != "ok"]


@pytest.mark.slow
def test_what_must_not_be_is_seen(rows):
    """A verb that swallows, dumps, writes, runs, or shows what it should not turns the harness red, by its name."""
    assert [row["case"] for row in rows["seen"]] == [name for name, _ in part.SEEN]
    assert [row["result"] for row in rows["seen"]] == [row["case"] for row in rows["seen"]]
