"""A verdict as a small table for a notebook. Its colours are the page's own, with shades that are seen on light and on
dark; whatever is of others, such as a path in a sentence, is escaped."""

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.numbers import margin_of, ratio, sig
from twinscale.benchmarks.report import terminal
from twinscale.common.files.access import escaped_lines

if TYPE_CHECKING:
    from twinscale.benchmarks.verdict import Rung, Verdict

SIGNS = {"agrees": ("✓", "#009e73"), "fails": ("✕", "#d55e00"), "open": ("?", "#e69f00")}  # Okabe and Ito's
PLAIN = "color:inherit;background:transparent"
CELL = "padding:.2em .8em .2em 0;text-align:left;border-bottom:1px solid rgba(128,128,128,.35)"


def verdict_html(verdict: "Verdict") -> str:
    """A fragment of HTML: the sentence, a row for each rung with what was observed, its bound and the margin, rungs
    that were not climbed, and the first cause."""
    rows = [cells("th", ("rung", "verdict", "observed", "bound", "margin", "worst at"))]
    rows += [cells("td", (f"{rung.name} {rung.title}", answer(rung), sig(rung.worst), sig(rung.bound),
                          margin_of(ratio(rung.worst, rung.bound)), rung.where)) for rung in verdict.rungs]
    rows += [cells("td", (row.get("name", ""), "– not run", "", "", "", row.get("why", "")))
             for row in verdict.skipped or ()]
    sign, colour = SIGNS[verdict.answer]
    cause = verdict.cause or {}
    said = [verdict.sentence, *([cause["sentence"]] if cause.get("sentence") else []),
            *(f"{what} failed: {why}" for what, why in (verdict.failed or {}).items())]
    words = "".join(f'<p style="margin:.3em 0">{shown(text)}</p>' for text in said)
    return (f'<div style="border-left:.3em solid {colour};padding-left:.8em;{PLAIN}">'
            f'<p style="margin:.3em 0"><strong>{sign} {shown(verdict.answer)}</strong></p>{words}'
            f'<table style="border-collapse:collapse;{PLAIN}">{"".join(rows)}</table></div>')


def answer(rung: "Rung") -> str:
    """Whether a rung agrees, fails or is open, with its sign."""
    said = terminal.answer(rung)
    return f"{SIGNS[said][0]} {said}"


def cells(kind: str, texts: Iterable[Any]) -> str:
    """A row of a table, each cell a tag of that `kind`."""
    return "<tr>" + "".join(f'<{kind} style="{CELL}">{shown(text)}</{kind}>' for text in texts) + "</tr>"


def shown(text: Any) -> str:
    """Text of anybody's, as HTML shows it."""
    return escape(escaped_lines(str(text)[:2000]))
