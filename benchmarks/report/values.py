"""Values of a verdict as a page shows them: shortened, on one line, and with nothing in them that a page would obey."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from twinscale.common.files.access import escaped_lines

PAGE = 900_000  # bytes of embedded JSON
CODE = re.compile(r"`([^`]+)`")


def embedded(verdict: Any) -> tuple[Any, int | None]:
    """The verdict to embed, its long lists shortened until it fits the page, and the entries a list keeps (or None)."""
    kept, small = None, verdict
    while len(json.dumps(small)) > PAGE and (kept or 2048) > 8:
        kept = (kept or 2048) // 2
        small = short(verdict, kept)
    return small, kept


def short(value: Any, limit: int) -> Any:
    """Lists of numbers thinned evenly, other lists cut, so that each has at most `limit` entries."""
    if isinstance(value, dict):
        return {key: short(v, limit) for key, v in value.items()}
    if not isinstance(value, list):
        return value
    numbers = all(isinstance(v, int | float | None) for v in value)
    return value[:: math.ceil(len(value) / limit) or 1] if numbers else [short(v, limit) for v in value[:limit]]


def rank(order: Sequence[str], name: str) -> int:
    """The place of a name in an order that knows some."""
    return order.index(name) if name in order else len(order)


def shown(value: Any) -> Any:
    """What a page has of a value: text of others turns nothing round in it."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    return escaped_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def pretty(value: Any) -> str:
    """JSON for people to read."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def markdown(value: Any) -> Any:
    """Markdown's autoescape: text on one line, and plain."""
    return value if isinstance(value, Markup) else _plain(" ".join(str(shown(value)).split()))


def _plain(text):
    """Markdown with nothing that opens a tag, a link, emphasis or a table cell."""
    return re.sub(r"([\\`*<>\[\]|])", r"\\\1", text)


def prose_html(text: Any) -> Markup:
    """Text whose backticks mark code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(shown(text)))))


def prose_markdown(text: Any) -> Markup:
    """The same in Markdown."""
    parts = CODE.split(" ".join(str(shown(text)).split()))  # code stands at the odd places
    return Markup("".join(code(part) if i % 2 else _plain(part) for i, part in enumerate(parts)))


def code(text: Any) -> Markup:
    """A Markdown code span, fit for a table cell."""
    text = " ".join(str(shown(text)).split()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`") if text else Markup("–")


def fence(text: Any, language: str = "") -> Markup:
    """A Markdown code block whose fence is longer than any inside."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", str(text))), default=0))
    return Markup(f"{ticks}{language}\n{escaped_lines(text).rstrip()}\n{ticks}")
