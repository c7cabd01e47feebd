"""Sources of data, own and others'."""

import re

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.sources import SOURCES, Data, Source, is_added, source_named, unfit


def test_what_is_nobodys_is_still_an_unknown_source():
    assert all(map(is_added, ["a.py:B", "a/b.py:C", "a.b:C", "pytest:C"]))
    assert not any(map(is_added, ["dir:pics", "txt:a", "json:rows", "stdlb", "text:x.py:Y", "csv:a.py:B", None, 3]))


@pytest.mark.parametrize(("values", "said"), [
    ({"holds": "sounds"}, "one of text, images, either, arrays"), ({"holds": "text"}, "no documents"),
    ({"holds": "either"}, "no documents"), ({"holds": "images"}, "no images"), ({"holds": "arrays"}, "no arrays"),
    ({"holds": "labelled"}, "no labelled")])
def test_a_source_that_is_not_whole_is_refused_where_it_is_made(values, said):
    with pytest.raises(BadInput, match=said):
        Source(fingerprint=str, **values)
    assert len(SOURCES.builtin) == 13


def data(**values):
    return Data.model_validate(values)


@pytest.mark.parametrize(("values", "reads", "said"), [
    ({"source": "digits", "augment": ["flip"]}, "arrays", 'data.augment is for images, .*arrays: leave out "flip"'),
    ({"source": "digits", "augment": ["span-mask"]}, "images", "data.augment is for word pieces"),
    ({"source": "stdlib", "augment": ["word-dropout"]}, "text", "data.augment is for word pieces"),
    ({"source": "stdlib", "masked": 0.2}, "text", "data.masked=0.2 is of word pieces"),
    ({"source": "stdlib", "next_sentence": True}, "text", "data.next_sentence is of word pieces"),
    ({"source": "stdlib"}, "arrays", "holds text, .*reads arrays; to train on text without labels, set data.masked"),
    ({"source": "random", "masked": 0.2}, "arrays", "holds arrays, and no text, which data.masked=0.2 is of"),
    ({"source": "stdlib", "rewrite": "pytest:raises"}, "text", "data.rewrite is for texts with a label")])
def test_what_a_family_cannot_read_is_said_with_what_to_do(values, reads, said):
    asked = data(**values)
    assert re.search(said, unfit(asked, source_named(asked.source), reads, "x") or "")


def test_text_without_labels_is_read_where_arrays_are_made_of_it():
    for values in ({"masked": 0.2}, {"next_sentence": True}, {"masked": 0.2, "augment": ["word-dropout"]}):
        assert unfit(data(**values), source_named("stdlib"), "arrays", "x") is None
    assert unfit(data(augment=["flip"]), source_named("digits"), "images", "x") is None
