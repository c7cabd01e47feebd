"""The page of one run: what it shows, escaped, and what it leaves out."""

import json
from pathlib import Path

import pytest

from twinscale.benchmarks.report.run import learning, show, write_run

EXAMPLE = Path(__file__).parents[2] / "examples" / "report.json"
HOSTILE = "<script>alert('x')</script>"


def fake_run():
    """What report.json of a run holds."""
    return json.loads(EXAMPLE.read_text())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(HTML, Markdown) of a run whose names and texts are hostile."""
    out, found = tmp_path_factory.mktemp("run"), fake_run()
    found |= {"run": HOSTILE, "sentence": f"{HOSTILE} was trained", "failed": {"worst examples": HOSTILE}}
    found["recipe"]["name"] = HOSTILE
    found["task"]["worst"][0]["words"][0]["word"] = HOSTILE
    write_run(found, out)
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def test_names_and_texts_of_others_come_out_as_text(page):
    html, text = page
    assert html.count("<script") == html.count("</script>") == 2  # the page's own, and the JSON
    assert html.count("&lt;script&gt;alert") >= 5 and "\n- run: \\<script\\>" in text


def test_it_speaks_of_one_side_alone(page):
    for text in page:
        assert "both" not in text.partition("How to reproduce")[0] and "Keras" not in text.partition("## How")[0].split(
            "Held-out metrics")[-1].partition("How to reproduce")[0]
    assert "| metric | JAX |" in page[1] and "precision, JAX" in page[1]


def test_what_tables_of_the_task_have_is_not_told_twice(page):
    metrics = page[1].partition("## Held-out metrics")[2].partition("\n## ")[0]
    assert "entity f1" in metrics and "entity f1/" not in metrics


def test_one_evaluation_is_no_curve_but_stands_in_the_table():
    once = {"loss": {"train": {"steps": [5, 10], "values": [2.0, 1.0]}, "held_out": {"steps": [10], "values": [1.5]}},
            "f1_macro": {"held_out": {"steps": [10], "values": [0.5]}}}
    found = learning(once)
    assert "f1 macro" not in found["figure"]["wide"] and found["rows"] == [("10", "1.5000")]
    assert "from 2.000 (step 5) to 1.000 (step 10). One evaluation on the held-out set, after step 10." in (
        found["figure"]["words"])
    twice = {name: of | {"held_out": {"steps": [5, 10], "values": [1.5, 0.5]}} for name, of in once.items()}
    found = learning(twice)
    assert "f1 macro" in found["figure"]["wide"] and found["heads"] == ["loss, held out", "f1 macro, held out"]
    assert learning({}) is None
    assert "Nothing has been evaluated yet." in learning({"loss": {"train": {"steps": [1], "values": [None]}}})[
        "figure"]["words"]


def test_on_a_terminal_it_is_the_sentence_and_what_could_not_be_made(capsys):
    show({"sentence": "x, by JAX.", "task": {"lacking": "The data are gone."}, "failed": {"task": "no"}})
    assert capsys.readouterr().out.splitlines() == [
        "x, by JAX.", "The worst examples are not shown. The data are gone.", "task failed: no"]
    show({"sentence": "x, by JAX.", "task": None})
    assert capsys.readouterr().out == "x, by JAX.\n"
