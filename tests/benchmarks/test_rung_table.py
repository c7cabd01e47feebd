"""Every rung is described once, and what a verdict has of rungs is what the table knows."""

import re
from pathlib import Path

from twinscale.benchmarks.rung_table import RUNGS, is_placed, not_climbed, title_of

ROOT = Path(__file__).parents[2]


def test_every_rung_that_is_made_is_described_under_its_title():
    made = {}
    for file in (ROOT / "benchmarks").rglob("*.py"):
        made |= dict(re.findall(r'\brung\(\s*"(P\d)",\s*"(\w+)"', file.read_text()))
    assert made == {name: title_of(name) for name in RUNGS if name != "P8"}  # an audit is no rung of a verdict


def test_what_is_left_out_says_why_and_what_is_climbed_does_not():
    climbed = [{"name": "P0"}, {"name": "P6"}]
    assert {row["name"] for row in not_climbed(climbed)} == {"P5", "P7", "P8"}
    assert {row["name"] for row in not_climbed(climbed, between_runs=True)} == {"P1", "P3", "P4", "P5", "P7", "P8"}
    assert all(row["why"] for row in not_climbed([]))


def test_a_foreign_rung_has_no_title_and_may_be_placed():
    assert title_of("1-prune P4") == "" and is_placed("1-prune P4")
    assert is_placed("P2") and not is_placed("P6")
