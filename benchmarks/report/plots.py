"""The report's figures: matplotlib drawings as inline SVG that take their colours from the page's CSS."""

import io
import json
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from twinscale.benchmarks.numbers import as_float, floats, horizon, margin_of, ratio
from twinscale.common.backends import BACKENDS
from twinscale.common.files.access import escaped_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {name: each.title for name, each in BACKENDS.items()}
WIDE, BESIDE, NARROW = 6.8, 4.5, 3.5  # inches; a phone is shown the narrow one, so that text keeps its size
KEPT = 400  # points a curve may have
TENSORS = 12  # checks that a rung's figure shows
DRAWN = {}  # figures by their data

# Each colour drawn stands for a variable of the page's style sheet, which has a light and a dark value for it.
INK, MUTED, RULE, BAND = "#111111", "#666666", "#dddddd", "#bbbbbb"
FIRST, SECOND, THIRD, GOOD, BAD = "#0072b2", "#e69f00", "#cc79a7", "#009e73", "#d55e00"
MARKS = {"keras": (FIRST, "o"), "keras-jax": (THIRD, "s"), "jax": (SECOND, "D")}  # colour and shape of its points
VARIABLES = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)", BAND: "var(--band)",
             FIRST: "var(--first)", SECOND: "var(--second)", THIRD: "var(--third)", GOOD: "var(--good)",
             BAD: "var(--bad)"}
PARTS = {"compile": ("", 1.0), "train": ("", 0.55), "evaluate": ("////", 0.25), "data_wait": ("xxxx", 0.1),
         "lost": ("\\\\\\\\", 0.1)}
OTHER = ("----", 0.2)

STYLE = {
    "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 8, "axes.titlesize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED, "axes.labelcolor": INK,
    "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True, "grid.color": RULE, "grid.linewidth": 0.6,
    "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "legend.frameon": False, "legend.handlelength": 2.6, "legend.borderpad": 0, "hatch.linewidth": 0.5,
    "lines.linewidth": 1.4, "path.simplify": False, "figure.constrained_layout.use": True,
}


def svg(name: str, draw: "Callable[..., Figure]", *args: Any) -> list[str]:
    """The drawing, wide and narrow, as inline SVG; `name` keeps its ids apart from those of other figures."""
    wide = BESIDE if draw is ladder else WIDE
    return [_once(f"{name}-{size}", draw, width, args) for size, width in (("wide", wide), ("narrow", NARROW))]


def drawn(name: str, words: str, draw: "Callable[..., Figure]", *args: Any) -> dict[str, Any]:
    """A figure and what it shows in words, as templates take it."""
    wide, narrow = svg(name, draw, *args)
    return {"words": words, "wide": Markup(wide), "narrow": Markup(narrow)}


def _once(name, draw, width, args):
    """`_render` of equal data once: a report is written again when more is known, most of its figures unchanged."""
    key = json.dumps([name, draw.__module__, draw.__qualname__, width, args], default=repr)
    if key not in DRAWN:
        DRAWN[key] = _render(name, draw, width, args)
    return DRAWN[key]


def _render(name, draw, width, args):
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.text import Text

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # that a font lacks: the page's own fonts are used
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not change the bytes
        matplotlib.rcParams.update(STYLE | {"svg.hashsalt": name})
        figure, file = draw(width, *args), io.StringIO()
        for text in figure.findobj(Text):  # names are others'
            if not text.get_text().isprintable():
                text.set_text(escaped_lines(text.get_text()))
        FigureCanvasSVG(figure)  # whose letters the layout measures
        figure.get_layout_engine().execute(figure)
        matplotlib.rcParams["figure.constrained_layout.use"] = False
        figure.set_layout_engine(None)  # or saving draws it all once more, for the layout alone
        no_date = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_date)
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.S)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text).replace("xlink:href", "href")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)  # the family is the page's
    text = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: re.sub(r"\d+\.\d{3,}", _rounded, found[0]), text)
    return re.sub("|".join(VARIABLES), lambda colour: VARIABLES[colour.group()], text)


