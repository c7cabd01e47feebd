"""The page of a fitted law: its curves, parabolas, residuals, bootstraps and what was held out."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.laws import approaches
from twinscale.benchmarks.laws.curves import predicted
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.optimum import optimum
from twinscale.benchmarks.laws.words import objective_words, tables
from twinscale.benchmarks.report.page import drawn, ordered, reproduced, write
from twinscale.benchmarks.report.plots import BAD, FIRST, INK, MUTED, RULE, SECOND, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 2000  # points of a plot
HEIGHT = 3.2


def write_law(result: Mapping[str, Any], points: Mapping[str, Any], out: Path) -> None:
    """Writes law.html and law.md into `out`.

    Args:
      result: the content of fit.json.
      points: "columns" {name: (rows,)}, "y" and "residuals" and "predicted" (rows,), "public" (P,) and "boots" (B, P)
        or None.
    """
    write("law", view(ordered(dict(result)), points), out)


def view(result: dict[str, Any], points: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates show."""
    proof = result["certificate"]
    sure = not result["warnings"] and result["certificate"]["converged"]
    versions = {"here": (result.get("made") or {}).get("versions")}
    return {"v": result, "sure": sure, "tables": tables(result), "objective": objective_words(result),
            "figures": figures(result, points), "sentence": result["sentence"],
            "facts": [("rows", f"{result['results']['rows']:,}"), ("runs", f"{result['results']['runs']:,}"),
                      ("objective", f"{result['objective']['value']:.9g}"),
                      ("starts that agree", f"{proof['agreeing']} of {proof['starts']}")],
            **reproduced("fit", result | {"versions": versions}, {"here": "version"})}


def figures(result: Mapping[str, Any], points: Mapping[str, Any], of: str = "") -> list[tuple[str, dict[str, Any]]]:
    """[(title, a figure with its words)]; `of` tells them from another law's on one page."""
    columns, y, name = points["columns"], points["y"], result["law"]["name"]
    found = []
    if name == "chinchilla":
        found.append(("Loss by size and tokens", drawn(
            f"contours{of}", "Contours of the law over the runs (points); the dashed line is the best size of each "
            "budget.", contours, _lists(columns, ("N", "D")), points["public"].tolist())))
        curves = [one._asdict() for one in approaches.parabolas(columns, y)]
        if any(one["status"] == "minimum" for one in curves):
            minima = sum(one["status"] == "minimum" for one in curves)
            found.append(("Runs of equal compute", drawn(
                f"isoflop{of}", f"{minima} of {len(curves)} budgets have a minimum among their sizes.", isoflop,
                _lists(columns, ("N", "C")), y[:MOST].tolist(), curves)))
    along = "D" if "D" in columns else next(iter(columns))
    found.append(("Residuals", drawn(
        f"residuals{of}", "Observed over predicted, less 1, of each row: a law that fits leaves no trend.", residuals,
        columns[along][:MOST].tolist(), np.expm1(points["residuals"][:MOST]).tolist(), along)))
    if points["boots"] is not None and name == "chinchilla":
        flops = max([row["flops"] for row in result["optima"]], default=float(columns["C"].max()))
        boots = points["boots"][:MOST]
        exponents = boots[:, 1] / (boots[:, 0] + boots[:, 1])
        sizes = optimum(FORMS[name], boots, flops)["N"]
        found.append(("Resampled runs", drawn(
            f"boots{of}", f"Each point is a fit of runs drawn again: the exponent a of N = G C^a, and the best size at "
            f"{flops:.3g} operations.", cloud, exponents.tolist(), sizes.tolist())))
    if result["held_out"]:
        found.append(("Held out", drawn(
            f"held{of}", "Mean error on rows that lie beyond those fitted, along each axis.", held,
            [dict(row) for row in result["held_out"]])))
    return found


def _lists(columns, names):
    return {name: columns[name][:MOST].tolist() for name in names}


