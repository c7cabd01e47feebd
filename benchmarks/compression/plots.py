"""The figures of a compression's report, as `benchmarks.report.plots` draws those of a verdict."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.numbers import as_float, floats, size
from twinscale.benchmarks.report.plots import INK, MARKS, MUTED, TITLES, WIDE, blank, decades_of, literal, positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNKNOWN = (MUTED, "s")
LETTER = 4.1  # points that a letter of a small text takes, nearly


def pareto(width: float, points: Sequence[Mapping[str, Any]], metric: str) -> "Figure":
    """A metric over the bytes of each file, smaller files to the left, with the front that no other file beats.

    Args:
      points: of each file {"backend", "label", "bytes", "zipped", "value", "front", "hollow", "note"}; the front is
        drawn through those that have it. Points of one label share a text.
      metric: what the value is, for the axis.
    """
    wide, texts = width == WIDE, _texts(points, 30 if width == WIDE else 16)
    across, up = 72 * width - 55, 198 if wide else 223  # the axes in points, nearly
    sizes = positive([p[key] for p in points for key in ("bytes", "zipped")])
    low, high = math.log10(sizes.min()), math.log10(sizes.max())
    pad = 0.08 * max(high - low, 0.3)
    share = min(0.5, (LETTER * max(len(line) for lines in texts.values() for line in lines) + 14) / across)
    span = (low - pad, high + (high - low + pad) * share / (1 - share))  # at the right, room for a text
    values = floats([p["value"] for p in points])
    room = 0.16 * (np.ptp(values) or abs(values[0]) / 10 or 1)
    limits = (values.min() - room, values.max() + room)
    figure = blank(width, 3.5 if wide else 3.9)
    axes = figure.add_subplot(xlim=span, ylim=limits)
    front = sorted({(math.log10(as_float(p["bytes"])), as_float(p["value"])) for p in points if p["front"]})
    x, y = ([*column] for column in zip(*front, strict=True))
    axes.plot([*x, span[1]], [*y, y[-1]], color=INK, linewidth=1, linestyle="--", drawstyle="steps-post", label="front")
    for point, (at, value) in zip(points, zip(_log10(points, "bytes"), values, strict=True), strict=True):
        colour, marker = MARKS.get(point["backend"], UNKNOWN)
        end = _log10([point], "zipped")[0]
        axes.plot([end, at], [value, value], color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(end, value, "|", color=colour, markersize=6)
        largest = marker == MARKS["keras"][1]  # and under the others, so that neither hides the other in one place
        axes.plot(at, value, marker, color=colour, markersize=8 if largest else 4.8, markeredgewidth=1.4,
                  zorder=2 if largest else 3, markerfacecolor="none" if point["hollow"] else colour)
    _label_points(axes, points, texts, (across, up))
    _backend_legend(axes, points, [("|", "zipped")])
    ticks = _size_ticks(*span, 6 if wide else 4)
    axes.set_xticks([*ticks], [*ticks.values()])
    axes.set_xlabel("size of the file")
    axes.set_title(literal(textwrap.shorten(metric, 48, placeholder="…")), pad=20)
    return figure


def _texts(points, most):
    """{label: the lines that stand beside its points}, no longer than `most` letters."""
    texts = {}
    for point in points:
        texts.setdefault(point["label"], []).append(point["note"])
    return {label: [*textwrap.wrap(textwrap.shorten(label, 30, placeholder="…"), most),
                    *[f"{' / '.join(filter(None, notes))} ms"] * any(notes)] for label, notes in texts.items()}


def _label_points(axes, points, texts, extent):
    """Writes each text once, where it covers no other and few points, with a thin line to each point it names."""
    span, limits, (across, up) = axes.get_xlim(), axes.get_ylim(), extent

    def place(x, y):  # of the data, in points of the page
        return ((np.asarray(x) - span[0]) / (span[1] - span[0]) * across,
                (np.asarray(y) - limits[0]) / (limits[1] - limits[0]) * up)

    values = floats([p["value"] for p in points])
    at, ends = np.stack(place(_log10(points, "bytes"), values), 1), place(_log10(points, "zipped"), values)[0]
    taken = [(5, (x - 5, y - 5, x + 5, y + 5)) for x, y in at]
    taken += [(2, (end, y - 1, x, y + 1)) for (x, y), end in zip(at, ends, strict=True) if end < x]
    corners = sorted((x, y) for (x, y), p in zip(at, points, strict=True) if p["front"])
    for (x, y), (right, top) in zip(corners, [*corners[1:], (across, corners[-1][1])], strict=True):
        taken += [(2, (x, y - 1, right, y + 1)), (2, (right - 1, min(y, top), right + 1, max(y, top)))]
    members = {label: [i for i, p in enumerate(points) if p["label"] == label] for label in texts}
    for label in sorted(texts, key=lambda label: -at[members[label], 1].mean()):
        lines, named = texts[label], at[members[label]]
        box, side = _place(named, LETTER * max(map(len, lines)), 9.5 * len(lines), taken, across, up)
        taken.append((100, box))
        x, y = box[0 if side > 0 else 2], (box[1] + box[3]) / 2
        for px, py in named:
            axes.plot([x / across, px / across], [y / up, py / up], color=MUTED, linewidth=0.5, zorder=1,
                      transform=axes.transAxes)
        axes.text(x / across, y / up, literal("\n".join(lines)), transform=axes.transAxes, fontsize=7.5, va="center",
                  ha="left" if side > 0 else "right", linespacing=1.15)


def _place(members, wide, high, taken, across, up):
    """The box (left, bottom, right, top) of a label and the side of its points it stands on: nearby, inside the axes,
    and on as little as can be of what is taken, [(cost, box)]."""
    best = None
    x, y = members.mean(0)
    for side in (1, -1):
        start = members[:, 0].max() + 9 if side > 0 else members[:, 0].min() - 9 - wide
        for shift in range(-150, 151, 5):
            box = (start, y + shift - high / 2, start + wide, y + shift + high / 2)
            outside = box[0] < 0 or box[1] < 0 or box[2] > across or box[3] > up
            cost = abs(shift) / 20 + 1000 * outside + sum(
                c for c, b in taken if box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3])
            if best is None or cost < best[0]:
                best = cost, box, side
    return best[1:]


def latencies(width: float, rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """The median of each file's latency, a bar from it to the 95th percentile; a line for each stage and file.

    Args:
      rows: of each line {"label", "note", "points": [{"backend", "median", "p95", "hollow"}]}.
    """
    wide = width == WIDE
    figure = blank(width, 0.95 + (0.34 if wide else 0.5) * len(rows))
    axes = figure.add_subplot(ylim=(len(rows) - 0.45, -0.6 if wide else -0.8))
    for at, row in enumerate(rows):
        shifts = np.linspace(-0.17, 0.17, len(row["points"])) if len(row["points"]) > 1 else [0.0]
        for point, shift in zip(row["points"], shifts, strict=True):
            colour, marker = MARKS.get(point["backend"], UNKNOWN)
            median, slow = as_float(point["median"]), as_float(point["p95"])
            axes.plot([median, slow], [at + shift] * 2, color=colour, linewidth=1.6, alpha=0.6)
            axes.plot(median, at + shift, marker, color=colour, markersize=5, markeredgewidth=1.2,
                      markerfacecolor="none" if point["hollow"] else colour)
        if wide:
            axes.text(1.03, at, literal(row["note"]), transform=axes.get_yaxis_transform(), va="center", fontsize=7.5)
    names = [literal(textwrap.shorten(row["label"], 34, placeholder="…")) for row in rows]
    axes.set_yticks(range(len(rows)), names if wide else [""] * len(rows), fontsize=7.5)
    for at, (row, name) in enumerate(zip(rows, names, strict=True) if not wide else ()):
        note = literal(f", zipped {row['note']}" if row["note"] else "")
        axes.text(0, at - 0.3, name + note, transform=axes.get_yaxis_transform(), va="bottom", fontsize=7.5)
    if wide and any(row["note"] for row in rows):
        axes.text(1.03, 1.02, "zipped", transform=axes.transAxes, va="bottom", fontsize=7.5, color=MUTED)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    _backend_legend(axes, [point for row in rows for point in row["points"]], [("_", "median to 95th percentile")])
    axes.set_xlabel("milliseconds")
    return figure


def _backend_legend(axes, points, others):
    """A legend above the axes: backends by colour and shape, the dashed line if there is one, and what is muted."""
    for backend in dict.fromkeys(p["backend"] for p in points):
        colour, marker = MARKS.get(backend, UNKNOWN)
        name = textwrap.shorten(TITLES.get(backend, str(backend)), 16, placeholder="…")
        axes.plot([], [], marker, color=colour, label=literal(name), markersize=5.5)
    for marker, label in others:
        axes.plot([], [], marker, color=MUTED, label=label, markersize=7)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] == "front")
    axes.legend([handles[i] for i in order], [labels[i] for i in order], loc="lower left", bbox_to_anchor=(0, 1),
                ncols=4, handlelength=1.6, columnspacing=1.2, handletextpad=0.5, fontsize=7.5, borderaxespad=0.3)


def _log10(points, key):
    """The decades of a size of each point, not a number where it has none."""
    return decades_of(floats([p[key] for p in points]), math.nan)


def _size_ticks(low, high, most):
    """{decades: text} of round sizes between two powers of ten, as many as fit."""
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [d * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for d in digits]
        inside = [v for v in values if low <= math.log10(v) <= high]
        if len(inside) <= most:
            break
    step = math.ceil(len(inside) / most) or 1
    return {math.log10(v): f"{v:g} B" if v < 1e3 else re.sub(r"\.0+(?= )", "", size(v)) for v in inside[::step]}
