"""The figures of a preflight's report, as `benchmarks.report.plots` draws those of a verdict."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.report.plots import BAD, MARKS, MUTED, WIDE, blank, literal, stacked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORY = {"arguments": ("", 1.0), "temporaries": ("", 0.5), "results beyond them": ("xxxx", 0.3), "code": ("////", 0.2),
          "no figure of its parts": ("....", 0.35)}
KINDS = {"all-reduce": ("", 1.0), "reduce-scatter": ("", 0.55), "all-gather": ("////", 0.4),
         "all-to-all": ("xxxx", 0.3), "collective-permute": ("\\\\\\\\", 0.2)}


def memory(width: float, bars: Sequence[Mapping[str, Any]]) -> "Figure":
    """Of each row the parts of a chip's memory in GiB, with its capacity.

    Args:
      bars: of each row {"label", "backend", "parts": {name: GiB}, "capacity": GiB}.
    """
    figure, axes = _stacks(width, bars, MEMORY)
    for row, bar in enumerate(bars):
        axes.plot([bar["capacity"]] * 2, [row - 0.42, row + 0.42], color=BAD, linewidth=2)
    _across(axes, width, "GiB of a chip; the upright line is what it has")
    return figure


def traffic(width: float, bars: Sequence[Mapping[str, Any]], network: str) -> "Figure":
    """Of each row the bytes that a step's collectives add up, gather or move, in MiB of a chip's, by kind."""
    figure, axes = _stacks(width, bars, KINDS)
    _across(axes, width, f"MiB of a chip and step {network}")
    return figure


def _stacks(width, bars, looks):
    names = {name for bar in bars for name in bar["parts"]}
    columns = 4 if width == WIDE else 2 if max(map(len, names)) <= 14 else 1  # no name is cut at the right
    figure = blank(width, 0.8 + 0.17 * -(-len(names) // columns) + 0.4 * len(bars))
    axes = figure.add_subplot()
    stacked(axes, [bar["label"] for bar in bars], [bar["parts"] for bar in bars],
            [MARKS[bar["backend"]][0] for bar in bars], looks, columns)
    if width != WIDE:
        axes.locator_params(axis="x", nbins=4)
    return figure, axes


def _across(axes, width, text):
    """The name of the axis, on as many lines as it needs."""
    axes.set_xlabel(textwrap.fill(text, 90 if width == WIDE else 36))


def roofline(width: float, chips: Mapping[str, tuple[float, float]], points: Sequence[Mapping[str, Any]]) -> "Figure":
    """The roofs of chips, and under them what each row's step could reach at best (Williams et al. 2009).

    Args:
      chips: {name: (operations a second, bytes a second)}.
      points: of each row {"label", "backend", "intensity": operations of a byte moved, "rate": operations a second at
        best, "bound"}.
    """
    figure, here = blank(width, 3.3), Counter()
    axes = figure.add_subplot(xscale="log", yscale="log")
    ridges = [peak / bandwidth for peak, bandwidth in chips.values()]
    at = [point["intensity"] for point in points]
    low, high = min([*ridges, *at]) / 4, max([*ridges, *at]) * 4
    x = np.geomspace(low, high, 200)
    for (name, (peak, bandwidth)), style in zip(chips.items(), ("-", "--", "-.", ":"), strict=False):
        axes.plot(x, np.minimum(peak, bandwidth * x) / 1e12, style, color=MUTED, label=literal(name))
    for point in points:
        colour, marker = MARKS[point["backend"]]
        place = f"{point['intensity']:.2g} {point['rate']:.2g}"  # steps of equal programs: rings, that hide no other
        axes.plot(point["intensity"], point["rate"] / 1e12, marker, color=colour, markersize=5 + 3.5 * here[place],
                  markerfacecolor="none", markeredgewidth=1.4, label=literal(point["label"]))
        here[place] += 1
    axes.set_xlim(low, high)
    _across(axes, width, "operations for each byte that is moved to or from HBM")
    axes.set_ylabel("TFLOP/s of a chip, at best")
    axes.legend(loc="lower right", fontsize=7.5)
    return figure