def blank(width: float, height: float) -> "Figure":
    """A figure with nothing on it, of so many inches. Matplotlib is imported when the first is drawn, as whoever
    compares has long begun by then."""
    from matplotlib.figure import Figure

    return Figure((width, height))


def _rounded(found):
    return f"{float(found[0]):.2f}"


def ladder(width: float, rungs: Sequence[Mapping[str, Any]]) -> "Figure":
    """One dot per rung: its margin on a log axis, what is within its bound at the left of the line."""
    ratios = [ratio(r.get("worst"), r.get("bound")) for r in rungs]
    decades = [math.log10(r) for r in ratios if 0 < r < math.inf]
    low, high = math.floor(min([*decades, -2])) - 1, math.ceil(max([*decades, 0.5])) + 1
    figure = blank(width, 0.62 + 0.27 * len(rungs))
    axes = figure.add_subplot(xlim=(low - 0.3, high + 0.3), ylim=(len(rungs) - 0.4, -0.7))
    axes.axvspan(low - 0.3, 0, color=BAND, alpha=0.18, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1.2, linestyle="--")
    for row, (rung, value) in enumerate(zip(rungs, ratios, strict=True)):
        finite = 0 < value < math.inf
        x = math.log10(value) if finite else low if value == 0 else high
        failed = (MUTED, "s") if rung.get("conclusive") is False else (BAD, "X")
        colour, marker = (GOOD, "o") if rung.get("agrees") else failed
        axes.plot(x, row, marker, color=colour, markersize=6, markerfacecolor="none" if value == 0 else colour)
        axes.text(1.03, row, margin_of(value), transform=axes.get_yaxis_transform(), va="center", color=colour)
    step = max(1, math.ceil((high - low) / (6 if width > NARROW else 4)))
    ticks = [t for t in range(low + 1, high) if t % step == 0]
    axes.set_xticks(ticks, [_power(abs(t)) for t in ticks])
    names = [textwrap.shorten(f"{r.get('name', '')} {r.get('title', '')}", 24, placeholder="…") for r in rungs]
    axes.set_yticks(range(len(rungs)), map(literal, names))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("← margin, ×", loc="left")
    if low + high > -2 or width > NARROW:
        axes.annotate("× too far →", (1, 0), (0, -17), xycoords="axes fraction", textcoords="offset points", ha="right",
                      va="top")
    return figure


def checks(width: float, rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """The checks of a rung, the worst first: what each observed, and a bar at its own bound, on a log axis."""
    rows, wide = rows[:TENSORS], width == WIDE
    observed, bounds = (floats([r.get(key) for r in rows]) for key in ("worst", "bound"))
    low, high = _decades(np.concatenate([observed, bounds]))
    zero, lost = low - 1, high + 1  # where an exact zero stands, and what is not finite
    at, agrees = np.arange(len(rows)), np.array([bool(r.get("agrees")) for r in rows])
    x, bars = np.where(np.isfinite(observed), decades_of(observed, zero), lost), decades_of(bounds, zero)
    figure = blank(width, 0.85 + (0.23 if wide else 0.35) * len(rows))
    axes = figure.add_subplot(xlim=(zero - 0.4, lost + 0.4), ylim=(len(rows) - 0.4, -0.6 if wide else -0.9))
    axes.hlines(at, x, bars, color=MUTED, linewidth=0.7)
    for chosen, marker, colour, label in ((agrees, "o", GOOD, "within"), (~agrees, "X", BAD, "above its bound")):
        if chosen.any():
            axes.plot(x[chosen], at[chosen], marker, color=colour, linestyle="", markersize=5.5, label=label)
    axes.plot(bars, at, "|", color=INK, markersize=9, markeredgewidth=1.5, label="bound")
    names = _check_names(rows, 56)
    axes.set_yticks(at, names if wide else [""] * len(rows), fontsize=7.5)
    for y, name in enumerate([] if wide else names):
        axes.text(0, y - 0.22, name, transform=axes.get_yaxis_transform(), va="bottom", fontsize=7.5)
    ticks = {t: _power(t) for t in range(low, high + 1, math.ceil((high - low) / (6 if wide else 4)))}
    ticks |= {zero: "0"} if (observed == 0).any() else {}
    ticks |= {lost: "not finite"} if not np.isfinite(observed).all() else {}
    axes.set_xticks([*ticks], [*ticks.values()])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1, fontsize=7.5, borderaxespad=0.3)
    axes.set_xlabel("observed")
    return figure


