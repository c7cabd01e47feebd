"""The page of a study: its runs, the law of each backend with its figures, and law parity."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinscale.benchmarks.laws.words import objective_words, tables
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report.law import figures
from twinscale.benchmarks.report.page import ordered, reproduced, write
from twinscale.benchmarks.studies.words import parity_tables, run_table
from twinscale.common.training.progress import duration


def write_study(found: Mapping[str, Any], points: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Writes study.html and study.md into `out`.

    Args:
      found: the content of study.json.
      points: {backend: the points of its law, as `write_law` takes them}.
    """
    write("study", view(ordered(dict(found)), points), out)


def view(found: dict[str, Any], points: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the templates show."""
    parity, counts = found["parity"] or {}, found["counts"]
    state = ("has no finished run" if not counts["finished"] else
             "as trained" if parity.get("agree", True) else "its laws lie apart")
    versions = {"here": (found.get("made") or {}).get("versions")}
    laws = [{"backend": backend, "law": law, "objective": objective_words(law), "tables": tables(law),
             "figures": figures(law, points[backend], f"-{backend}")}
            for backend, law in found["laws"].items()]
    return {"v": found, "sure": None if state == "as trained" else False, "state": state, "laws": laws,
            "runs": run_table(found),
            "parity": parity_tables(found), "parity_words": parity.get("sentence") or parity.get("lacking"),
            "failed": [run for run in found["runs"] if run["state"] == "failed"],
            "facts": [("runs", f"{counts['finished']} of {counts['planned']}"), ("failed", str(counts["failed"])),
                      ("operations", sig(found["flops"], 3)), ("training", duration(found["seconds"]))],
            **reproduced("study", found | {"versions": versions}, {"here": "version"})}
