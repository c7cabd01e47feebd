"""The notebooks of the documentation: one was executed in order, and what it shows is what its cells print; the other
is executed by `make docs`, and its page shows what was printed then."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FILE, PAIR = DOCS / "a-verdict-in-a-notebook.ipynb", DOCS / "two-files-to-the-first-parting.ipynb"
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


# ---- from two files to the first parting

@pytest.fixture
def generated(tmp_path, monkeypatch):
    """docs/generated.py over a copy of its own."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "build" / "notebook").mkdir(parents=True)
    shutil.copy(PAIR, tmp_path / "docs")
    return module


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def test_it_has_ten_cells_and_nothing_of_what_they_printed_is_kept():
    cells = json.loads(PAIR.read_text())["cells"]
    assert len(cells) == 10
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_its_page_shows_what_its_cells_printed_and_no_progress(generated, tmp_path):
    made = json.loads(PAIR.read_text())
    first, second = [cell for cell in made["cells"] if cell["cell_type"] == "code"][:2]
    first["outputs"] = [printed("a = 1\n"), printed("") | {"name": "stderr", "text": ["step 1/20\n"]}]
    second["outputs"] = [{"output_type": "execute_result", "data": {"text/html": ["<div>fails</div>"],
                                                                   "text/plain": ["Verdict()"]}}]
    (tmp_path / "build" / "notebook" / PAIR.name).write_text(json.dumps(made))
    page = generated.notebook()
    assert page.index("import twinscale") < page.index("````text\na = 1\n````") < page.index("twinscale.match")
    assert "step 1/20" not in page and "<div>fails</div>" in page and "Verdict()" not in page


def test_what_other_cells_printed_is_not_shown(generated, tmp_path):
    made = json.loads(PAIR.read_text())
    made["cells"][1] |= {"source": ["print('of another day')"], "outputs": [printed("of another day")]}
    (tmp_path / "build" / "notebook" / PAIR.name).write_text(json.dumps(made))
    assert "of another day" not in generated.notebook() and "import twinscale" in generated.notebook()


@pytest.mark.slow
def test_two_programs_part_where_it_says(tmp_path, monkeypatch, capsys):
    shutil.copytree(DOCS / "pair", tmp_path / "docs" / "pair")
    (tmp_path / "build" / "notebook" / "pair").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.syspath_prepend(str(tmp_path / "build" / "notebook" / "pair"))  # as in a notebook, where one works
    names = {}
    for cell in json.loads(PAIR.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    said = capsys.readouterr().out
    assert not names["verdict"].agrees and re.search(r"^logits +fc2 .*<- here they part$", said, re.M)
    assert "between hidden and logits" in said and "a applies the exact GELU, b the tanh GELU" in said
    assert "Not one function" in said and said.rstrip().splitlines()[-1].startswith("One function")
