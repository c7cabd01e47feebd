"""The checks of a text by itself, a row each: of which rule, what is measured, on which side of which threshold of
`data.quality_options` a text is removed, and who has proposed that."""

from collections.abc import Callable
from dataclasses import dataclass

from twinscale.common.data.quality import measures
from twinscale.common.data.quality.measures import Page
from twinscale.common.quality import Thresholds

RAE = "Rae et al. 2021, appendix A.1"
RAFFEL = "Raffel et al. 2020, section 2.2"


@dataclass(frozen=True)
class Check:
    """One check: `measure` of a Page may not be below (`least`) or above the threshold `key` of Thresholds. What it
    removes has the reason "RULE/KEY", such as "length/words_least"."""

    rule: str
    key: str
    measure: Callable[[Page], float]
    cited: str

    @property
    def reason(self) -> str:
        return f"{self.rule}/{self.key}"

    @property
    def least(self) -> bool:
        return self.key.endswith("_least")

    def finds(self, page: Page, thresholds: Thresholds) -> str | None:
        """What it says against a text, or None."""
        value, bound = self.measure(page), getattr(thresholds, self.key)
        if value < bound if self.least else value > bound:
            return f"{value:.4g} is {'below' if self.least else 'above'} {bound:g}"
        return None


CHECKS = (
    Check("length", "words_least", measures.words, RAE),
    Check("length", "words_most", measures.words, RAE),
    Check("length", "word_length_least", measures.word_length, RAE),
    Check("length", "word_length_most", measures.word_length, RAE),
    Check("symbols", "hashes_most", measures.hashes, RAE),
    Check("symbols", "ellipses_most", measures.ellipses, RAE),
    Check("symbols", "bullets_most", measures.bullets, RAE),
    Check("symbols", "ellipsis_lines_most", measures.ellipsis_lines, RAE),
    Check("symbols", "letters_least", measures.letters, RAE),
    Check("symbols", "stop_words_least", measures.stop_words, RAE),
    Check("repetition", "lines_most", measures.lines, RAE),
    Check("repetition", "paragraphs_most", measures.paragraphs, RAE),
    Check("repetition", "line_characters_most", measures.line_characters, RAE),
    Check("repetition", "paragraph_characters_most", measures.paragraph_characters, RAE),
    *(Check("repetition", f"top_{n}_most", measures.top(n), RAE) for n in (2, 3, 4)),
    *(Check("repetition", f"again_{n}_most", measures.again(n), RAE) for n in (5, 6, 7, 8, 9, 10)),
    Check("c4", "sentences_least", measures.sentences, RAFFEL),
    Check("c4", "lorem_ipsum_most", measures.lorem_ipsum, RAFFEL),
    Check("c4", "braces_most", measures.braces, RAFFEL),
)
