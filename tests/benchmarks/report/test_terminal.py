"""The verdict on a terminal, with all rungs, on stdout; and the command in a report is the one that was asked for."""

import io
import sys

import pytest

from tests.whole.test_pages import failing
from twinscale.benchmarks.report.terminal import show


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
