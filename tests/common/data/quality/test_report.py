"""What `data check` says."""

import json

import pytest

from twinscale.common.data.quality.report import cited, report, told
from twinscale.common.data.quality.verdicts import REASONS
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe


def test_a_report_has_a_row_and_examples_for_each_reason(corpus, texts, on_train, recipe):
    few = [on_train(lambda i, j=j: f"few\x1b words {i} {j}") for j in range(7)]
    source = corpus([*texts[0], *texts[1], *few])
    found = report(recipe(source, quality=["length"], held_out=0.3, subset={"share": 0.5}))
    row = found["removed"]["length/words_least"]
    assert row["documents"] == 7 and len(row["examples"]) == 5 and row["cited"].startswith("Rae")
    lines = told(found, 2).splitlines()
    assert lines[1].split()[:2] == ["length/words_least", "7"] and len(lines) == 7 and "\x1b" not in "".join(lines)
    assert "below 50" in lines[2] and lines[-1].startswith("data.subset takes")
    assert json.loads(json.dumps(found)) == found


def test_rows_of_labelled_text_are_judged_too(tmp_path):
    rows = [(f"text {i} that has its own {i * i} words", "ab"[i % 2]) for i in range(30)]
    lines = [json.dumps({"text": text, "label": label}) for text, label in [*rows, *rows[:4]]]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    asked = Recipe.model_validate({"name": "t", "model": {"family": "encoder", "head": "sequence"}, "data": {
        "source": f"jsonl:{tmp_path}/a.jsonl", "tokenizer": "wordpiece", "quality": ["exact"], "held_out": 0.01}})
    row = report(asked)["removed"]["exact"]
    assert row["documents"] == 4 and row["examples"][0]["name"].endswith("a.jsonl:31")


def test_nothing_to_check_is_one_line(recipe):
    with pytest.raises(BadInput, match="data.quality, data.subset: say nothing"):
        report(recipe())


def test_each_reason_has_a_source():
    assert all("20" in cited(reason) or "1997" in cited(reason) for reason in REASONS)
