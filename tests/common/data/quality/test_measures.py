"""Measures of a text, against what can be counted by hand or by brute force."""

import random

import pytest

from twinscale.common.data.quality import measures
from twinscale.common.data.quality.measures import Page, again, top

TEXT = """The cat sat to rest...

- one two
# three

* four … five
The cat sat to rest...
"""


@pytest.mark.parametrize(("measure", "value"), [
    (measures.words, 19), (measures.hashes, 1 / 19), (measures.ellipses, 3 / 19), (measures.bullets, 2 / 5),
    (measures.ellipsis_lines, 2 / 5), (measures.letters, 15 / 19), (measures.stop_words, 2), (measures.lines, 1 / 5),
    (measures.line_characters, 22 / 73), (measures.paragraphs, 0), (measures.paragraph_characters, 0),
    (measures.word_length, 59 / 19), (measures.sentences, 2), (measures.lorem_ipsum, 0), (measures.braces, 0)])
def test_what_is_counted_by_hand(measure, value):
    assert measure(Page(TEXT)) == pytest.approx(value)


def test_paragraphs_and_placeholders():
    page = Page("a b\nc\n\nlonger one\n \na b\nc\n\n{ Lorem ipsum }")
    assert measures.paragraphs(page) == 1 / 4 and measures.paragraph_characters(page) == 5 / 35
    assert measures.lorem_ipsum(page) == 1 and measures.braces(page) == 2


def brute(words, n):
    """(share of characters in n words in a row that were there before, the same of the commonest)."""
    rows = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
    covered = {i + k for i, row in enumerate(rows) if row in rows[:i] for k in range(n)}
    total = sum(map(len, words))
    most = max(map(rows.count, rows), default=0)
    length = max((len("".join(row)) for row in rows if rows.count(row) == most), default=0)
    return sum(len(words[i]) for i in covered) / total, most * length / total if most > 1 else 0


@pytest.mark.parametrize("n", [2, 3, 5])
def test_repetition_is_that_of_brute_force(n):
    draw = random.Random(n)
    for _ in range(30):
        words = draw.choices(["a", "bb", "ccc", "dddd"], k=draw.randrange(1, 60))
        page = Page(" ".join(words))
        assert (again(n)(page), top(n)(page)) == pytest.approx(brute(words, n))


def test_nothing_is_measured_of_nothing():
    page = Page(" \n ")
    assert not any(measure(page) for measure in (
        measures.words, measures.word_length, measures.hashes, measures.letters, measures.lines, measures.paragraphs,
        top(2), again(5)))
