"""The table of checks: each has a threshold, and each text that is planted is found by its own."""

import pytest

from twinscale.common.data.quality.checks import CHECKS
from twinscale.common.data.quality.measures import Page
from twinscale.common.quality import Thresholds

GOOD = " ".join(f"That is sentence{i} of text{i} that{i} has long{i} words{i} and the{i} end{i}." for i in range(20))
DULL = "one two three four five six seven eight nine ten eleven"
BAD = {
    "length/words_least": "too few", "length/words_most": "word " * 100_001, "length/word_length_least": "a b " * 40,
    "length/word_length_most": "incomprehensibilities " * 40, "symbols/hashes_most": f"{GOOD} " + "# " * 60,
    "symbols/ellipses_most": f"{GOOD} " + "so... " * 60, "symbols/bullets_most": "- a\n" * 20,
    "symbols/ellipsis_lines_most": "a\nb...\n" * 9, "symbols/letters_least": "12 a3 45 " * 30,
    "symbols/stop_words_least": "the sky is blue", "repetition/lines_most": "x\nx\ny\nz\nx\n",
    "repetition/paragraphs_most": "x\n\nx\n\ny", "repetition/line_characters_most": f"{DULL}\n" * 2 + "a\nb\nc\nd",
    "repetition/paragraph_characters_most": f"{DULL}\n\n" * 2 + "a\n\nb\n\nc\n\nd",
    **{f"repetition/top_{n}_most": " ".join(DULL.split()[:n]) + f" {DULL} x" for n in (2, 3, 4)},
    **{f"repetition/again_{n}_most": f"{DULL} x {DULL}" for n in range(5, 11)},
    "c4/sentences_least": "One. Two", "c4/lorem_ipsum_most": "Lorem ipsum dolor", "c4/braces_most": "int f() { }"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.reason)
def test_each_check_finds_what_is_planted_and_leaves_plain_text(check):
    found = check.finds(Page(BAD[check.reason]), Thresholds())
    bound = getattr(Thresholds(), check.key)
    assert found.endswith(f"is {'below' if check.least else 'above'} {bound:g}")
    assert check.finds(Page(GOOD), Thresholds()) is None
    if check.key != "words_most":
        moved = check.measure(Page(BAD[check.reason]))
        assert check.finds(Page(BAD[check.reason]), Thresholds.model_construct(**{check.key: moved})) is None


def test_every_threshold_of_a_check_is_used_once_and_has_a_source():
    keys = [check.key for check in CHECKS]
    wanted = {key for key in Thresholds.model_fields if not key.startswith("near_")}
    assert set(keys) == wanted and len(keys) == len(wanted) and all("20" in check.cited for check in CHECKS)
