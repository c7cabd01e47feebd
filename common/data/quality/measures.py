"""What is measured of a text, each a number: counts, or shares in [0, 1].

Words are what white space parts, and characters are those of words, so that shares do not depend on indentation.
Paragraphs are parted by empty lines. What was there before is a line, paragraph or n words in a row that the same text
has had further above: its first time is no repetition.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
BULLETS = ("•", "‣", "◦", "⁃", "*", "-")
ELLIPSES = ("...", "…")
END = re.compile(r"[.!?]+[\"')\]”’]*(?:\s|$)")  # of a sentence


@dataclass(frozen=True)
class Page:
    """A text, and what several measures ask of it, made once each."""

    text: str

    @cached_property
    def words(self) -> list[str]:
        """What white space parts."""
        return self.text.split()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of each word: int64 (words,)."""
        return np.fromiter(map(len, self.words), np.int64, len(self.words))

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without what stands around."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What empty lines part, without what stands around."""
        return [part.strip() for part in re.split(r"\n\s*\n", self.text) if part.strip()]

    @cached_property
    def grams(self) -> dict[int, np.ndarray]:
        """Of n the numbers of the n words in a row: equal for equal ones. What has been asked for so far."""
        numbers: dict[str, int] = {}
        return {1: np.array([numbers.setdefault(word, len(numbers)) for word in self.words], np.int64)}

    def in_a_row(self, n: int) -> np.ndarray:
        """`grams` of n: int64 (words - n + 1,)."""
        if n not in self.grams:
            shorter, single = self.in_a_row(n - 1), self.grams[1]
            pairs = shorter[:-1] * (int(single.max(initial=0)) + 1) + single[n - 1:]
            self.grams[n] = np.unique(pairs, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return self.grams[n]


def share(part: float, whole: float) -> float:
    """A part of a whole; 0 of nothing."""
    return float(part) / float(whole) if whole else 0.0


# ---- length and symbols

def words(page: Page) -> float:
    """How many words."""
    return len(page.words)


def word_length(page: Page) -> float:
    """Characters of a word, in the mean."""
    return share(page.lengths.sum(), len(page.words))


def hashes(page: Page) -> float:
    """Hash signs a word."""
    return share(page.text.count("#"), len(page.words))


def ellipses(page: Page) -> float:
    """Ellipses a word."""
    return share(sum(map(page.text.count, ELLIPSES)), len(page.words))


def bullets(page: Page) -> float:
    """Share of lines that begin with a bullet."""
    return share(sum(line.startswith(BULLETS) for line in page.lines), len(page.lines))


def ellipsis_lines(page: Page) -> float:
    """Share of lines that end with an ellipsis."""
    return share(sum(line.endswith(ELLIPSES) for line in page.lines), len(page.lines))


def letters(page: Page) -> float:
    """Share of words with a letter."""
    return share(sum(word.isalpha() or any(map(str.isalpha, word)) for word in page.words), len(page.words))


def stop_words(page: Page) -> float:
    """How many of the stop words there are."""
    return len(STOP_WORDS & {word.lower() for word in page.words})


# ---- repetition

def repeated(parts: Sequence[str]) -> float:
    """Share of the parts that were there before."""
    return share(len(parts) - len(set(parts)), len(parts))


def repeated_characters(parts: Sequence[str]) -> float:
    """Share of the parts' characters that are in those that were there before."""
    whole = sum(map(len, parts))
    return share(whole - sum(map(len, set(parts))), whole)


def lines(page: Page) -> float:
    """Share of lines that were there before."""
    return repeated(page.lines)


def paragraphs(page: Page) -> float:
    """Share of paragraphs that were there before."""
    return repeated(page.paragraphs)


def line_characters(page: Page) -> float:
    """Characters of lines that were there before."""
    return repeated_characters(page.lines)


def paragraph_characters(page: Page) -> float:
    """Characters of paragraphs that were there before."""
    return repeated_characters(page.paragraphs)


def top(n: int) -> Callable[[Page], float]:
    """The measure of the share of characters that the commonest n words in a row have, all times together; 0 where none
    is there twice. Of those that are as common it is the longest."""
    def measure(page: Page) -> float:
        numbers = page.in_a_row(n)
        if not len(numbers):
            return 0.0
        _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
        if counts.max() < 2:
            return 0.0
        sums = np.concatenate([[0], np.cumsum(page.lengths)])
        return share((sums[first + n] - sums[first])[counts == counts.max()].max() * counts.max(), sums[-1])

    return measure


def again(n: int) -> Callable[[Page], float]:
    """The measure of the share of characters that are in n words in a row that were there before; one that is in
    several of them counts once."""
    def measure(page: Page) -> float:
        numbers = page.in_a_row(n)
        if not len(numbers):
            return 0.0
        later = np.ones(len(numbers), bool)
        later[np.unique(numbers, return_index=True)[1]] = False
        steps = np.zeros(len(page.words) + 1, np.int64)
        steps[:len(later)] += later
        steps[n:n + len(later)] -= later
        return share(page.lengths[np.cumsum(steps[:-1]) > 0].sum(), page.lengths.sum())

    return measure


# ---- C4

def sentences(page: Page) -> float:
    """How many sentences: what ends in a full stop, or a mark of exclamation or question, before white space."""
    return len(END.findall(page.text))


def lorem_ipsum(page: Page) -> float:
    """How often it says "lorem ipsum"."""
    return page.text.lower().count("lorem ipsum")


def braces(page: Page) -> float:
    """How many curly brackets it has."""
    return page.text.count("{") + page.text.count("}")