def _check_names(rows, most):
    """Where each check looked, and what it compared where they do not all compare the same."""
    alike = len({r.get("what") for r in rows}) == 1
    names = [str(r.get("where")) if alike else f"{r.get('where')}, {r.get('what')}" for r in rows]
    return [literal(n if len(n) <= most else f"{n[:most // 3]}…{n[-2 * most // 3 + 1:]}") for n in names]


def convergence(width: float, curve: Mapping[str, Any], sides: Mapping[str, str]) -> "Figure":
    """Both losses, and under them their absolute difference against the twin envelope and the bound."""
    keys = ("steps", *sides, "difference", "envelope", "bound")
    data = thinned({key: floats(curve.get(key)) for key in keys})
    steps, difference = data["steps"], data["difference"]
    figure = blank(width, 4.3 if width == WIDE else 4.1)
    top, under = figure.subplots(2, sharex=True, height_ratios=(1, 1.15))
    looks: Any = ({"color": FIRST, "linewidth": 3, "alpha": 0.55}, {"color": SECOND, "linestyle": (0, (3, 1.5))})
    for (side, label), look in zip(sides.items(), looks, strict=True):
        top.plot(steps, _finite(data[side]), label=literal(textwrap.shorten(label, 36, placeholder="…")), **look)
    short = sum(map(len, sides.values())) < (60 if width == WIDE else 16)
    top.set_title("Training loss", pad=5 if short else 30)
    top.legend(loc="lower right" if short else "lower left", bbox_to_anchor=(1 if short else 0, 1),
               ncols=2 if short else 1, borderaxespad=0.3)

    low, high = _decades(np.concatenate([difference, data["envelope"], data["bound"]]))
    zero = low - 0.5 * max(1, (high - low) / 5)
    envelope, bound = decades_of(data["envelope"], zero), decades_of(data["bound"], zero)
    under.fill_between(steps, zero, envelope, color=BAND, alpha=0.45, linewidth=0, label="twin envelope")
    under.plot(steps, bound, color=INK, linestyle="--", linewidth=1.1, label="bound")
    under.plot(steps, decades_of(difference, math.nan), color=MUTED, linewidth=0.5)
    lost, above, judged = ~np.isfinite(difference), difference > data["bound"], steps < horizon(curve)
    heights = decades_of(difference, math.nan)
    _dots(under, steps, np.where(judged & ~above, heights, np.nan), GOOD, "difference")
    _dashes(under, steps[difference == 0], zero, 0.025 * (high - zero), GOOD)
    if (above & judged & ~lost).any():
        under.plot(steps[above & judged], heights[above & judged], "x", color=BAD, markersize=4.2, markeredgewidth=1.3,
                   label="above the bound")
    if not judged.all():
        under.axvspan(horizon(curve), steps[-1], facecolor=BAND, alpha=0.2, linewidth=0)
        _dots(under, steps, np.where(judged, np.nan, heights), MUTED, "not judged")
    if lost.any():
        _dashes(under, steps[lost], high, 0.04 * (high - zero), BAD, "not finite")
    if horizon(curve) < math.inf:
        for axes in (top, under):
            axes.axvline(horizon(curve), color=INK, linewidth=1.2, linestyle=":", label="horizon")
        late = horizon(curve) > (steps[0] + steps[-1]) / 2
        top.annotate("horizon", (horizon(curve), 1), (-3 if late else 3, -3), xycoords=("data", "axes fraction"),
                     textcoords="offset points", va="top", ha="right" if late else "left", fontsize=7.5)
    ticks = range(low, high + 1, max(1, math.ceil((high - low) / 5)))
    under.set_yticks([zero, *ticks], ["0", *map(_power, ticks)])
    under.set_ylim(zero - 0.06 * (high - zero), high + 0.08 * (high - zero))
    entries = len(under.get_legend_handles_labels()[0])
    columns = 6 if width == WIDE else 3 if entries <= 3 else 2
    rows = math.ceil(entries / columns)
    under.set_title("Absolute difference of the losses", pad=5 + 12.5 * rows)
    under.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handlelength=1.6, columnspacing=1.1,
                 handletextpad=0.5, fontsize=7.5, borderaxespad=0.3)
    under.set_xlabel("step")
    return figure


