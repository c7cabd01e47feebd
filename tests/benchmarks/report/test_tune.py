"""The page of a search: every trial with its state and reason, of others' texts nothing but text."""

import json
from pathlib import Path

from twinscale.benchmarks.report.tune import write_tuning

EXAMPLE = Path(__file__).parents[2] / "examples" / "tune.json"


def pages(found, out):
    write_tuning(found, out)
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def test_every_trial_has_a_row_and_a_failed_one_its_reason(tmp_path):
    found = json.loads(EXAMPLE.read_text())
    page, text = pages(found, tmp_path)
    failed = [trial for trial in found["trials"] if trial["state"] == "failed"]
    assert failed and all(trial["reason"] in text for trial in failed)
    assert page.count("<code>runs/") == sum(trial["run"] is not None for trial in found["trials"])
    assert {"history", "importance", "front", "slices", "trials"} <= {
        part.split('"')[0] for part in page.split('<section id="')[1:]}
    assert pages(found, tmp_path) == (page, text)


def test_what_others_have_named_is_text(tmp_path):
    found = json.loads(EXAMPLE.read_text())
    hostile = "<script>alert(1)</script>|`x`"
    failed = next(trial for trial in found["trials"] if trial["state"] == "failed")
    failed |= {"reason": hostile, "params": dict.fromkeys(failed["params"], hostile)}
    page, text = pages(found, tmp_path)
    assert "alert(1)" in page and "alert(1)" in text
    assert "<script>alert" not in page and "<script>alert" not in text


def test_a_search_that_found_nothing_has_a_page(tmp_path):
    found = json.loads(EXAMPLE.read_text())
    trials = [trial | {"state": "failed", "metric": None, "evaluations": []} for trial in found["trials"]]
    page, _ = pages(found | {"trials": trials, "best": None, "best_value": None, "front": [], "importance": {},
                             "recipe": None}, tmp_path)
    assert "has found nothing" in page and 'id="front"' not in page
