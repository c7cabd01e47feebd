"""Any two runs, from what they left in their directories: the ladder as far as their traces allow.

Nothing is trained and no framework is loaded, so that the runs may come from other machines, versions and devices.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.benchmarks.comparison_files import DIFFERENCES, VERDICT, ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import CHECKS, REPORT, Kind, again, clear, made, nothing_left
from twinscale.benchmarks.report.page import write_report
from twinscale.benchmarks.report.plots import TITLES
from twinscale.benchmarks.report.terminal import show
from twinscale.benchmarks.report.words import margin
from twinscale.benchmarks.rung_table import not_climbed
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.task import task_of_runs
from twinscale.benchmarks.verdict import Check, Rung, Verdict, fenced, read_digests, read_hashes
from twinscale.common.errors import BadInput
from twinscale.common.files.access import plain, shown
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import difference, load_tensors
from twinscale.common.numbers.formats import RESOLVED
from twinscale.common.numbers.sketch import distance, sketch
from twinscale.common.recipe.file import dotted, dumps, flat, load
from twinscale.common.recipe.schema import positions
from twinscale.common.training.run import FinishedRun, read_run
from twinscale.common.training.run_metrics import read_metrics

SCHEMA_VERSION = 1
KIND = Kind(".runs", VERDICT, {f"{re.escape(VERDICT)}|{re.escape(DIFFERENCES)}": None, REPORT: None})
SIDES = ("a", "b")
NOTHING = "train it with `twinscale train ... --trace sketch`"


def compare_runs(a: Path, b: Path, out: Path, *, overwrite: bool = False, as_json: bool = False) -> int:
    """`compared`, of which it shows the verdict or prints it `as_json`; returns the exit code: 0 they agree, 1 they do
    not, 3 where the twins part at once."""
    verdict = compared(a, b, out, overwrite=overwrite)
    answer(plain(verdict), show, as_json)
    return verdict.exit_code


def compared(a: Path, b: Path, out: Path, *, overwrite: bool = False) -> Verdict:
    """Writes verdict.json, report.html and report.md of two run directories into `out`; returns the Verdict.

    Raises: BadInput where a directory holds no finished run with a trace, or neither has a twin.
    """
    runs = {"a": read_side(a), "b": read_side(b)}
    if not any(run["twin"] for run in runs.values()):
        raise BadInput(f"neither {a} nor {b} has a twin, by which differences are judged: {NOTHING}")
    verdict = judge(runs, out)
    with nothing_left(out):
        clear(out, KIND, {"verb": "compare-runs"}, overwrite)
        written = write_result(ComparisonFiles(out).verdict, Verdict, verdict)
        write_report(verdict, out)
    return written


# ---- what a run left


def read_side(path: Path) -> dict[str, Any]:
    """A run and its twin, if it has one: {"path", "info", "recipe", "loss": {step: loss}, "states": {updates done:
    file}, "form", "contract", "twin"}."""
    run = read_trace(path)
    contract = RunFiles(path).contract
    if not contract.exists():
        raise BadInput(f"run {path}: has no trace/contract.json; {NOTHING}")
    twin = RunFiles(path).twin
    return run | {"contract": read_hashes(contract),
                  "twin": read_trace(twin) if os.path.lexists(RunFiles(twin).info) else None}


def read_trace(path: Path) -> dict[str, Any]:
    """A finished run and where its states lie; raises BadInput where there are none."""
    info = read_run(path)
    if info["state"] != "finished":
        raise BadInput(f"run {path}: is {info['state']}, not finished; the same command goes on with it")
    info = read_run(path, FinishedRun)
    if not info.get("trace"):
        raise BadInput(f"run {path}: has no trace; {NOTHING}")
    loss = {line["step"]: line["train/loss"] for line in read_metrics(path) if "train/loss" in line}
    if any(value is None for value in loss.values()):
        raise BadInput(f"{RunFiles(path).metrics}: has a train/loss of null, which no finished run has; "
                       "restore it")
    if not loss:
        raise BadInput(f"{RunFiles(path).metrics}: holds no train/loss; {NOTHING}")
    states = RunFiles(path).steps() | {max(loss) + 1: RunFiles(path).final}
    batches = read_digests(path)
    return {"path": path, "info": info, "recipe": load(str(RunFiles(path).recipe), []), "loss": loss, "states": states,
            "batches": batches if len(batches) == len(loss) else [], "form": info["trace"]}


def label(run: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """A run in a few words, for headings."""
    count = len(run["info"]["devices"])
    name = run["path"] if run["path"].name == other["path"].name else run["path"].name
    return f"{shown(name, 80)} ({TITLES[run['info']['backend']]}, {count} device{'s' * (count != 1)})"


# ---- the verdict


def judge(runs: dict[str, dict[str, Any]], out: Path) -> dict[str, Any]:
    """The verdict of two runs, with the keys of a comparison's."""
    a, b = (runs[side] for side in SIDES)
    recipe, labels = a["recipe"], {"a": label(a, b), "b": label(b, a)}
    trained = runs | {f"{side}-twin": run["twin"] for side, run in runs.items() if run["twin"]}
    span = min(next(step for step in range(max(run["loss"]) + 2) if step not in run["loss"])
               for run in trained.values())
    if not span:
        raise BadInput(f"{a['path']} and {b['path']}: the loss of the first step is not there; train them again with "
                       "--trace from the start")
    losses = {name: {"loss": np.array([run["loss"][step] for step in range(span)])} for name, run in trained.items()}
    precision = recipe.train.precision
    curve = ladder.loss_curve(losses | {"positions": positions(recipe)}, precision, 4, SIDES)
    judged = span + 1 if curve["horizon"] is None else max(1, curve["horizon"])
    steps = sorted(set.intersection(*(set(run["states"]) for run in trained.values())) & set(range(judged)))

    rungs, checks, null = [contract_rung(a, b)], {}, set()
    for step in steps:
        checks[step], noisy = state_checks(step, precision, *read_states(trained, step))
        null |= noisy
    first = next((step for step in steps if step), None)
    early = [check for step in steps if step <= (first or 0) for check in checks[step]]
    if early:
        rungs.append(ladder.rung("P2", "gradient", f"equal weights and optimizer slots after {updates(first or 0)}",
                                 early))
    later = [check for step in steps if step > (first or 0) for check in checks[step]]
    rungs.append(ladder.rung(*kind(a, b, precision), [ladder.loss_check(precision, curve), *later]))
    rungs = [rung | {"checks": rung["checks"][:CHECKS]} for rung in rungs]
    agrees, parted = all(rung["agrees"] for rung in rungs), curve["horizon"] in (0, 1)
    return {"schema_version": SCHEMA_VERSION, "sides": labels, "agrees": agrees, "open": agrees and parted,
            "rungs": rungs, "precision": precision, "steps": recipe.train.steps, "horizon": curve["horizon"],
            "sentence": sentence(labels, rungs, curve, span), "curves": {precision: curve},
            "cause": first_parting(checks), "tensors": [], "null_directions": sorted(null),
            "held_out": {side: run["info"]["final"] for side, run in runs.items()},
            "performance": {side: run["info"]["performance"] for side, run in runs.items()},
            "versions": {side: run["info"]["versions"] for side, run in runs.items()},
            "devices": {side: run["info"]["devices"] for side, run in runs.items()},
            "recipe": {"name": recipe.name, "hash": recipe.hash, "toml": dumps(recipe)},
            "data": a["info"]["data"], "differences": what_differs(a, b),
            "skipped": not_climbed(rungs, between_runs=True),
            "assumptions": ["each run was made as its directory says",
                            "a twin permutes the rows within each batch and dithers the first weights by half a unit "
                            "in the last place; it was trained where its run was"],
            "limits": limits(runs, labels, span), "made": made(),
            "commands": again("compare-runs", str(a["path"]), str(b["path"]), out=out)} | shown_of(runs)


