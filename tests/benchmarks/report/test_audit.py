"""The audit's page: what was planted, which rungs saw it, and whether the gate holds."""

import math
import re

import numpy as np

from tests.benchmarks.report.test_page import HOSTILE
from twinscale.benchmarks.report.audit import write_audit
from twinscale.benchmarks.rung_table import RUNGS


def audit_row(name, operation, failed, caught=None, placed=None, backend="keras"):
    caught = bool(failed) if caught is None else caught
    found = {"operation": operation or "norm", "where": f"place.of.{name}", "step": 0} if caught else None
    return {"name": name, "backend": backend, "recipe": "layer", "operation": operation, "where": "*.norm",
            "meaning": f"What {name} does, with `code` in it.", "caught": caught, "failed": failed,
            "signal": max(failed.values(), default=None), "found": found,
            "placed": caught and bool(operation) if placed is None else placed, "seconds": 3.0}


def fake_audit():
    rows = [audit_row("epsilon", "norm", {"P2": 4.2e6, "P4": 3.0}), audit_row("tanh", "activation", {"P2": 1e9}),
            audit_row("wrong_data", "data", {"P0": 1 / np.finfo(float).tiny, "P4": 2e12}, backend="jax"),
            audit_row("late", "norm", {"P3": 7e3, "P4": 2e5}), audit_row("other_order", "", {}),
            audit_row("unrolled", "", {}, backend="jax")]
    return {"mutants": 4, "caught": 4, "placed": 4, "neutral": 2, "flagged": 0, "smallest_signal": 4.2e6,
            "median_signal": 1e9, "rows": rows, "schema_version": 1, "seconds": 71.3}


def audited(found, out):
    out.mkdir(exist_ok=True)
    write_audit(found, out)
    return (out / "audit.html").read_text(), (out / "audit.md").read_text()


def test_an_audit_has_a_row_for_each_change_under_its_class(tmp_path):
    page, text = audited(fake_audit(), tmp_path)
    for row in fake_audit()["rows"]:
        assert page.count(f"<code>{row['name']}</code>") == 1
        assert f"What {row['name']} does, with <code>code</code> in it." in page
        assert len(re.findall(rf"^\|.*`{row['name']}`.*`code` in it", text, re.M)) == 1
    assert re.findall(r'scope="rowgroup">(\w+)<', page) == ["activation", "data", "norm"]
    assert re.findall(r'<th class="cell">(\w+)</th>', page)[:5] == ["P0", "P2", "P3", "P4", "P5"]
    cells = re.findall(r'<td class="cell"[^>]*>(.*?)</td>', page)
    assert len(cells) == 5 * 6 and [c for c in cells if c] == ["1e9", "≠", "1e12", "1e6", "3.0", "1e3", "1e5"]
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {11, 12}


def test_an_audit_has_tables_of_rungs_counts_and_what_does_not_apply(tmp_path):
    found = fake_audit() | {
        "rungs": {"P4": {"caught": 3, "smallest": 3.0, "faintest": "epsilon in keras", "alone": ["late in keras"]}},
        "by": {"precision": {"bfloat16": {"mutants": 4, "caught": 3, "placed": 2}}},
        "inapplicable": [{"name": "gate", "backend": "jax", "lacks": ["SwiGLU"]}]}
    page, text = audited(found, tmp_path)
    assert "| P4 | 3 | 3.0 | epsilon in keras | late in keras |" in text and "<td>late in keras</td>" in page
    assert "| precision | bfloat16 | 4 | 3 | 2 |" in text and "<td>bfloat16</td>" in page
    assert "| gate | JAX | SwiGLU |" in text and "<td>SwiGLU</td>" in page
    assert "does not apply" not in audited(fake_audit(), tmp_path)[0]


def test_an_audit_says_in_words_whether_the_gate_holds(tmp_path):
    page, text = audited(fake_audit(), tmp_path)
    for shown in (page, text):
        assert "Of 4 planted errors 4 were caught and 4 placed; of 2 harmless changes 0 were flagged." in shown
        assert "How to read this" in shown and "not caught" not in shown and "flagged</span>" not in shown
    assert "The gate <span>holds" in page and text.startswith("# ✓ The gate holds")
    assert "4e6" not in page and ">1e6<" in page  # the smallest signal, as a power of ten


def test_an_audit_marks_what_was_missed_misplaced_or_flagged(tmp_path):
    found = fake_audit() | {"caught": 3, "placed": 2, "flagged": 1}
    found["rows"][0:2] = [audit_row("epsilon", "norm", {}), audit_row("tanh", "activation", {"P2": 9.0}, placed=False)]
    found["rows"][-1] = audit_row("unrolled", "", {"P4": math.inf})
    page, text = audited(found, tmp_path)
    assert "The gate <span>has a hole" in page and RUNGS["P8"].failing in page and RUNGS["P8"].failing in text
    assert re.search(r'<td class="cell" style="--depth: \d+%">∞</td>', page)
    assert page.count("✕ not caught") == page.count("✕ no<") == page.count("✕ flagged") == 1
    assert "✕ not caught: it is norm at `*.norm`" in text and "✕ no: it is activation" in text and "✕ flagged" in text


def test_an_audit_is_one_escaped_file_of_equal_bytes(tmp_path):
    def hostile(value):
        if isinstance(value, dict):
            return {key: hostile(v) for key, v in value.items()}
        if isinstance(value, list):
            return [hostile(v) for v in value]
        return HOSTILE + "|` " + value if isinstance(value, str) and value else value

    page, text = audited(hostile(fake_audit()), tmp_path)
    assert audited(dict(reversed(hostile(fake_audit()).items())), tmp_path) == (page, text)
    assert page.count("<script") == page.count("</script>") == 2 and "alert" in page
    assert not re.search(r"@import|url\((?!#)|<link|<img", page)
    assert all(target.startswith("#") for target in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert not re.search(r"(?<!\\)<", re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", text))


def test_an_empty_audit_still_makes_a_page(tmp_path):
    page, text = audited({"rows": []}, tmp_path)
    assert "Of 0 planted errors" in page and "Undefined" not in page + text
