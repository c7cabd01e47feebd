"""Sources of data, own and others'."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.sources import SOURCES, Source, is_added


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
    assert len(SOURCES.builtin) == 12
