"""A verdict as an object: what it lets pass and what it raises."""

import json
import math
from pathlib import Path

import pytest

from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.verdict import Verdict, read_verdict
from twinscale.common.errors import BadInput, Disagreement
from twinscale.common.files.access import plain

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_infinity_is_a_figure_of_ours_and_no_figure_of_a_file(tmp_path):
    check = ladder.check("float64", math.inf, 1.0, "logits", "eps")
    assert check.worst == math.inf and plain(check)["worst"] is None
    values = json.loads((EXAMPLES / "verdict.json").read_text())
    values["rungs"][0]["worst"] = math.inf
    (tmp_path / "verdict.json").write_text(json.dumps(values))  # Infinity, which is no JSON
    with pytest.raises(BadInput, match=r"rungs\[0\].worst = inf: expected a finite number"):
        read_verdict(tmp_path)


def failing(**more):
    values = json.loads((EXAMPLES / "verdict.json").read_text())
    check = ladder.check("float64", 3e-3, 1e-14, "gradients/layer_1.kernel", "16 eps of float64")
    rungs = [*values["rungs"][:1], ladder.rung("P2", "gradient", "one function", [check])]
    return Verdict.model_validate(plain(values | {"agrees": False, "sentence": "They do not agree.", "rungs": rungs}
                                        | more))


def test_a_verdict_that_agrees_is_returned():
    verdict = read_verdict(EXAMPLES)
    assert verdict.raise_if_not() is verdict and verdict.answer == "agrees" and verdict.exit_code == 0


def test_a_verdict_that_does_not_is_an_assertion_with_the_checks_and_the_place():
    verdict = failing(cause={"operation": "norm", "sentence": "step 0, forward: norm at norm\x1b[2J"})
    with pytest.raises(AssertionError) as caught:
        verdict.raise_if_not()
    said = str(caught.value)
    assert isinstance(caught.value, Disagreement) and caught.value.exit_code == 1 and caught.value.verdict is verdict
    for word in ("They do not agree.", "P2 (gradient)", "gradients/layer_1.kernel", "0.0030", "1.0e-14",
                 "16 eps of float64", "first cause: step 0, forward: norm at norm"):
        assert word in said
    assert "\x1b" not in said


@pytest.mark.parametrize(("more", "code", "word"), [
    ({"open": True}, 3, "open"), ({"horizon": 1}, 3, "open"), ({"failed": {"meshes": "no room"}}, 1, "meshes failed")])
def test_nothing_that_was_not_shown_passes_for_agreement(more, code, word):
    """A test would else pass on a comparison that could tell nothing."""
    values = json.loads((EXAMPLES / "verdict.json").read_text()) | more
    with pytest.raises(Disagreement, match=word) as caught:
        Verdict.model_validate(values).raise_if_not()
    assert caught.value.exit_code == code
