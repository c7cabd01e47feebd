"""What a search has found, read off its database: tune.json, and its words on a terminal."""

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import made
from twinscale.benchmarks.tuning.result import SCHEMA_VERSION
from twinscale.benchmarks.tuning.study import best_of, front_of, importances
from twinscale.benchmarks.tuning.trials import NAMED
from twinscale.common.backends import options_of
from twinscale.common.files.output import safe_console, table_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from twinscale.benchmarks.tuning.study import Open

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
SAID = {"pruned": "given up"}  # what a state is called in sentences
COST = "seconds"  # of the front, where the search had one objective


def collected(opened: "Open", asked: Any, base: Any, direction: str) -> dict[str, Any]:
    """What tune.json holds; `asked` is the search as the command line has it, `base` its recipe."""
    search, best = opened.search, best_of(opened, direction)
    trials = [row(opened, trial) for trial in opened.trials]
    cost = search.cost or COST
    points = [(trial["number"], trial["metric"], trial[cost]) for trial in trials
              if trial["state"] == "complete" and trial[cost] is not None]
    again = ["twinscale", "tune", asked.source, *asked.overrides, "--space", str(asked.space),
             *options_of(asked.backend), "--trials", str(asked.trials or search.trials), "--out", f"{asked.out}-again"]
    return {
        "schema_version": SCHEMA_VERSION, "sentence": sentence(search.metric, direction, trials, best),
        "backend": asked.backend, "metric": search.metric, "direction": direction, "cost": cost,
        "searched": bool(search.cost), "sampler": search.sampler, "pruner": search.pruner, "seed": search.seed,
        "study": opened.study.study_name, "space": [described(axis) for axis in opened.axes], "trials": trials,
        "best": best.number if best else None, "best_value": best.values[0] if best else None,
        "front": front_of(points, direction), "importance": importances(opened),
        "recipe": {"name": base.name, "hash": best.user_attrs["hash"], "toml": best.user_attrs["recipe"]}
        if best else None,
        "commands": [quoted(again)], "made": made()}


def quoted(words: list[str]) -> str:
    """A command as a shell reads it."""
    import shlex

    return shlex.join(words)


def described(axis: Any) -> dict[str, Any]:
    """An axis as its file has it."""
    if axis.choices:
        return {"key": axis.key, "choices": list(axis.choices)}
    return {"key": axis.key, "low": axis.low, "high": axis.high, "log": axis.log} | (
        {} if axis.step is None else {"step": axis.step})


def row(opened: "Open", trial: "FrozenTrial") -> dict[str, Any]:
    """A trial of tune.json."""
    attributes = trial.user_attrs
    hashed = attributes.get("hash")
    values = {axis.key: axis.value(trial.params[axis.key]) for axis in opened.axes if axis.key in trial.params}
    return {"number": trial.number, "state": STATES[trial.state.name], "params": values,
            "metric": trial.values[0] if trial.values else None,
            **{name: attributes.get(name) for name in ("seconds", "flops", "parameters")},
            "reason": attributes.get("reason"), "hash": hashed,
            "run": os.path.join("runs", hashed[:NAMED]) if hashed else None,
            "evaluations": [{"step": step, "value": value if math.isfinite(value) else None}
                            for step, value in sorted(trial.intermediate_values.items())]}


def sentence(metric: str, direction: str, trials: list[dict[str, Any]], best: "FrozenTrial | None") -> str:
    """What came out, in a sentence."""
    counts = {state: sum(trial["state"] == state for trial in trials) for state in STATES.values()}
    said = ", ".join(f"{count} {SAID.get(state, state)}" for state, count in counts.items() if count)
    least = {"minimize": "least", "maximize": "most"}[direction]
    found = (f"The {least} {metric} is {sig(best.values[0], 5)}, of trial {best.number}" if best else
             "No trial came to its end")
    return f"{found}; of {len(trials)} trials: {said}."


def show(found: Mapping[str, Any]) -> None:
    """The best trials and what the metric depends on, on stdout."""
    console = safe_console()
    console.print(found["sentence"])
    sign = {"minimize": 1, "maximize": -1}[found["direction"]]
    ended = sorted((trial for trial in found["trials"] if trial["metric"] is not None),
                   key=lambda trial: sign * trial["metric"])
    keys = [axis["key"] for axis in found["space"]]
    rows = [(str(trial["number"]), sig(trial["metric"], 5), cell(trial[found["cost"]]),
             *(cell(trial["params"].get(key)) for key in keys)) for trial in ended[:10]]
    if rows:
        console.print(table_of(("trial", found["metric"], found["cost"], *keys), rows, ruled=False))
    for key, share in found["importance"].items():
        console.print(f"  {key}: {share:.0%} of what {found['metric']} varies by")


def cell(value: Any) -> str:
    """A value of a table."""
    return "–" if value is None else sig(value, 3) if type(value) is float else str(value)
