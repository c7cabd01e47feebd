"""The verdict on a terminal, with all rungs, on stdout; and the command in a report is the one that was asked for."""

import io
import shlex
import sys
from pathlib import Path

import pytest

from tests.benchmarks.test_pages import failing
from twinscale.benchmarks.compare_record import reproducible
from twinscale.benchmarks.terminal import show


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_ladder_the_cause_and_the_sentence_are_on_stdout(monkeypatch, encoding):
    kept = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding))
    show(failing() | {"sentence": "They do not agree\x1b[31m."})
    sys.stdout.flush()
    said = kept.getvalue().decode(encoding)
    lines = [line.split() for line in said.replace("|", " ").splitlines() if line.strip().startswith("P")]
    assert [line[:2] for line in lines] == [["P0", "contract"], ["P2", "gradient"], ["P3", "optimizer"],
                                            ["P4", "semantics"], ["P5", "numerics"], ["P6", "sharding"],
                                            ["P7", "outcome"]]
    assert "fails" in lines[2] and "agrees" in lines[0] and "not run" in " ".join(lines[-1])
    assert f"2.8e14 {'x' if encoding == 'ascii' else '×'} too far" in said
    assert "First cause: step 0, update: update at layer_1.bias." in said and "\x1b" not in said


def test_a_report_asks_for_what_was_asked_for():
    made = reproducible(Path("a b"), ("r.toml", "train.steps=20"), plant="keras:adam_epsilon", operations=False,
                        place=True, swap=False, meshes=True, outcome="SEEDS=3")
    words = shlex.split(made["commands"][0])
    assert words == ["twinscale", "compare", "a b/recipe.toml", "--plant", "keras:adam_epsilon", "--place", "--meshes",
                     "--outcome", "SEEDS=3", "--out", "a b-again"]
    again = reproducible(Path("a b"), **made["arguments"] | {"swap": True})  # as bisect adds --place
    assert again["commands"][0].count("--swap") == 1 and again["arguments"]["overrides"] == ["train.steps=20"]