def shown_of(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{"task": what a page shows of it}, by the metrics of both; what fails of that is a line of the verdict."""
    found: dict[str, Any] = {}
    with fenced(found, "task"):
        found["task"] = task_of_runs(runs)
    return found


def contract_rung(a: dict[str, Any], b: dict[str, Any]) -> Rung:
    """P0, of what both runs know: a sketching one leaves no hashes of its weights. Recipes are hashed here and now, so
    that a version's new defaults are the same for both."""
    one, other = (run["contract"] | {"recipe": run["recipe"].meaning} for run in (a, b))
    names = one.keys() & other.keys()
    sides = {"a": {name: one[name] for name in names}, "b": {name: other[name] for name in names}}
    for side, run in zip(SIDES, (a, b), strict=True):
        sides[side] |= {f"batch {step}": sha for step, sha in enumerate(run["batches"])
                        if step < min(len(a["batches"]), len(b["batches"]))}
    rung = ladder.contract_rung(sides, SIDES)
    kinds = sorted({name.split("/")[0].rstrip("0123456789 ") for name in sides["a"]})
    return rung | {"proves": f"bitwise equal: {', '.join(kinds)}"}


def kind(a: dict[str, Any], b: dict[str, Any], precision: str) -> tuple[str, str, str]:
    """(name, title, what it proves) of the rung that the trajectories are judged on."""
    counts = [len(run["info"]["devices"]) for run in (a, b)]
    if a["info"]["backend"] == b["info"]["backend"] and counts[0] != counts[1]:
        return "P6", "sharding", f"{counts[0]} against {counts[1]} devices: no more than {precision} rounding"
    if precision == "float64":
        return "P4", "semantics", "one training: equal losses and states step by step in float64"
    return "P5", "numerics", f"no more rounding than {precision} costs each run itself"


def read_states(trained: Mapping[str, Any], step: int) -> tuple[dict[str, Any], Callable[..., Any]]:
    """({run: {"GROUP/NAME": tensor or sketch}} after `step` updates, how two of them compare): sketches, where one of
    the runs left no more. See `full` and `distance`."""
    found = {name: load_tensors(run["states"][step]) for name, run in trained.items()}
    if {run["form"] for run in trained.values()} == {"full"}:
        return found, full
    for name, run in trained.items():
        if run["form"] == "full":
            found[name] = {tensor: sketch(np, x.astype(np.float64)) for tensor, x in found[name].items()}
    return found, distance


def full(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """`common.numbers.sketch.distance` of whole tensors, by their largest elements."""
    return difference(x, y), 0.0, float(np.abs(y).max()) if np.isfinite(y).all() else math.inf


def state_checks(step: int, precision: str, states: Mapping[str, Any], differ: Callable[..., Any]
                 ) -> tuple[list[Check], set[str]]:
    """(checks of the states after `step` updates, canonical names of null directions among them).

    Each tensor is judged by a few twins' noise, that of the noisiest tensor of its group: 4 of it as P2 has it for one
    step, 8 as P4 has it for what many steps have grown; and no closer than sketches resolve. Null directions, which
    have lost half of their digits to a twin, are nobody's measure; they are judged absolutely, against the size of the
    group's largest tensor, by the group's noise or their own.
    """
    factor, twins = 4 if step < 2 else 8, [side for side in SIDES if f"{side}-twin" in states]
    names = sorted(states["a"].keys() & states["b"].keys())
    found = {name: differ(states["b"][name], states["a"][name]) for name in names}
    own = {name: max(differ(states[f"{side}-twin"][name], states[side][name])[0] for side in twins) for name in names}
    null = {name for name in names if own[name] > math.sqrt(RESOLVED[precision])}
    noise, largest = {}, {}
    for name in names:
        noise[group(name)] = max(0.0 if name in null else own[name], noise.get(group(name), 0.0))
        largest[group(name)] = max(found[name][2], largest.get(group(name), ladder.TINY))

    checks, after = [], f"after {updates(step)}"
    for name in names:
        apart, unresolved, size = found[name]
        share = size / largest[group(name)] if name in null else 1.0
        bounds = [(factor * noise[group(name)], f"{factor} x the {precision} twin's noise in this group {after}"),
                  (unresolved, "what sketches of this shape resolve")]
        if name in null:
            bounds.append((factor * own[name] * share, f"{factor} x the {precision} twin's noise in it {after}"))
        what = f"{precision}{', null direction' * (name in null)}, {after}"
        checks.append(ladder.check(what, apart * share, max(bounds)[0], name, max(bounds)[1]))
    alone = sorted(states["a"].keys() ^ states["b"].keys())
    if alone:
        checks.append(ladder.check(f"tensors of one run alone, {after}", len(alone), 0, ", ".join(alone[:3]), "none"))
    return checks, {ladder.bare(name) for name in null}


def updates(count: int) -> str:
    """So many updates, in words."""
    return f"{count} update" + "s" * (count != 1)


def group(name: str) -> str:
    """What a tensor's name says that it is: weights, a slot or the average."""
    return name.split("/", 1)[0]


def first_parting(states: Mapping[int, Sequence[Check]]) -> dict[str, Any] | None:
    """Where the runs part: the first traced step at which a tensor is off, and the one furthest off then."""
    for step, checks in states.items():
        failed = [check for check in checks if not check["agrees"]]
        if failed:
            worst = max(failed, key=lambda c: c["worst"] / max(c["bound"], ladder.TINY))
            return {"step": step, "where": worst["where"], "operation": None,
                    "sentence": f"after {updates(step)}: {len(failed)} of {len(checks)} tensors are apart, furthest "
                                f"{worst['where']}: {sig(worst['worst'])} against a bound of {sig(worst['bound'])}, "
                                f"{margin(worst)}"}
    return None


# ---- in words


def sentence(labels: Mapping[str, str], rungs: Sequence[Rung], curve: dict[str, Any], span: int) -> str:
    """The verdict of two runs in one sentence."""
    one, other = labels.values()
    failed = next((rung for rung in rungs if not rung["agrees"]), None)
    if failed:
        return (f"{one} and {other} do not agree: {failed['name']} ({failed['title']}) parts at {failed['where']}, "
                f"{sig(failed['worst'])} against a bound of {sig(failed['bound'])}, {margin(failed)}.")
    if curve["horizon"] in (0, 1):
        return (f"{one} and {other}: open. A twin parts from its run at step {curve['horizon']}, so that nothing can "
                "be told from rounding; a smaller optimizer.learning_rate or a longer schedule.warmup helps.")
    reach = f"all {span} steps that the twins have" if curve["horizon"] is None else (
        f"the {max(1, curve['horizon'])} steps before the horizon")
    return f"{one} and {other} train the same: {rungs[-1]['name']} ({rungs[-1]['title']}) holds over {reach}."


def what_differs(a: dict[str, Any], b: dict[str, Any]) -> list[list[str]]:
    """Rows of what is not the same in both runs: recipe, backend, devices and versions."""
    old, new = (flat(run["recipe"].model_dump(mode="json")) for run in (a, b))
    rows = [[dotted(key), str(old.get(key, "–")), str(new.get(key, "–"))] for key in old | new
            if old.get(key) != new.get(key)]
    for name, of in (("backend", lambda run: TITLES[run["info"]["backend"]]),
                     ("devices", lambda run: f"{len(run['info']['devices'])}, first {run['info']['devices'][0]}")):
        if of(a) != of(b):
            rows.append([name, of(a), of(b)])
    names = sorted(a["info"]["versions"].keys() | b["info"]["versions"].keys())
    versions = [[name, *(str(run["info"]["versions"].get(name, "–")) for run in (a, b))] for name in names]
    return rows + [row for row in versions if row[1] != row[2]]


def limits(runs: Mapping[str, dict[str, Any]], labels: Mapping[str, str], span: int) -> list[str]:
    """What the verdict of two runs does not say."""
    found = [f"judged over the first {span} steps, as far as the twins go; later ones show in the held-out metrics"]
    found += [f"{labels[side]} has no twin of its own" for side, run in runs.items() if not run["twin"]]
    if "sketch" in {run["form"] for run in runs.values()}:
        found.append("states, first weights too, are compared by sketches: a difference is known within a factor of 2 "
                     "as a rule, and none below what the sketches' own rounding hides")
    return found
