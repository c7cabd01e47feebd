"""The page of three columns and their table: a row a rung, a column a pair, escaped, equal bytes of equal results."""

import copy
import io
import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks.report.fakes import fake_verdict
from twinscale.benchmarks.report.columns import rows_of, show, write_columns
from twinscale.benchmarks.report.page import write_report

MADE = json.loads((Path(__file__).parents[2] / "examples" / "columns.json").read_text())
SCRIPT = "<script>alert(1)</script>"


def parted():
    """The example, where P2 of the last two pairs fails, the first has no P3, and a sentence is of others."""
    found = copy.deepcopy(MADE)
    for pair in found["pairs"][1:]:
        pair["rungs"] = [step | ({"answer": "fails", "worst": None} if step["name"] == "P2" else {})
                         for step in pair["rungs"]]
        pair["answer"], pair["sentence"] = "fails", SCRIPT
    found["pairs"][0]["rungs"] = [step for step in found["pairs"][0]["rungs"] if step["name"] != "P3"]
    found["rung"] |= {"agrees": False, "blame": "program", "by": "jax"}
    return found | {"agrees": False, "sentence": f"Flax parts {SCRIPT}.", "plant": "keras:adam_epsilon"}


def test_a_rung_has_a_cell_for_each_pair_and_losses_come_last_the_sharpest_first():
    rows = {row[0]: row[1:] for row in rows_of(parted()["pairs"])}
    assert [*rows][-2:] == ["losses, float64", "losses, float32"]
    assert [cell[0] for cell in rows["P2 gradient"]] == ["✓", "✕", "✕"] and "not finite of" in rows["P2 gradient"][1]
    assert rows["P3 optimizer"][0] == "–" and rows["P3 optimizer"][1].startswith("✓")
    assert all("over 10 steps" in cell for cell in rows["losses, float64"])


def test_the_page_says_what_parts_links_each_pair_and_is_the_same_every_time(tmp_path):
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_columns(parted(), tmp_path / name)
        pages.append([(tmp_path / name / f"report.{kind}").read_text() for kind in ("html", "md")])
    assert pages[0] == pages[1]
    page, text = pages[0]
    assert SCRIPT not in page and "&lt;script&gt;" in page
    assert "The columns <span>do not agree</span>" in page and text.startswith("# ✕ The columns do not agree")
    assert "parts alone" in text and "Flax on JAX" in text and "planted error: keras:adam" in text
    for pair in MADE["pairs"]:
        assert f'href="{pair["directory"]}/report.html"' in page and f"({pair['directory']}/report.md)" in text


@pytest.mark.parametrize(("rung", "words"), [
    ({}, "✓ The columns agree"), ({"conclusive": False, "agrees": False, "blame": None}, "The columns stay open")])
def test_columns_that_agree_or_stay_open_are_said_so_in_the_title(tmp_path, rung, words):
    write_columns(copy.deepcopy(MADE) | {"rung": MADE["rung"] | rung}, tmp_path)
    assert (tmp_path / "report.md").read_text().splitlines()[0] == f"# {words}"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_each_pair_and_the_sentence_are_on_stdout(monkeypatch, encoding):
    kept = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding))
    show(parted() | {"sentence": "Flax parts\x1b[31m."})
    sys.stdout.flush()
    said = kept.getvalue().decode(encoding)
    assert "P2 gradient" in said and "Keras on TensorFlow / Keras on JAX" in said and "\x1b" not in said
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("pairs/")] == [
        pair["directory"] for pair in MADE["pairs"]]
    assert said.rstrip().splitlines()[-1].startswith("Flax parts")


def test_the_report_of_a_pair_calls_its_sides_columns_and_by_their_titles(tmp_path):
    sides = {"keras": "Keras on TensorFlow", "jax": "Keras on JAX"}
    mesh = {"backend": "jax", "mesh": "data 2", "agrees": None, "why": "no", "devices": 2, "hosts": 1, "accumulate": 1}
    write_report(fake_verdict() | {"sides": sides, "arguments": {"columns": "keras,keras-jax"},
                                   "meshes": {"rows": [mesh], "steps": 1, "precision": "float32"}}, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# ✓ The columns agree") and "not trained: Keras on JAX on data 2" in text
    assert "| Keras on TensorFlow | Keras on JAX |" in text
