"""What three columns say, for people: the page, and the table on a terminal; a row a rung, a column a pair."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report.page import PRECISIONS, ordered, reproduced, write
from twinscale.benchmarks.report.terminal import PIPED, SIGNS, fit
from twinscale.benchmarks.report.values import rank
from twinscale.benchmarks.report.words import number
from twinscale.common.files.access import shown
from twinscale.common.files.output import safe_console, table_of

TERMS = (("Program and runtime", "A column is a program on a runtime. Keras on TensorFlow and Keras on JAX are one "
          "program, Keras on JAX and Flax on JAX are trained by one runtime's step, mesh and checkpoints."),
         ("The program's", "Both Keras columns agree, and Flax parts from both: what differs is what the models or "
          "their optimizers say."),
         ("The runtime's", "Both columns on JAX agree, and Keras on TensorFlow parts from both: what differs is what "
          "runs the program, or how it is asked to."),
         ("Several", "More pairs part than one fault explains: mend the pair that shares a program or a runtime "
          "first."))


def write_columns(found: Mapping[str, Any], out: Path) -> None:
    """Writes report.html and report.md of a columns.json into `out`; equal ones give equal bytes."""
    write("report", view(ordered(dict(found))), out, "columns")


def view(found: dict[str, Any]) -> dict[str, Any]:
    """What the templates show."""
    rung, pairs = found["rung"], found["pairs"]
    sure = None if not rung["conclusive"] else rung["agrees"]
    return {"v": found, "sure": sure,
            "state": {None: "stay open", True: "agree", False: "do not agree"}[sure],
            "titles": {pair["directory"]: title_of(found, pair) for pair in pairs}, "terms": TERMS,
            "heads": ["rung", *(title_of(found, pair) for pair in pairs)], "rows": rows_of(pairs),
            "facts": [("recipe", found["recipe"]["name"]), ("precision", found["precision"]),
                      ("steps", number(found["steps"])), ("blame", rung["blame"] or "open"),
                      *([("parts alone", found["columns"][rung["by"]])] if rung["by"] else []),
                      *([("planted error", found["plant"])] if found.get("plant") else [])],
            **reproduced("columns", found | {"versions": {"here": found["made"]["versions"]}}, {"here": "version"})}


def title_of(found: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    """A pair by the titles of its columns."""
    return " / ".join(found["columns"][name] for name in pair["columns"])


def rows_of(pairs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row of each rung that any pair has climbed: its name, and of each pair its worst of its bound; at the end one
    of the losses of each precision."""
    steps = [{step["name"]: step for step in pair["rungs"]} for pair in pairs]
    titles = {name: step["title"] for of in steps for name, step in of.items()}
    rows = [[f"{name} {titles[name]}", *(cell(of.get(name)) for of in steps)] for name in sorted(titles)]
    for precision in sorted(pairs[0]["losses"], key=lambda precision: rank(PRECISIONS, precision)):
        rows.append([f"losses, {precision}", *(losses_words(pair["losses"].get(precision)) for pair in pairs)])
    return rows


def cell(step: Mapping[str, Any] | None) -> str:
    """What a rung observed, and its bound."""
    return f"{SIGNS[step['answer']]} {sig(step['worst'])} of {sig(step['bound'])}" if step else "–"


def losses_words(losses: Mapping[str, Any] | None) -> str:
    """How far apart losses are, and over how many steps."""
    return f"within {sig(losses['relative'])} over {number(losses['steps'])} steps" if losses else "–"


def show(found: Mapping[str, Any]) -> None:
    """Prints the table, then the sentence of each pair and the one above them, on stdout."""
    console = safe_console(width=None if sys.stdout.isatty() else PIPED)

    def safe(text):
        return fit(shown(text, 10_000), console.encoding)

    heads = ["rung", *(title_of(found, pair) for pair in found["pairs"])]
    console.print(table_of(map(safe, heads), (map(safe, row) for row in rows_of(found["pairs"])), tight=True))
    for pair in found["pairs"]:
        console.print(safe(f"{pair['directory']}: {pair['sentence']}"))
    console.print(safe(found["sentence"]))
