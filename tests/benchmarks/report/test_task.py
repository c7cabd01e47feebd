"""The page of a task: complete in both files, escaped, with a table beside each figure."""

import base64
import re

import pytest

from tests.benchmarks.report.fakes import fake_task, fake_verdict
from twinscale.benchmarks.report import task
from twinscale.benchmarks.report.page import write_report

SIDES = {"keras": "Keras", "jax": "JAX"}
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(HTML, Markdown) of a verdict whose classes and texts are hostile."""
    out = tmp_path_factory.mktemp("report")
    found = fake_task() | {"names": ["cat", HOSTILE, "eel"]}
    found["classes"][1]["name"] = HOSTILE
    found["worst"][0] |= {"text": f"a text with {HOSTILE} in it", "label": HOSTILE}
    verdict = fake_verdict() | {"task": found}
    verdict["held_out"]["keras"] |= {"f1/cat": 0.5, "confusion/cat/eel": 1.0, "f1_macro": 0.5}
    write_report(verdict, out)
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def test_text_of_the_data_comes_out_as_text(page):
    html, text = page
    assert html.count("<script") == html.count("</script>") == 2  # the page's own, and the verdict's JSON
    shown = html[html.index('<section id="task">'):html.index('<section id="limits">')]
    assert "a text with &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; in it" in shown and "<script" not in shown
    outside_code = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", text, flags=re.S)
    assert not re.search(r"(?<!\\)<script", outside_code) and "`a text with <script>alert('x')</script> in it`" in text


def test_figures_have_words_and_tables_and_images_are_told_and_in_the_page(page):
    html, text = page
    shown = html[html.index('<section id="task">'):html.index('<section id="limits">')]
    assert shown.count("<figure>") == shown.count("<figcaption>") == shown.count("<summary>As a table") == 4
    image, = re.findall(r"<img [^>]*>", shown)
    assert 'alt="held-out image 9, 2 x 2 pixels, of the class eel"' in image and 'src="data:image/png;base64,' in image
    assert "img-src data:" in html and "none';" in html
    assert "Confusion of 3 classes" in text and "4 of 6 (Keras) and 5 of 6 (JAX)" in text.replace("\\", "")


def test_what_tables_of_the_task_have_is_not_told_twice(page):
    _, text = page
    metrics = text[text.index("## Held-out metrics"):text.index("## Classes, one by one")]
    assert "f1 macro" in metrics and "f1/cat" not in metrics and "confusion/" not in metrics


def test_sentences_have_their_tags_where_a_side_is_wrong(tmp_path):
    words = [{"word": "in", "label": "O", "keras": "O", "jax": "O"},
             {"word": "Paris", "label": "B-LOC", "keras": "O", "jax": "B-LOC"}]
    found = {"kind": "entities", "worst": [{"row": 3, "loss": {"keras": 2.0, "jax": 0.1}, "words": words}]}
    write_report(fake_verdict() | {"task": found}, tmp_path)
    html, text = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert '<span class="wrong">Paris<small>B-LOC · Keras: O · JAX: B-LOC</small></span>' in html
    assert "in Paris [`B-LOC`, Keras `O`, JAX `B-LOC`]" in text and "Entities, one by one" in html


def test_nothing_is_shown_of_nothing(tmp_path):
    assert task.view({}, SIDES) is None and task.in_tables({}) == ()
    write_report(fake_verdict() | {"task": None}, tmp_path)
    assert 'id="task"' not in (tmp_path / "report.html").read_text()


def test_of_many_classes_the_weakest_have_bars_and_all_are_in_the_table():
    rows = [{"name": f"c{i}", "count": 1.0, "keras": {"f1": i / 99, "precision": 1.0, "recall": 1.0},
             "jax": {"f1": i / 99, "precision": 1.0, "recall": 1.0}} for i in range(99, -1, -1)]
    found = task.classes(rows, SIDES)
    assert len(found["rows"]) == 100 and "the weakest 30 of 100" in found["figure"]["words"]
    assert "c29" in found["figure"]["wide"] and "c30" not in found["figure"]["wide"]
    assert "lowest F1 is that of c0" in found["figure"]["words"]


def test_an_image_in_a_report_is_a_png(page):
    found = re.search(r"data:image/png;base64,([^\"]+)", page[0])
    assert base64.b64decode(found[1]).startswith(b"\x89PNG")
