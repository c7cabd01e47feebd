"""Figures of a search: how it went, what the metric depends on, and what it costs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.report.plots import BAND, FIRST, GOOD, INK, MUTED, NARROW, SECOND, blank, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2, "fontsize": 7.5}


def history(width: float, numbers: Sequence[int], values: Sequence[float], direction: str, metric: str) -> "Figure":
    """The metric of each trial that came to its end, and the best up to it."""
    figure = blank(width, 2.4)
    axes = figure.add_subplot()
    best = {"minimize": np.minimum, "maximize": np.maximum}[direction].accumulate(np.asarray(values, float))
    axes.plot(numbers, values, "o", color=FIRST, markersize=4, label="a trial")
    axes.step(numbers, best, where="post", color=SECOND, label="the best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(literal(metric))
    _fitting(axes, values)
    axes.legend(**LEGEND)
    return figure


def importance(width: float, shares: Mapping[str, float]) -> "Figure":
    """A bar for each key: its share of what the metric varies by."""
    names = list(shares)
    figure = blank(width, 0.6 + 0.28 * len(names))
    axes = figure.add_subplot(xlim=(0, 1.12))
    axes.barh(range(len(names)), [shares[name] for name in names], height=0.6, color=FIRST)
    for at, name in enumerate(names):
        axes.text(shares[name] + 0.01, at, f"{shares[name]:.0%}", va="center")
    axes.set_yticks(range(len(names)), [literal(name) for name in names])
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure


def front(width: float, points: Sequence[tuple[int, float, float]], best: Sequence[int], metric: str, cost: str
          ) -> "Figure":
    """The metric of [(number, metric, cost)] against the cost, and the line of those that no other beats in both."""
    figure = blank(width, 2.6)
    axes = figure.add_subplot()
    at = {number: (spent, value) for number, value, spent in points}
    axes.plot(*zip(*at.values(), strict=True), "o", color=BAND, markersize=4, label="a trial")
    line = [at[number] for number in best if number in at]
    axes.plot(*zip(*line, strict=True), "o-", color=GOOD, markersize=5, linewidth=1, label="no other beats it in both")
    for number in best[:12]:
        axes.annotate(str(number), at[number], (3, 3), textcoords="offset points", fontsize=7, color=INK)
    costs = [spent for spent, _ in at.values()]
    if min(costs) > 0 and max(costs) > 8 * min(costs):
        axes.set_xscale("log")
    axes.set_xlabel(literal(cost))
    axes.set_ylabel(literal(metric))
    _fitting(axes, [value for _, value in at.values()])
    axes.legend(**LEGEND)
    return figure


def slices(width: float, axes_of: Sequence[Mapping[str, Any]], rows: Sequence[tuple[Mapping[str, Any], float]],
           metric: str) -> "Figure":
    """A panel for each key: the metric of each trial against the key's value. Rows are [(values, metric)]."""
    across = 1 if width == NARROW else min(3, len(axes_of))
    down = -(-len(axes_of) // across)
    figure = blank(width, 1.9 * down + 0.2)
    for place, axis in enumerate(axes_of, 1):
        panel = figure.add_subplot(down, across, place)
        found = [(values[axis["key"]], value) for values, value in rows if axis["key"] in values]
        if "choices" in axis:
            kinds = [str(choice) for choice in axis["choices"]]
            panel.plot([kinds.index(str(x)) for x, _ in found], [y for _, y in found], "o", color=FIRST, markersize=3.5)
            panel.set_xticks(range(len(kinds)), [literal(kind[:12]) for kind in kinds])
            panel.set_xlim(-0.5, len(kinds) - 0.5)
        else:
            panel.plot([x for x, _ in found], [y for _, y in found], "o", color=FIRST, markersize=3.5)
            if axis["log"]:
                panel.set_xscale("log")
        panel.set_title(literal(axis["key"]), fontsize=8)
        panel.tick_params(labelsize=7, color=MUTED)
        if (place - 1) % across == 0:
            panel.set_ylabel(literal(metric))
        _fitting(panel, [y for _, y in found])
    return figure


def _fitting(axes: "Axes", values: Sequence[float]) -> None:
    """A log axis where values span more than a decade and a half: one bad trial must not flatten all others."""
    if len(values) and min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