def contours(width: float, columns: Mapping[str, list[float]], public: list[float]) -> "Figure":
    """Levels of a chinchilla law over log N and log D, the runs, and the best size of each budget."""
    n, d = (np.log10(columns[key]) for key in ("N", "D"))
    grid_n, grid_d = np.linspace(n.min() - 0.3, n.max() + 0.3, 60), np.linspace(d.min() - 0.3, d.max() + 0.3, 60)
    N, D = np.meshgrid(10**grid_n, 10**grid_d)
    loss = predicted(FORMS["chinchilla"], np.array([public]), {"N": N.ravel(), "D": D.ravel()})[0].reshape(N.shape)
    figure = blank(width, HEIGHT)
    axes = figure.add_subplot(xlabel="log10 of parameters N", ylabel="log10 of tokens D")
    drawn_levels = axes.contour(grid_n, grid_d, loss, levels=8, colors=MUTED, linewidths=0.8)
    axes.clabel(drawn_levels, fontsize=6)
    axes.plot(n, d, "o", color=FIRST, markersize=2.6, alpha=0.7)
    flops = 6 * 10 ** np.linspace(n.min() + d.min(), n.max() + d.max(), 40)
    sizes = np.array([optimum(FORMS["chinchilla"], np.array([public]), c)["N"][0] for c in flops])
    axes.plot(np.log10(sizes), np.log10(flops / 6 / sizes), "--", color=INK, linewidth=1.2)
    axes.set_xlim(grid_n[0], grid_n[-1])
    axes.set_ylim(grid_d[0], grid_d[-1])
    return figure


def isoflop(width: float, columns: Mapping[str, list[float]], y: list[float], curves: list[dict[str, Any]]
            ) -> "Figure":
    """Loss against log N of each budget, with its parabola and minimum."""
    n, number = np.log10(columns["N"]), approaches.budgets(np.array(columns["C"]))
    figure = blank(width, HEIGHT)
    axes = figure.add_subplot(xlabel="log10 of parameters N", ylabel="loss")
    for budget, curve in enumerate(curves):
        mine = number == budget
        axes.plot(n[mine], np.array(y)[mine], ".", color=FIRST if budget % 2 else SECOND, markersize=3)
        if curve["status"] != "minimum" or not mine.any():
            continue
        x = np.linspace(n[mine].min(), n[mine].max(), 30)
        t = x * np.log(10) - curve["middle"]
        c = curve["curve"]
        axes.plot(x, c[0] + c[1] * t + c[2] * t * t, color=MUTED, linewidth=0.9)
        axes.plot(np.log10(curve["size"]), curve["loss"], "D", color=BAD, markersize=3.4)
    return figure


def residuals(width: float, along: list[float], errors: list[float], name: str) -> "Figure":
    """Relative residuals over a column."""
    figure = blank(width, 2.4)
    axes = figure.add_subplot(xlabel=f"log10 of {name}", ylabel="observed / predicted - 1")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.plot(np.log10(np.maximum(along, 1e-300)), errors, "o", color=FIRST, markersize=2.6, alpha=0.7)
    return figure


def cloud(width: float, exponents: list[float], sizes: list[float]) -> "Figure":
    """Best sizes against exponents of resampled fits."""
    figure = blank(width, HEIGHT)
    axes = figure.add_subplot(xlabel="a, of N = G C^a", ylabel="log10 of the best N")
    axes.plot(exponents, np.log10(np.maximum(sizes, 1e-300)), ".", color=FIRST, markersize=2, alpha=0.4)
    return figure


def held(width: float, rows: list[dict[str, Any]]) -> "Figure":
    """A bar for each roll-out."""
    figure = blank(width, 0.7 + 0.28 * len(rows))
    axes = figure.add_subplot(xlabel="mean error of held-out rows, %", ylim=(len(rows) - 0.4, -0.6))
    axes.barh(range(len(rows)), [100 * row["error"] for row in rows], 0.6, color=FIRST, edgecolor=RULE)
    axes.set_yticks(range(len(rows)), [f"{row['axis']} > {row['fitted_up_to']:.2g} ({row['rows']})" for row in rows])
    axes.grid(False, axis="y")
    return figure