def _dots(axes, x, y, colour, label, size=2.6):
    """Dots as one path of round line ends: a tenth of the bytes of as many markers."""
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    ends = np.stack([y, y, np.full_like(y, np.nan)], 1).ravel()
    axes.plot(np.repeat(x, 3), ends, color=colour, linewidth=size, solid_capstyle="round")
    axes.plot([], [], "o", color=colour, label=label, markersize=size, markeredgewidth=0)


def _dashes(axes, x, y, half, colour, label=None):
    """Short upright strokes, also as one path."""
    ends = np.tile([y - half, y + half, np.nan], x.size)
    axes.plot(np.repeat(x, 3), ends, color=colour, linewidth=1)
    if label:
        axes.plot([], [], "|", color=colour, label=label, markersize=5)


def step_times(width: float, performance: Mapping[str, Any], sides: Mapping[str, str]) -> "Figure":
    """A histogram of step times per side over common bins, with the median and its interval."""
    times = {side: positive(performance[side].get("step_ms")) for side in sides if side in performance}
    times = {side: t for side, t in times.items() if t.size}
    every = np.concatenate(list(times.values()))
    low, high = every.min(), min(every.max(), 1.2 * max(np.percentile(t, 95) for t in times.values()))
    high = high if high > low else low * 1.01
    figure = blank(width, 0.55 + 0.95 * len(times))
    rows = figure.subplots(len(times), sharex=True, squeeze=False)[:, 0]
    for axes, (side, values) in zip(rows, times.items(), strict=True):
        measured, (colour, line) = performance[side], _looks(sides)[side]
        counts, edges = np.histogram(np.clip(values, low, high), bins=40, range=(low, high))
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(counts, edges, color=colour, linewidth=0.9)
        axes.set_ylim(0, 1.25 * counts.max())
        axes.axvline(as_float(measured.get("step_ms_median")), color=INK, linewidth=1.1, linestyle=line)
        axes.plot(floats(measured.get("step_ms_interval")),
                  [1.12 * counts.max()] * len(measured.get("step_ms_interval") or []),
                  color=INK, linewidth=3, solid_capstyle="butt")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_title(literal(textwrap.shorten(sides[side], 48, placeholder="…")), pad=2)
    rows[-1].set_xlabel("milliseconds a step")
    return figure


def where_time_goes(width: float, performance: Mapping[str, Any], sides: Mapping[str, str]) -> "Figure":
    """One stacked bar per side: compile, train, evaluate, wait for data."""
    spent = {side: performance[side]["seconds"] for side in sides if performance.get(side, {}).get("seconds")}
    figure = blank(width, 0.85 + 0.36 * len(spent))
    axes = figure.add_subplot()
    labels = [textwrap.shorten(sides[side], 40, placeholder="…") for side in spent]
    stacked(axes, labels, [{p: seconds[p] for p in parts(seconds)} for seconds in spent.values()],
            [_looks(sides)[side][0] for side in spent], PARTS)
    axes.set_xlabel("seconds")
    return figure


