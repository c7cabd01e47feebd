"""Generated ids as text, and what of it can be said."""

import pytest

from twinscale.common.data.tokenizers import byte_tokenizer
from twinscale.common.generation.loop import Row
from twinscale.common.generation.sample import Choice
from twinscale.common.generation.text import ended, ending, saying, settled, text_of

BYTES = byte_tokenizer()


def test_rows_end_at_a_document_or_a_stop():
    done = ending(BYTES, ["stop"])
    assert [done([*b"a sto"]), done([*b"a stop"]), done([97, BYTES.end])] == ["", "stop", "end"]
    assert text_of(BYTES, ["stop", "p now"], [*b"a stop now"]) == "a " and ended(BYTES, [], [97]) == ""


@pytest.mark.parametrize(("text", "stops", "said"), [
    ("ab", [], "ab"), ("a\ufffd", [], "a"), ("a" + "\ufffd" * 5, [], "a\ufffd\ufffd"), ("a st", ["stop"], "a "),
    ("a st", ["t", "a step"], "")])
def test_what_may_still_change_is_not_said(text, stops, said):
    assert settled(text, stops) == said


def test_rows_are_said_in_their_order_and_no_character_twice():
    said, rows = [], [Row([]), Row([])]
    tell = saying(lambda ids: text_of(BYTES, ["!"], ids), ["!"], ["<1>", "<2>"], said.append)
    first, second = "h\u00e9l!".encode(), b"you"
    for number in range(max(len(first), len(second))):
        for row, text in zip(rows, (first, second), strict=True):
            if number < len(text):
                row.choices.append(Choice(text[number], 0.0, 0.0))
                row.ended = "stop" if number == len(text) - 1 else ""
        tell(rows)
    assert "".join(said) == "<1>h\u00e9l\n\n<2>you\n" and said[:2] == ["<1>", "h"]
