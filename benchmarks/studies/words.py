"""A study as tables for people."""

from collections.abc import Mapping
from typing import Any

from twinscale.benchmarks.laws.words import span
from twinscale.benchmarks.laws.words import tables as law_tables
from twinscale.benchmarks.numbers import sig
from twinscale.common.files.access import escaped_lines
from twinscale.common.files.output import safe_console, table_of

Tables = list[tuple[str, tuple[str, ...], list[list[str]]]]


def show(found: Mapping[str, Any]) -> None:
    """Prints a study on stdout: its runs, its laws, and law parity."""
    console = safe_console(soft_wrap=True)
    shown = [run_table(found), *((f"{backend}: {title}", columns, rows) for backend, law in found["laws"].items()
                                 for title, columns, rows in law_tables(law)), *parity_tables(found)]
    for title, columns, lines in shown:
        console.print(table_of(columns, lines, title))
    console.print(found["sentence"])


def run_table(found: Mapping[str, Any]) -> tuple[str, tuple[str, ...], list[list[str]]]:
    """(title, columns, rows): a row a recipe, with either backend's loss, or why there is none."""
    backends = found["backends"]
    by: dict[str, dict[str, Any]] = {}
    for run in found["runs"]:
        by.setdefault(run["recipe"], {})[run["backend"]] = run
    rows = []
    for pair in by.values():
        one = next(iter(pair.values()))
        rows.append([f"{one['N']:,}", f"{one['D']:,}", sig(one["C"], 3), sig(one["epochs"], 2),
                     sig(one["learning_rate"], 3), str(one["global_batch"]), str(one["seed"]),
                     *(loss_words(pair.get(backend)) for backend in backends)])
    return ("Runs", ("N", "D", "operations", "epochs", "rate", "batch", "seed",
                     *(f"loss, {name}" for name in backends)),
            [[escaped_lines(cell) for cell in row] for row in rows])


def loss_words(run: Mapping[str, Any] | None) -> str:
    """A run's loss, or how it ended."""
    if run is None:
        return "–"
    return sig(run["loss"], 5) if run["state"] == "finished" else f"failed: {run['reason']}"[:120]


def parity_tables(found: Mapping[str, Any]) -> Tables:
    """[(title, columns, rows)] of law parity, none where there is none."""
    parity = found["parity"]
    if not parity or "rows" not in parity:
        return []
    first, second = found["backends"]
    level = f"{found['level']:.0%}"
    rows = [[row["figure"] + ("" if row["known"] else ", not known"),
             *(f"{row[backend]['value']:.4g} ({span(row[backend]['interval'])})"
               for backend in (first, second)),
             f"{row['difference']:.2g} ({span(row['interval'], 2)})", "yes" if row["within"] else "no",
             "yes" if row["zero"] else "no" if row["within"] or not row["known"] else "NO"] for row in parity["rows"]]
    return [("Law parity", ("", f"{first}, {level}", f"{second}, {level}", f"difference, {level} of pairs",
                            "within the other's", "0 within"), rows)]