def stacked(axes: Any, labels: Sequence[str], bars: Sequence[Mapping[str, float]], colours: Sequence[str],
            looks: Mapping[str, tuple[str, float]], columns: int = 4) -> None:
    """Lying bars of stacked parts, with a key above.

    Args:
      bars: of each label {part: length}; parts that are not in `looks` come last.
      looks: {part: (hatch, opacity)}.
      columns: of the key.
    """
    from matplotlib.patches import Patch

    for row, (bar, colour) in enumerate(zip(bars, colours, strict=True)):
        start = 0.0
        for part, length in bar.items():
            value, (hatch, alpha) = max(0.0, as_float(length)), looks.get(part, OTHER)
            value = value if math.isfinite(value) else 0.0
            axes.barh(row, value, left=start, height=0.6, color=colour, alpha=alpha, linewidth=0)
            axes.barh(row, value, left=start, height=0.6, color="none", hatch=hatch, edgecolor=INK, linewidth=0.6)
            start += value
    names = sorted({part for bar in bars for part in bar}, key=lambda part: [*looks, part].index(part))
    keys = [(Patch(facecolor=MUTED, alpha=alpha), Patch(facecolor="none", edgecolor=INK, linewidth=0.6, hatch=hatch))
            for hatch, alpha in (looks.get(part, OTHER) for part in names)]
    axes.legend(keys, [literal(part.replace("_", " ")) for part in names], loc="lower left", bbox_to_anchor=(0, 1),
                ncols=columns, handlelength=1.4, columnspacing=1.1, fontsize=7.5)
    axes.set_yticks(range(len(bars)), [literal(textwrap.fill(label, 16)) for label in labels])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def _looks(sides):
    """{side: (colour, line style)}, by position."""
    return dict(zip(sides, ((FIRST, "-"), (SECOND, "--")), strict=True))


def parts(seconds: Collection[str]) -> list[str]:
    """The names of the parts of the wall time, the known ones first and in their order."""
    return [p for p in PARTS if p in seconds] + sorted(p for p in seconds if p not in PARTS)


def thinned(data: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """At most KEPT points of each series, each the one with the largest difference of its neighbourhood."""
    length = min(v.size for v in data.values() if v.size)
    data = {key: v[:length] if v.size else np.full(length, np.nan) for key, v in data.items()}
    if length <= KEPT:
        return data
    weight = np.nan_to_num(data["difference"], nan=np.inf)
    kept = [bucket[np.argmax(weight[bucket])] for bucket in np.array_split(np.arange(length), KEPT)]
    return {key: v[kept] for key, v in data.items()}


def positive(values: Any) -> np.ndarray:
    """The values above zero that are finite, of a list out of the verdict."""
    values = floats(values)
    return values[np.isfinite(values) & (values > 0)]


def _finite(values):
    return np.where(np.isfinite(values), values, np.nan)


def decades_of(values: np.ndarray, zero: float) -> np.ndarray:
    """Powers of ten, an exact zero at `zero`, what is not finite as a gap."""
    good = np.isfinite(values) & (values > 0)
    return np.where(good, np.log10(np.where(good, values, 1)), np.where(values == 0, zero, np.nan))


def _decades(values):
    """The whole decades that the positive values span, at least one."""
    decades = np.log10(values[(values > 0) & np.isfinite(values)])
    low, high = (math.floor(decades.min()), math.ceil(decades.max())) if decades.size else (-16, -15)
    return low, max(high, low + 1)


def literal(text: str) -> str:
    """Text that matplotlib takes for no formula."""
    return text.replace("$", r"\$")


def _power(decade):
    return f"{10.0 ** decade:g}" if -3 <= decade <= 3 else f"1e{decade}"
