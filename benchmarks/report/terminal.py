"""A verdict on a terminal: the ladder as a table, the first cause and the sentence, on stdout."""

import sys
from collections.abc import Mapping
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report.page import lead
from twinscale.benchmarks.report.words import margin
from twinscale.benchmarks.rung_table import title_of
from twinscale.common.files.access import shown
from twinscale.common.files.output import safe_console

PIPED = 120  # letters of a line that is not for a terminal
NARROW = 72  # columns under which the bounds are left out
SIGNS, STYLES = {"agrees": "✓", "fails": "✕", "open": "?"}, {"agrees": "green", "fails": "bold red"}
PLAIN = str.maketrans({"✓": "", "✕": "", "×": "x", "–": "-", "−": "-", "→": "->"})  # for what has no such signs


def show(verdict: Mapping[str, Any]) -> None:
    """Prints a verdict's rungs, those too that were not climbed, then what stands first in its report, then its
    sentence; on stdout, which is data. Colours are left to `rich`, which follows NO_COLOR and what stdout is."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = safe_console(width=None if sys.stdout.isatty() else PIPED)
    rungs, narrow = verdict.get("rungs") or [], console.width < NARROW

    def safe(text):
        return fit(shown(text, 10_000), console.encoding)

    if rungs:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("rung", overflow="fold")
        table.add_column("verdict", no_wrap=True)
        for name in () if narrow else ("observed", "bound"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("margin", justify="right", no_wrap=not narrow)
        if not narrow:
            table.add_column("worst at", overflow="fold")
        for rung in rungs:
            cells = [safe(cell) for cell in row(rung, narrow)]
            cells[1] = Text(cells[1], STYLES.get(answer(rung), ""))
            table.add_row(*cells)
        for rung in verdict.get("skipped") or []:
            name = f"{rung['name']} {rung.get('title') or title_of(rung['name'])}"
            table.add_row(safe(name), safe("– not run"), style="dim")
        console.print(table)
    first = lead(rungs, verdict.get("cause"))
    if first:
        console.print(safe(f"{first['what']}: {first['sentence']}."))
    console.print(safe(verdict["sentence"]))


def row(rung: Mapping[str, Any], narrow: bool) -> list[str]:
    """The cells of a rung."""
    title = "" if str(rung["name"]).endswith(f" {rung['title']}") else f" {rung['title']}"
    said = answer(rung)
    cells = [f"{rung['name']}{title}", f"{SIGNS[said]} {said}"]
    figures = [] if narrow else [sig(rung["worst"]), sig(rung["bound"])]
    return [*cells, *figures, margin(rung), *([] if narrow else [rung["where"]])]


def answer(rung: Any) -> str:
    """"agrees", "fails" or "open"."""
    if rung["agrees"]:
        return "agrees"
    return "open" if rung.get("conclusive") is False or rung.get("open") else "fails"


def fit(text: str, encoding: str) -> str:
    """Text that stdout can carry: its signs, or where the encoding has none, plain letters."""
    try:
        text.encode(encoding)
        return text
    except (UnicodeError, LookupError):
        return text.translate(PLAIN).strip().encode("ascii", "backslashreplace").decode()
