"""The page of one run: its sentence, its learning curves, its metrics, and what people of its task look at."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report import task as task_report
from twinscale.benchmarks.report import task_plots
from twinscale.benchmarks.report.page import METRICS, drawn, held_out, ordered, reproduced, write
from twinscale.benchmarks.report.plots import TITLES
from twinscale.benchmarks.report.terminal import PIPED, fit
from twinscale.benchmarks.report.values import rank
from twinscale.benchmarks.report.words import number
from twinscale.common.files.access import shown
from twinscale.common.files.output import safe_console
from twinscale.common.training.progress import duration

LINES = {"train": "training", "held_out": "held out"}
ANSWERS = {"finished": "as trained", "running": "not at its end", "stopped": "not at its end",
           "interrupted": "not at its end", "failed": "failed"}


def write_run(found: Mapping[str, Any], out: Path) -> None:
    """Writes report.html and report.md into `out` from what report.json says; equal figures give equal bytes."""
    write("report", view(ordered(dict(found))), out, "run")


def view(found: dict[str, Any]) -> dict[str, Any]:
    """What both templates show."""
    sides, task = {found["backend"]: TITLES[found["backend"]]}, found.get("task") or {}
    return {"v": found, "good": False if found["state"] == "failed" else None, "answer": ANSWERS[found["state"]],
            "facts": facts(found, sides), "learning": learning(found["curves"]),
            "held_out": held_out({key: found["held_out"] for key in sides}, sides, task_report.in_tables(task)),
            "task": task_report.view(task, sides), **reproduced("report", found, sides)}


def facts(found: Mapping[str, Any], sides: Mapping[str, str]) -> list[tuple[str, str]]:
    """The run in numbers: name and value, as far as they are known."""
    speed = found.get("performance") or {}
    rate = f"{sig(speed['throughput'], 3)} {speed.get('unit', '')}" if speed.get("throughput") else None
    told = [("run", found["run"]), ("backend", sides[found["backend"]]),
            ("devices", number(len(found["devices"][found["backend"]]) or None)), ("state", found["state"]),
            ("steps", f"{number(found['step'])} of {number(found['steps'])}"),
            ("training", None if found["seconds"] is None else duration(found["seconds"])), ("throughput", rate)]
    return [(name, value) for name, value in told if value not in (None, "–")]


def learning(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Curves of the loss and of each metric, of training and of evaluations, and a table of these; None where nothing
    was logged."""
    if not found:
        return None
    curves = {name: found[name] for name in sorted(found, key=lambda name: (rank(METRICS, name), name))
              if name == "loss" or any(len(of["steps"]) > 1 for of in found[name].values())}  # one point is no curve
    evaluated = {name: {"held_out": of["held_out"]} for name, of in curves.items() if "held_out" in of}
    steps = next(iter(evaluated.values()))["held_out"]["steps"] if evaluated else []
    trained = curves["loss"].get("train")
    went = (f"The loss of training went from {sig(trained['values'][0], 4)} (step {trained['steps'][0]:,}) to "
            f"{sig(trained['values'][-1], 4)} (step {trained['steps'][-1]:,}). ") if trained else ""
    words = went + (
        f"{number(len(steps))} evaluations on the held-out set, from step {steps[0]:,} to {steps[-1]:,}."
        if len(steps) > 1 else f"One evaluation on the held-out set, after step {steps[0]:,}." if steps
        else "Nothing has been evaluated yet.")
    return {"figure": drawn("learning", words, task_plots.curves, curves, LINES)} | task_report.evaluations(
        evaluated, LINES)


def show(found: Mapping[str, Any]) -> None:
    """Prints the sentence on stdout, and what of the page could not be made."""
    console = safe_console(width=None if sys.stdout.isatty() else PIPED)
    lacking = (found.get("task") or {}).get("lacking")
    for line in (found["sentence"], f"The worst examples are not shown. {lacking}" if lacking else "",
                 *(f"{what} failed: {said}" for what, said in (found.get("failed") or {}).items())):
        if line:
            console.print(fit(shown(line, 10_000), console.encoding))
