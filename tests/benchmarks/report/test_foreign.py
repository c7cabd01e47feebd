"""The page and the table of two trainings that nothing bounds."""

import json
from pathlib import Path

import pytest

from twinscale.benchmarks.report.foreign import TENSORS, show, write_differences

EXAMPLE = Path(__file__).parents[2] / "examples" / "differences.json"


def with_checkpoints():
    """A result with checkpoints, whose names would be tags and cells."""
    tensors = [{"tensor": f"<b>fc|{i}</b>", "of": ["kernel"], "shape": [2, 3], "relative": 1.0 / (i + 1),
                "absolute": 0.5, "equal": i == TENSORS} for i in range(TENSORS + 1)]
    return json.loads(EXAMPLE.read_text()) | {"weights": {
        "a": "a.keras", "b": "b.msgpack", "match": "match.toml", "tensors": tensors,
        "unmatched": {"a": ["left/kernel"], "b": []}}}


found = pytest.fixture(with_checkpoints, name="found")


def test_equal_figures_give_equal_pages_which_obey_no_name_of_others(found, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_differences(found, tmp_path / name)
    html, markdown = ((tmp_path / "one" / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert (tmp_path / "two" / "report.html").read_text() == html
    assert "<b>fc" not in html and "&lt;b&gt;fc|0" in html and "| <b>" not in markdown
    assert "unmatched of a.keras: left/kernel" in html and "unmatched of b.msgpack" not in html
    assert html.count("<svg") == 2 and "bound" in html and found["sentence"].split(".")[0] in html


def test_the_table_has_the_steps_that_are_told_and_the_tensors_furthest_apart(found, capsys):
    show(found)
    said = capsys.readouterr().out
    assert "where they first differ" in said and "1 more tensors, which are nearer" in said
    assert f"fc|{TENSORS - 1}" in said and f"fc|{TENSORS}<" not in said and "unmatched of a.keras" in said
    show(found | {"first": None, "weights": None})
    assert "where they first differ" not in capsys.readouterr().out
