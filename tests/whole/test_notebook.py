"""The notebook of the documentation: executed in order, and what it shows is what its cells print."""

import json
import re
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "docs" / "a-verdict-in-a-notebook.ipynb"
CELLS = [cell for cell in json.loads(FILE.read_text())["cells"] if cell["cell_type"] == "code"]


def outputs(kind):
    """The text of one kind of output, "stream" or "text/html", of all cells."""
    found = [output.get("text", output.get("data", {}).get(kind, "")) for cell in CELLS for output in cell["outputs"]
             if kind in (output["output_type"], *output.get("data", {}))]
    return ["".join(text) for text in found]


def test_it_was_executed_in_order_and_nothing_failed():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    assert not [output for cell in CELLS for output in cell["outputs"] if output["output_type"] == "error"]
    assert not [text for text in outputs("stream") if "\x1b" in text or "\\x1b" in text]  # no bar that redraws itself
    agreeing, parted = outputs("text/html")
    assert "✓ agrees" in agreeing and "fails" not in agreeing and "fails" in parted


@pytest.mark.slow
def test_its_cells_say_again_what_it_shows(tmp_path, monkeypatch, capsys):
    """Each cell, in order, in one namespace: what it printed of bounds' reasons and of what failed stands in it."""
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {}
    for cell in CELLS:
        exec("".join(cell["source"]), names)
    said = capsys.readouterr().out
    assert names["verdict"].agrees and not names["parted"].agrees
    shown = "".join("".join(output["text"]) for cell in CELLS for output in cell["outputs"]
                    if output.get("name") == "stdout")

    def reasons(text):
        found = (line.partition("because of")[2] or line.partition(":")[0] for line in text.splitlines()
                 if line.startswith("P"))
        return {re.sub(r"step \d+", "a step", line) for line in found}  # which step is furthest is the processor's

    assert reasons(said) == reasons(shown) and len(reasons(said)) > 6
