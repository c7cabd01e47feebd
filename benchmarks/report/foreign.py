"""Two trainings that nothing bounds: a page with both curves, and a table on a terminal."""

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.numbers import floats, sig
from twinscale.benchmarks.report import plots
from twinscale.benchmarks.report.page import drawn, ordered, reproduced, write
from twinscale.benchmarks.report.terminal import PIPED, fit
from twinscale.benchmarks.report.words import number
from twinscale.common.files.access import shown
from twinscale.common.files.output import safe_console, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = (("first", "where they first differ"), ("largest", "where they differ most"), ("final", "the last in both"))
TENSORS = 24  # on a terminal; the page has so many too


def write_differences(found: Mapping[str, Any], out: Path) -> None:
    """Writes report.html and report.md into `out` from what differences.json says; equal figures give equal bytes."""
    write("report", _view(ordered(found)), out, "differences")


def _view(found):
    curve, sides, weights = found["curve"], found["sides"], found.get("weights")
    words = (f"The losses of {number(found['shared'])} steps that both have, and how far they are apart; "
             f"{number(found['equal'])} are equal to the last bit. There is no twin, and so no bound to draw.")
    if found["thinned"] or len(curve["steps"]) > plots.KEPT:
        words += " Of many steps the figure shows the one with the largest difference of each stretch."
    return {
        "v": found, "rows": rows_of(found), "labels": [*sides.values()],
        "facts": [("first", sides["a"]), ("second", sides["b"]), ("steps in both", number(found["shared"])),
                  ("equal to the last bit", number(found["equal"])), ("bounded by", "nothing")],
        "read": [(sides[side], r["form"], r["step"], r["loss"], number(r["steps"]),
                  f"{number(r['first'])} to {number(r['last'])}") for side, r in sorted(found["read"].items())],
        "figure": drawn("losses", words, two_curves, curve, sides),
        "tensors": tensor_rows(weights)[:TENSORS] if weights else None,
        "unmatched": unmatched_lines(weights) if weights else [],
        **reproduced("differences", found | {"versions": {"here": found["made"]["versions"]}}, {"here": "version"})}


def rows_of(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(what, step, the first's loss, the second's, difference, share of the larger) of the steps that are told."""
    return [(what, number(row["step"]), sig(row["a"], 7), sig(row["b"], 7), sig(row["difference"]),
             sig(row["relative"])) for name, what in STEPS if (row := found[name])]


def tensor_rows(weights: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(tensor, what it is made of, shape, relative difference, absolute) of tensors, the furthest apart first."""
    return [(row["tensor"], ", ".join(row["of"]), " × ".join(map(str, row["shape"])) or "one number",
             "equal" if row["equal"] else sig(row["relative"]), sig(row["absolute"])) for row in weights["tensors"]]


def unmatched_lines(weights: Mapping[str, Any]) -> list[str]:
    """A line of each side that has tensors without a line of the match."""
    return [f"unmatched of {weights[side]}: {', '.join(names[:TENSORS])}" + ", ..." * (len(names) > TENSORS)
            for side, names in sorted(weights["unmatched"].items()) if names]


def two_curves(width: float, curve: Mapping[str, Any], sides: Mapping[str, str]) -> "Figure":
    """Both losses, and under them their absolute difference on a log axis; an exact zero is a gap."""
    data = plots.thinned({key: floats(curve[key]) for key in ("steps", *sorted(sides), "difference")})
    figure = plots.blank(width, 4.1)
    top, under = figure.subplots(2, sharex=True)
    looks: Any = ({"color": plots.FIRST, "linewidth": 3, "alpha": 0.55},
                  {"color": plots.SECOND, "linestyle": (0, (3, 1.5))})
    for (side, label), look in zip(sorted(sides.items()), looks, strict=True):
        top.plot(data["steps"], data[side], label=plots.literal(textwrap.shorten(label, 36, placeholder="…")), **look)
    top.set_title("Training loss", pad=30)
    top.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3)
    apart = data["difference"]
    if (apart > 0).any():
        under.set_yscale("log")
    under.plot(data["steps"], np.where(apart > 0, apart, np.nan), ".-", color=plots.MUTED, linewidth=0.6, markersize=3)
    under.set_title("Absolute difference of the losses")
    under.set_xlabel("step")
    return figure


def show(found: Mapping[str, Any]) -> None:
    """Prints the told steps and the tensors, then the sentence, on stdout."""
    console = safe_console(width=None if sys.stdout.isatty() else PIPED)

    def safe(text):
        return fit(shown(text, 10_000), console.encoding)

    def table(names, rows, right):
        console.print(table_of(names, (map(safe, row) for row in rows), right=right, tight=True))

    table(("", "step", "first", "second", "difference", "relative"), rows_of(found), range(1, 6))
    weights = found.get("weights")
    if weights:
        rows = tensor_rows(weights)
        table(("tensor", "of", "shape", "relative", "absolute"), rows[:TENSORS], (3, 4))
        if len(rows) > TENSORS:
            console.print(safe(f"{len(rows) - TENSORS} more tensors, which are nearer: --json has all"))
        for line in unmatched_lines(weights):
            console.print(safe(line))
    console.print(safe(found["sentence"]))
    for line in found["limits"]:
        console.print(safe(f"- {line}"))
