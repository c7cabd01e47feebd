"""Which side a document is on."""

import numpy as np

from tests.common.data.test_dataset import WORDS, refused
from twinscale.common.data import open_dataset


def test_no_document_is_on_both_sides(recipe, corpus):
    """Each text is there three times; the copies stay together."""
    dataset = open_dataset(recipe(corpus(WORDS * 3), sequence=16, held_out=0.3, cross_documents=True))
    sides = [[], []]
    for side, part in zip(sides, (dataset.train, dataset.held_out), strict=True):
        side += "".join(map(chr, part.tokens.gather(np.arange(len(part.tokens))))).split(chr(256))[:-1]
    assert sorted(sides[0] + sides[1]) == sorted(WORDS * 3)
    assert not set(sides[0]) & set(sides[1]) and all(sides)


def test_adding_documents_moves_none_across_the_split(recipe, corpus):
    source = corpus(WORDS)
    few, all_ = (open_dataset(recipe(source, sequence=16, held_out=0.3, max_documents=n, batch=1)) for n in (20, 0))
    length = len(few.train.tokens)
    assert np.array_equal(few.train.tokens.gather(np.arange(length)), all_.train.tokens.gather(np.arange(length)))


def test_nothing_on_one_side(recipe, corpus):
    refused(recipe(corpus(["one document " * 50])), "data.held_out=0.02", "1 documents in all", "raise data.held_out")
    refused(recipe("digits", held_out=0.9999999), "train split", "lower data.held_out")
