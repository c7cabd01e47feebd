"""What preflight says of XLA's options: a table on a terminal, and one in Markdown for a page."""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twinscale.benchmarks.preflight.words import PIPED, gib, named
from twinscale.common.files.output import safe_console, table_of

HEADS = ("option", "set", "effect", "HBM", "sent", "waited for", "a link", "asynchronous", "compile, s")
NONE = "–"


def show_options(result: Mapping[str, Any]) -> None:
    """Prints a table for each topology on stdout, and why what was not compiled was not."""
    console = safe_console(width=None if sys.stdout.isatty() else PIPED)
    for each in result["topologies"]:
        console.print(table_of(HEADS, lines_of(each), f"{result['recipe']['name']} on {named(each)}, libtpu "
                               f"{result['libtpu']}: each option, without it → with it"))
        for text in reasons(each):
            console.print(text)


def markdown(result: Mapping[str, Any]) -> str:
    """The same tables as Markdown."""
    parts = []
    for each in result["topologies"]:
        rows = [HEADS, [":--"] * len(HEADS), *([f"`{name}`", *cells] for name, *cells in lines_of(each))]
        parts += [f"`{result['recipe']['name']}` on {named(each)}, libtpu {result['libtpu']}, each option without it → "
                  "with it:", "\n".join(f"| {' | '.join(cells)} |" for cells in rows),
                  "\n".join(f"- {text}" for text in reasons(each))]
    return "\n\n".join(part for part in parts if part) + "\n"


def lines_of(table: Mapping[str, Any]) -> Iterator[list[str]]:
    """The cells of a topology's lines."""
    for line in table["options"]:
        off, on = line["off"], line["on"]
        state = line["effect"] or line["state"]
        sizes: list[str] = [both(off, on, lambda side, name=name: gib(side[name])) for name in (
            "hbm_bytes_per_device", "bytes_sent", "bytes_waited_for", "bytes_per_link")]
        yield [line["option"], "yes" if line["set"] else "no", state, *sizes, both(off, on, beside),
               both(off, on, lambda side: f"{side['compile_seconds']:.0f}" if side["compile_seconds"] else NONE)]


def both(off: Mapping[str, Any] | None, on: Mapping[str, Any] | None, cell: Callable[[Mapping[str, Any]], str]) -> str:
    """A figure without an option and with it; one where they are equal."""
    if off is None or on is None:
        return NONE
    before, after = cell(off), cell(on)
    return before if before == after else f"{before} → {after}"


def beside(side: Mapping[str, Any]) -> str:
    """How many of a step's collectives are asynchronous, and how many run on SparseCores."""
    if side["collectives"] is None:
        return NONE
    count, asynchronous, sparse = (sum(each[name] for each in side["collectives"])
                                   for name in ("count", "asynchronous", "sparsecore"))
    return f"{asynchronous} of {count}" + (f", {sparse} on SparseCores" if sparse else "")


def reasons(table: Mapping[str, Any]) -> Iterator[str]:
    """What was said of each option that has no figures."""
    for line in table["options"]:
        if line["said"]:
            yield f"{line['option']}: {line['state']}: {line['said']}"
