"""Figures of a task: confusion of classes, bars of each class, reliability, and metrics over evaluations."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.numbers import floats
from twinscale.benchmarks.report.plots import (
    BAD,
    FIRST,
    MUTED,
    RULE,
    SECOND,
    WIDE,
    blank,
    literal,
)
from twinscale.common.metrics.classes import PARTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS, DARKEST = 10, 0.7  # shades, and the opacity of the last
WRITTEN, NAMED = 10, 26  # classes up to which cells have their counts, and rows their names
LOOKS = ((FIRST, "-", "o", 0.9), (SECOND, "--", "D", 0.9))  # colour, line, mark and opacity of either side


def short(name: str, most: int = 16) -> str:
    """A name that a figure has room for."""
    return literal(name if len(name) <= most else f"{name[:most - 1]}…")


def confusion(width: float, matrices: Mapping[str, Sequence[Sequence[float]]], names: Sequence[str],
              sides: Mapping[str, str]) -> "Figure":
    """A heat map for either side, each row by the share of its label, and one of the difference of their counts."""
    tables = {side: floats_of(matrices[side]) for side in sides if side in matrices}
    count = len(names)
    panels = [(sides[side], x, share_of(x), (FIRST, FIRST)) for side, x in tables.items()]
    if len(tables) == 2:
        apart = np.subtract(*tables.values())
        largest = np.abs(apart).max(initial=0.0)
        panels.append(("difference", apart, apart / largest if largest else apart, (BAD, SECOND)))
    wide = width == WIDE
    figure = blank(width, 0.2 + (3.1 if wide else 2.9 * len(panels)))
    places = figure.subplots(*((1, len(panels)) if wide else (len(panels), 1)), squeeze=False).ravel()
    for number, (axes, (title, counts, depth, colours)) in enumerate(zip(places, panels, strict=True)):
        heat(axes, depth, colours)
        if count <= WRITTEN:
            for i, j in np.argwhere(counts != 0):
                axes.text(j + 0.5, i + 0.5, f"{counts[i, j]:.3g}", ha="center", va="center", fontsize=6.5)
        axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal", xlabel="predicted")
        axes.set_title(short(title, 30), pad=4)
        axes.grid(False)
        ticks = np.arange(count) + 0.5 if count <= NAMED else []
        told = [short(name, 12) for name in names] if count <= NAMED else []
        axes.set_xticks(ticks, told, rotation=90, fontsize=6.5)
        axes.set_yticks(ticks, told if number == 0 or not wide else [""] * len(told), fontsize=6.5)
        axes.tick_params(length=0)
        if number == 0 or not wide:
            axes.set_ylabel("label")
    return figure


def floats_of(table: Any) -> np.ndarray:
    """A square table out of the verdict."""
    return np.array([floats(row) for row in table], float)


def share_of(counts: np.ndarray) -> np.ndarray:
    """Each row as shares of its sum."""
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)


def heat(axes: Any, depth: np.ndarray, colours: tuple[str, str]) -> None:
    """Cells of a table from -1 to 1, of one colour above 0 and another below; a path for each shade, so that a large
    table stays small."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], float)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    for sign, colour in ((1, colours[0]), (-1, colours[1])):
        shade = np.ceil(np.where(sign * depth > 0, sign * depth, 0.0) * LEVELS)
        for level in range(1, LEVELS + 1):
            at = np.argwhere(shade == level)
            if len(at):
                vertices = np.concatenate([corners + (j, i) for i, j in at])
                axes.add_patch(PathPatch(Path(vertices, codes * len(at)), facecolor=colour, linewidth=0,
                                         alpha=DARKEST * level / LEVELS))


def bars(width: float, rows: Sequence[Mapping[str, Any]], sides: Mapping[str, str]) -> "Figure":
    """Precision, recall and F1 of each class, a bar for either side."""
    wide, at = width == WIDE, np.arange(len(rows))
    high = 0.25 + (0.16 + 0.12 * len(sides)) * len(rows)
    figure = blank(width, (0.55 + high) if wide else 0.5 + 3 * (0.3 + high))
    places = figure.subplots(*((1, 3) if wide else (3, 1)), squeeze=False).ravel()
    thick = 0.8 / len(sides)
    for number, (axes, part) in enumerate(zip(places, PARTS, strict=True)):
        for i, (side, label) in enumerate(sides.items()):
            values = floats([(row.get(side) or {}).get(part) for row in rows])
            axes.barh(at + (i - (len(sides) - 1) / 2) * thick, np.nan_to_num(values), height=0.9 * thick,
                      color=LOOKS[i][0], alpha=0.85, linewidth=0, label=short(label, 30))
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
        axes.set_title({"f1": "F1"}.get(part, part), pad=4)
        axes.set_yticks(at, [short(row["name"]) for row in rows] if number == 0 or not wide else [""] * len(rows))
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=7.5,
                  handlelength=1)
    return figure


def reliability(width: float, found: Mapping[str, Mapping[str, Any]], sides: Mapping[str, str]) -> "Figure":
    """The share of hits by the mean confidence of each bin, and under it how many positions a bin has."""
    figure = blank(width, 3.4)
    top, under = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="as sure as right")
    for i, (side, label) in enumerate((side, label) for side, label in sides.items() if side in found):
        colour, line, mark, alpha = LOOKS[i]
        confidence, accuracy, count = (floats(found[side].get(key)) for key in ("confidence", "accuracy", "count"))
        top.plot(confidence, accuracy, color=colour, linestyle=line, marker=mark, markersize=4, alpha=alpha,
                 label=short(label, 30))
        under.vlines(confidence + 0.004 * i, 0, count / max(count.sum(), 1e-300), color=colour, linewidth=3,
                     alpha=alpha)
    top.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), ylabel="share of hits")
    top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3 if width == WIDE else 1, fontsize=7.5,
               borderaxespad=0.3)
    under.set_ylim(bottom=0)
    under.set_ylabel("share of all")
    under.set_xlabel("confidence")
    return figure


def curves(width: float, found: Mapping[str, Mapping[str, Any]], sides: Mapping[str, str]) -> "Figure":
    """What sums up the evaluations, a panel for each metric, a line for either side."""
    columns = min(3, len(found)) if width == WIDE else 1
    rows = math.ceil(len(found) / columns)
    figure = blank(width, 0.4 + 1.55 * rows)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (metric, of) in zip(places, found.items(), strict=False):
        for (side, label), look in zip(sides.items(), LOOKS, strict=False):
            if side not in of:
                continue
            colour, line, mark, alpha = look
            values = floats(of[side].get("values"))
            axes.plot(floats(of[side].get("steps")), np.where(np.isfinite(values), values, np.nan), color=colour,
                      linestyle=line, marker=mark, markersize=2.5, alpha=alpha, label=short(label, 30))
        axes.set_title(literal(textwrap.shorten(metric.replace("_", " "), 30, placeholder="…")), pad=4)
        axes.set_facecolor("none")
        axes.grid(color=RULE)
    for axes in places[len(found):]:
        axes.set_visible(False)
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=7.5)
    return figure


