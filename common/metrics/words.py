"""What an evaluation says, in lines for a terminal: what sums it up, and a table of classes or of entities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.common.files.access import shown
from twinscale.common.metrics.base import METRICS, own_sums
from twinscale.common.metrics.classes import PARTS, REPORT
from twinscale.common.metrics.entities import ENTITIES
from twinscale.common.registry import load

SUMMED_UP = {"": "f1_macro", "entity_": "entity_f1"}  # of values that are one for each of several means
MEANS = ("micro", "macro", "weighted")
MOST, WIDEST = 60, 32  # rows of a table, characters of a name there


def is_count(name: str) -> bool:
    """Whether a value is a number of positions, of a metric of ours."""
    title = name.partition("/")[0]
    return title in METRICS.builtin and load(METRICS, title).counts


def value_words(name: str, value: float) -> str:
    """A value as a person writes it: a count as the whole number that it is, if it is one."""
    whole = is_count(name) and float(value).is_integer()
    return f"{value:,.0f}" if whole else f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}"


def summing_up(names: Iterable[str]) -> list[str]:
    """Those of the values that sum up an evaluation: those of single classes, and several means, are left out."""
    means = {f"{prefix}{part}{mean}": kept for prefix, kept in SUMMED_UP.items() for part in PARTS
             for mean in ("", *(f"_{mean}" for mean in MEANS))}
    return [name for name in names if "/" not in name and means.get(name, name) == name]


def line(metrics: Mapping[str, float]) -> str:
    """The values that sum up an evaluation, on one line."""
    return "  ".join(f"{shown(name)} {value_words(name, metrics[name])}" for name in summing_up(metrics))


def tables(metrics: Mapping[str, float], sums: Mapping[str, float]) -> list[str]:
    """The lines of a classification report, of classes and of types of entities, where these were measured.

    Args:
      metrics: what an evaluation says, {name: value}.
      sums: what it is of, as `run.json` has them; by them it is known how many there are of a class.
    """
    lines: list[str] = []
    for metric, prefix, first in ((REPORT, "", "class"), (ENTITIES, "entity_", "entity")):
        start = f"{prefix}precision/"
        names = [name.removeprefix(start) for name in metrics if name.startswith(start)]
        if names:
            counts = own_sums(metric, {"weight": 0.0, **sums}).get("labelled", np.full(len(names), np.nan))
            lines += ["", *table(first, rows_of(metrics, prefix, names, counts))]
    return lines[1:]


def rows_of(metrics: Mapping[str, float], prefix: str, names: Sequence[str], counts: Any) -> list[list[str]]:
    """Rows of a name, its shares and how many there are: of the classes in order, or of more than MOST of those with
    the lowest F1; and of the means."""
    def shares(end):
        return [f"{metrics.get(f'{prefix}{part}{end}', np.nan):.4f}" for part in PARTS]

    chosen = list(zip(names, counts, strict=True))
    if len(chosen) > MOST:
        chosen = sorted(chosen, key=lambda one: metrics.get(f"{prefix}f1/{one[0]}", 0.0))[:MOST]
    rows = [[shown(name, WIDEST), *shares(f"/{name}"), number(count)] for name, count in chosen]
    if len(names) > len(chosen):
        rows.append([f"... {len(names) - len(chosen):,} with a higher F1", "", "", "", ""])
    ends = {"micro": "", "macro": "_macro", "weighted": "_weighted"} if prefix else {mean: f"_{mean}" for mean in MEANS}
    return rows + [[f"{mean} mean", *shares(end), number(np.sum(counts))] for mean, end in ends.items()]


def number(count: float) -> str:
    """How many there are, a dash where nobody knows."""
    return "-" if np.isnan(count) else f"{count:,.0f}" if float(count).is_integer() else f"{count:,.2f}"


def table(first: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table under its head, the first column to the left and the others to the right."""
    whole = [[first, *PARTS, "count"], *rows]
    widths = [max(len(row[i]) for row in whole) for i in range(len(whole[0]))]
    right = [[x.rjust(width) for x, width in zip(row[1:], widths[1:], strict=True)] for row in whole]
    return ["  ".join([row[0].ljust(widths[0]), *cells]).rstrip() for row, cells in zip(whole, right, strict=True)]


