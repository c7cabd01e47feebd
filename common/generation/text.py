"""Generated ids as text: where a row ends, and what of it can be said while more may follow."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twinscale.common.data.tokenizers import Tokenizer
from twinscale.common.generation.loop import Row

BROKEN = "\ufffd"  # what a tokenizer makes of bytes that are no UTF-8, such as the first ones of a character
LONGEST = 3  # of them at the end may become one with what follows: a character has 4 bytes at most


def ending(tokenizer: Tokenizer, stops: Sequence[str]) -> Callable[[list[int]], str]:
    """Of a row's ids: "end" where the last is the end of a document, "stop" where one of `stops` is in their text, or
    ""."""
    return partial(ended, tokenizer, stops)


def ended(tokenizer: Tokenizer, stops: Sequence[str], ids: list[int]) -> str:
    """As `ending`."""
    if ids[-1] == tokenizer.end:
        return "end"
    if not stops:
        return ""
    text = tokenizer.decode(ids)
    return "stop" if any(stop in text for stop in stops) else ""


def text_of(tokenizer: Tokenizer, stops: Sequence[str], ids: list[int]) -> str:
    """The text of a row, up to where it stops."""
    text = tokenizer.decode(ids)
    return text[:min([len(text), *(text.index(stop) for stop in stops if stop in text)])]


def settled(text: str, stops: Sequence[str]) -> str:
    """The part of a row's text so far that stays, whatever follows: not the beginning of a character, nor of a stop."""
    kept = text.rstrip(BROKEN)
    kept = text[:max(len(kept), len(text) - LONGEST)]
    most = max((size for stop in stops for size in range(1, len(stop)) if kept.endswith(stop[:size])), default=0)
    return kept[:len(kept) - most]


def saying(texts: Callable[[list[int]], str], stops: Sequence[str], prompts: Sequence[str], say: Callable[[str], Any]
           ) -> Callable[[Sequence[Row]], None]:
    """What says rows in their order while they grow, when it is called with them after each token: the first that has
    not ended is said as it comes, after its prompt; those behind it wait. `texts` is the text of ids."""
    at, said = 0, -1  # the row that is said, and how many characters of it; -1: its prompt neither

    def tell(rows):
        nonlocal at, said
        while at < len(rows):
            row = rows[at]
            if said < 0:
                say(prompts[at])
                said = 0
            text = texts(row.ids)
            text = text if row.ended else settled(text, stops)
            say(text[said:])
            said = max(said, len(text))
            if not row.ended:
                return
            say("\n" if at == len(rows) - 1 else "\n\n")
            at, said = at + 1, -1

    return tell
