"""A run by itself: how far it came, how its loss and metrics went, and what people of its task look at.

All of it is of what the run has left, and of its data where they are at hand: nothing is trained and no framework is
loaded, so that a run of any machine has a page, and one that was killed half-way too.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.examples import worst
from twinscale.benchmarks.numbers import evenly, sig
from twinscale.benchmarks.output import REPORT, Kind, again, clear, made, nothing_left
from twinscale.benchmarks.report.plots import TITLES
from twinscale.benchmarks.report.run import show, write_run
from twinscale.benchmarks.run_report import SCHEMA_VERSION, RunReport
from twinscale.benchmarks.task import points, task_of_runs
from twinscale.benchmarks.verdict import fenced
from twinscale.common.data.kept import changed, kept_in, open_kept
from twinscale.common.errors import DID_IT, BadInput, MissingEnvironment, one_of
from twinscale.common.files.access import plain
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RunFiles
from twinscale.common.metrics.words import summing_up
from twinscale.common.recipe.file import dumps, load
from twinscale.common.training.predictions import read_predictions
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics
from twinscale.common.training.stopping import words as early_words

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe

FILE = "report.json"
KIND = Kind(".report", FILE, {re.escape(FILE): None, REPORT: None})
SIDES = ("train", "held_out")  # as the lines of metrics.jsonl begin
POINTS = 300  # of a curve


def report(run: Path, out: Path, *, overwrite: bool = False, as_json: bool = False) -> int:
    """`reported`, of which it shows the sentence or prints report.json; returns the exit code 0,
    however the run went."""
    answer(plain(reported(run, out, overwrite=overwrite)), show, as_json)
    return DID_IT


def reported(run: Path, out: Path, *, overwrite: bool = False) -> RunReport:
    """Writes report.html, report.md and report.json of a run's directory into `out`; returns what the last one holds.

    Raises: BadInput where the directory holds no run, or `out` what is not to be replaced.
    """
    found = told_of(run, out)
    with nothing_left(out):
        clear(out, KIND, {"verb": "report"}, overwrite)
        write_run(found, out)
        return write_result(out / FILE, RunReport, found)


def told_of(path: Path, out: Path) -> dict[str, Any]:
    """What report.json of the run at `path` holds, whose page goes to `out`."""
    info, lines = read_run(path), read_metrics(path)
    recipe = load(str(RunFiles(path).recipe), [])
    evaluations = [line for line in lines if "held_out/loss" in line]
    last = evaluations[-1] if evaluations else {}
    backend = info["backend"]
    found = {
        "schema_version": SCHEMA_VERSION, "run": str(path), "backend": backend, "state": info["state"],
        "error": info.get("error"), "steps": recipe.train.steps,
        "step": max([info.get("saved") or 0, *(line["step"] + 1 for line in lines)]),
        "evaluated": last["step"] + 1 if last else None,
        "held_out": info["final"] or {name.removeprefix("held_out/"): value for name, value in last.items()
                                      if name.startswith("held_out/")},
        "curves": curves_of_run(lines), "recipe": {"name": recipe.name, "hash": recipe.hash, "toml": dumps(recipe)},
        "data": info["data"], "performance": info.get("performance"), "seconds": info["seconds"].get("train"),
        "devices": {backend: info["devices"]}, "versions": {backend: info["versions"]}, "made": made(),
        "commands": again("report", str(path), out=out)}
    found["sentence"] = sentence(found, info.get("early"))
    with fenced(found, "task", "report"):
        found["task"] = task_of_runs({backend: {"path": path, "info": info, "recipe": recipe}}) if (
            info.get("sums")) else None
    if found.get("task"):
        found["task"].pop("curves", None)  # a section of its own has them, beside those of training
        with fenced(found, "worst examples", "report"):
            found["task"] |= examples_of(path, info, recipe)
    return found


# ---- how it went

def curves_of_run(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, list]]]:
    """{metric: {"train" or "held_out": {"steps", "values"}}} of the loss and of what sums up an evaluation, of lines of
    metrics.jsonl; what was never measured is left out."""
    held_out = next((line for line in reversed(lines) if "held_out/loss" in line), {})
    names = summing_up(key.removeprefix("held_out/") for key in held_out if key.startswith("held_out/"))
    found = {}
    for name in dict.fromkeys(["loss", *names]):
        of = {side: [line for line in lines if f"{side}/{name}" in line] for side in SIDES}
        found[name] = {side: points([own[i] for i in evenly(len(own), POINTS)], f"{side}/{name}")
                       for side, own in of.items() if own}
    return {name: of for name, of in found.items() if of}


def sentence(found: Mapping[str, Any], early: Mapping[str, Any] | None = None) -> str:
    """What the run is, how far it came, and what it has measured; `early` is why it ended before its last step."""
    step, steps = f"{found['step']:,}", f"{found['steps']:,}"
    whole = f"was trained for all {steps} steps" if found["step"] >= found["steps"] else (
        f"was trained for {step} of {steps} steps")
    came = one_of({
        "finished": early_words(early) if early else whole,
        "running": f"has come to step {step} of {steps}: it still trains, or was killed",
        "stopped": f"was asked to end after {step} of {steps} steps, and has saved its state",
        "interrupted": f"was interrupted after {step} of {steps} steps",
        "failed": f"failed after {step} of {steps} steps ({found['error'] or 'it is not known why'})",
    }, found["state"], "state")
    measured = ", ".join(f"{name.replace('_', ' ')} {sig(found['held_out'][name], 4)}"
                         for name in summing_up(found["held_out"]))
    after = f" after step {found['evaluated']:,}" if found["evaluated"] else ""
    return (f"{found['recipe']['name']}, by {TITLES[found['backend']]}, {came}. "
            + (f"On the held-out set{after}: {measured}." if measured else "Nothing has been evaluated yet."))


# ---- the worst examples

def examples_of(path: Path, info: Mapping[str, Any], recipe: "Recipe") -> dict[str, Any]:
    """{"worst": what `benchmarks.examples.worst` has}, or {"lacking": why there are none}."""
    predictions = read_predictions(path)
    if predictions is None:
        return {"lacking": "The run has no predictions of held-out rows: a training on one device leaves them at its "
                           "end."}
    try:
        dataset = at_hand(path, info, recipe)
    except (BadInput, MissingEnvironment) as error:
        return {"lacking": f"They are of the data, which could not be read here: {error}"}
    found = worst(dataset, {info["backend"]: predictions}, list(dataset.manifest.get("labels") or ()))
    return {"worst": found} if found else {"lacking": "Rows of this kind of data are not shown one by one."}


def at_hand(path: Path, info: Mapping[str, Any], recipe: "Recipe") -> "Dataset":
    """The data of a run; raises BadInput where they are not here, or no longer what they were."""
    kept = kept_in(path, info["data"])
    dataset = open_kept(recipe, kept, accept=True)
    difference = changed(kept, dataset) if kept else None
    if difference:
        raise BadInput(f"they are no longer what the run began with: {difference}; restore them")
    return dataset
