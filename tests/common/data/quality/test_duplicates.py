"""Duplicates: what is the same once normalised, and what MinHash finds against the true share of shingles."""

import random
import sys

import pytest

from twinscale.common.data.quality.duplicates import FINDERS, exact, near, normal, shingles
from twinscale.common.errors import MissingEnvironment
from twinscale.common.quality import Thresholds

WORDS = [f"word{i}" for i in range(2000)]


def test_case_accents_punctuation_and_white_space_do_not_tell_texts_apart():
    assert normal("Déjà  vu,\n(again)!") == normal("deja vu again") == "deja vu again"
    assert normal("++") == "++" != normal("--") and normal("a_b") == "a b"
    finder = exact(Thresholds())
    finder.keep("Déjà vu.", 7)
    assert finder.find("deja  VU").other == 7 and finder.find("deja vue") is None


def test_shingles_are_of_words_in_a_row():
    one, two = (shingles(text, 3) for text in ("a b c d", "b c d e"))
    assert len(one) == len(two) == 2 and len({*one, *two}) == 3 and max(one) < 2**32
    assert len(shingles("a b c a b c a", 3)) == 3 and len(shingles("a b", 3)) == len(shingles("!", 3)) == 1
    assert {*shingles("a b", 3)} != {*shingles("b a", 3)} and [*shingles("A, b", 3)] == [*shingles("a b", 3)]


def edited(words, every, draw):
    """`words` with one in `every` replaced."""
    return [draw.choice(WORDS) if i % every == every - 1 else word for i, word in enumerate(words)]


def test_minhash_finds_what_is_nearly_the_same_and_nothing_else():
    pytest.importorskip("datasketch")
    draw = random.Random(0)
    texts = [draw.choices(WORDS, k=300) for _ in range(40)]
    finder = near(Thresholds())
    for number, words in enumerate(texts):
        assert finder.find(" ".join(words)) is None
        finder.keep(" ".join(words), number)
    for number, words in enumerate(texts):
        close = finder.find(" ".join(edited(words, 150, draw)))  # a share of 0.93 or more in common
        assert close.other == number and close.said.startswith("about ")
        assert finder.find(" ".join(edited(words, 10, draw))) is None  # of 0.35
    assert near(Thresholds()).find(" ".join(texts[0])) is None  # none knows what another has kept


def test_the_threshold_is_of_the_estimated_share():
    pytest.importorskip("datasketch")
    words = random.Random(1).choices(WORDS, k=400)
    other = words[:330] + [f"new{i}" for i in range(70)]  # 326 of 466 shingles: 0.70
    for similarity, there in ((0.5, True), (0.9, False)):
        finder = near(Thresholds(near_similarity=similarity, near_rows=4, near_bands=32))
        finder.keep(" ".join(words), 0)
        assert bool(finder.find(" ".join(other))) == there


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingEnvironment, match=r'data.quality: "near": datasketch is not installed; pip install'):
        FINDERS["near"](Thresholds())
