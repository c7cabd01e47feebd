"""Where a row ends, and what of it is said while more may follow."""

import pytest

from twinscale.common.data.tokenizers import byte_tokenizer
from twinscale.common.generation.loop import Row
from twinscale.common.generation.sample import Choice
from twinscale.common.generation.text import ending, saying, settled, text_of

BYTES = byte_tokenizer()


def row_of(text, ended=""):
    return Row(BYTES.encode("x"), [Choice(int(i), 0.0, 1.0) for i in text.encode()], ended)


def test_a_row_ends_with_its_document_or_with_a_text_that_spans_tokens():
    ended = ending(BYTES, ["return", "\n\n"])
    assert ended([*BYTES.encode("a"), BYTES.end]) == "end"
    assert [ended(list(BYTES.encode("a retur"))), ended(list(BYTES.encode("a return")))] == ["", "stop"]
    assert ending(BYTES, [])(list(BYTES.encode("a return"))) == ""


def test_the_text_is_that_before_whichever_stops_it_first():
    ids = list(BYTES.encode("ab. c; d"))
    assert text_of(BYTES, [";", "."], ids) == "ab" and text_of(BYTES, [], [*ids, BYTES.end]) == "ab. c; d"


@pytest.mark.parametrize(("text", "stops", "stays"), [
    ("a re", ["return"], "a "), ("a rex", ["return"], "a rex"), ("aab", ["abc", "b!"], "a"), ("a", ["a"], "a"),
    ("a\ufffd", [], "a"), ("a\ufffd\ufffd\ufffd", [], "a"), ("a" + 5 * "\ufffd", [], "a\ufffd\ufffd"), ("", ["x"], "")])
def test_what_may_become_another_text_is_held_back(text, stops, stays):
    assert settled(text, stops) == stays


def test_rows_are_said_one_after_another_as_they_grow_and_never_twice():
    said, stops = [], ["END"]
    tell = saying(lambda ids: text_of(BYTES, stops, ids), stops, ["p", "q"], said.append)
    first, second = row_of("aé"), row_of("b")
    first.choices.pop()  # the second byte of a character
    for one, other in ((first, second), (row_of("aéE"), row_of("bc")), (row_of("aéEN"), row_of("bc", "tokens"))):
        tell([one, other])
    assert "".join(said) == "paé"
    tell([row_of("aéEND", "stop"), row_of("bc", "tokens")])
    assert "".join(said) == "paé\n\nqbc\n"
    tell([row_of("aéEND", "stop"), row_of("bc", "tokens")])
    assert "".join(said) == "paé\n\nqbc\n"
