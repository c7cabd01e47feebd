"""What [data] says of the quality of texts, and of how many of them: which rules remove documents to train on, their
thresholds, and the subset that is taken of what is left. `common/data/quality` applies it."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from twinscale.common.section import Count, NonNegative, Section

Rule = Literal["length", "symbols", "repetition", "c4", "exact", "near"]

Share = Annotated[float, Field(ge=0, le=1)]


class Thresholds(Section):
    """Where the rules of `data.quality` remove a document: below a `_least`, or above a `_most`."""

    words_least: Count = Field(50, description="of length: words of a document")
    words_most: PositiveInt = Field(100_000, description="of length: words of a document")
    word_length_least: NonNegative = Field(3.0, description="of length: characters of a word in the mean")
    word_length_most: NonNegative = Field(10.0, description="of length: characters of a word in the mean")
    hashes_most: NonNegative = Field(0.1, description="of symbols: hash signs a word")
    ellipses_most: NonNegative = Field(0.1, description="of symbols: ellipses a word")
    bullets_most: Share = Field(0.9, description="of symbols: share of lines that begin with a bullet")
    ellipsis_lines_most: Share = Field(0.3, description="of symbols: share of lines that end with an ellipsis")
    letters_least: Share = Field(0.8, description="of symbols: share of words with a letter")
    stop_words_least: Count = Field(2, description="of symbols: how many of the, be, to, of, and, that, have, with")
    lines_most: Share = Field(0.3, description="of repetition: share of lines that were there before")
    paragraphs_most: Share = Field(0.3, description="of repetition: share of paragraphs that were there before")
    line_characters_most: Share = Field(0.2, description="of repetition: characters of such lines")
    paragraph_characters_most: Share = Field(0.2, description="of repetition: characters of such paragraphs")
    top_2_most: Share = Field(0.2, description="of repetition: characters of the commonest 2 words in a row")
    top_3_most: Share = Field(0.18, description="of repetition: characters of the commonest 3 words in a row")
    top_4_most: Share = Field(0.16, description="of repetition: characters of the commonest 4 words in a row")
    again_5_most: Share = Field(0.15, description="of repetition: characters of 5 words in a row that were there")
    again_6_most: Share = Field(0.14, description="of repetition: characters of 6 words in a row that were there")
    again_7_most: Share = Field(0.13, description="of repetition: characters of 7 words in a row that were there")
    again_8_most: Share = Field(0.12, description="of repetition: characters of 8 words in a row that were there")
    again_9_most: Share = Field(0.11, description="of repetition: characters of 9 words in a row that were there")
    again_10_most: Share = Field(0.1, description="of repetition: characters of 10 words in a row that were there")
    sentences_least: Count = Field(3, description="of c4: sentences of a document")
    lorem_ipsum_most: Count = Field(0, description='of c4: times that "lorem ipsum" is in a document')
    braces_most: Count = Field(0, description="of c4: curly brackets in a document")
    near_similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="of near: share of shingles in common, as it is estimated, from which on two are duplicates")
    near_words: PositiveInt = Field(5, description="of near: words of a shingle")
    near_bands: Annotated[int, Field(ge=1, le=1024)] = Field(
        16, description="of near: bands, of which one has to be the same for two documents to be looked at")
    near_rows: Annotated[int, Field(ge=1, le=64)] = Field(8, description="of near: hashes of a band")


class Subset(Section):
    """Which of the documents to train on are taken: all of them, or those that come first in an order that their
    contents decide. So a smaller subset is inside of a larger one."""

    share: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="of the documents")
    documents: Count = Field(0, description="how many documents at most; 0: any number")
    bytes: Count = Field(0, description="how many bytes of text at most, which are tokens of data.tokenizer bytes; 0: "
                                        "any number")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(0, description="of the order")
