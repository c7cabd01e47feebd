"""The page of a search: its trials, how it went, what the metric depends on and what it costs."""

from pathlib import Path
from typing import Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.report import tune_plots as plots
from twinscale.benchmarks.report.page import drawn, ordered, reproduced, write
from twinscale.benchmarks.report.words import number

UNITS = {"seconds": "seconds of training", "flops": "operations of the whole training", "parameters": "parameters"}
STATES = {"complete": ("✓", "good"), "pruned": ("–", "muted"), "failed": ("✕", "bad"), "running": ("…", "muted"),
          "waiting": ("…", "muted")}
PANELS = 12  # of slices
TERMS = [("Trial", "One recipe of the space, trained by the usual `train` into a run directory of its own, which is "
                   "called by the recipe's hash."),
         ("Given up", "An evaluation was worse than those of most trials after as many updates, by the pruner; the run "
                      "is saved, and `twinscale train` goes on with it."),
         ("Importance", "The share of what the metric varies by over the space that a key explains by itself or with "
                        "others: functional ANOVA over a forest that is fitted to the trials (Hutter, Hoos and "
                        "Leyton-Brown 2014). Of few trials it is a guess."),
         ("Front", "The trials that no other beats in metric or cost without being worse in the other one.")]


def write_tuning(found: dict, out: Path) -> None:
    """Write report.html and report.md into `out` from what tune.json says; equal searches give equal bytes."""
    write("report", _view(ordered(found)), out, "tune")


def _view(found):
    """What both templates show."""
    trials, metric, cost = found["trials"], found["metric"], found["cost"]
    space = sorted(found["space"], key=lambda axis: -found["importance"].get(axis["key"], 0))
    ended = [trial for trial in trials if trial["state"] == "complete"]
    points = [(trial["number"], trial["metric"], trial[cost]) for trial in ended if trial[cost] is not None]
    rows = [(trial["params"], trial["metric"]) for trial in ended]
    direction, kinds = found["direction"], [axis["key"] for axis in space]
    shares = dict(sorted(found["importance"].items(), key=lambda share: (-share[1], share[0])))
    figures = [
        ("history", "How it went", bool(ended) and (
            _history_words(found, ended), plots.history, [trial["number"] for trial in ended],
            [trial["metric"] for trial in ended], direction, metric)),
        ("importance", "What the metric depends on", bool(shares) and (
            _importance_words(shares, metric), plots.importance, shares)),
        ("front", "Metric against cost", bool(points) and (
            _front_words(found), plots.front, points, found["front"], metric, UNITS[cost])),
        ("slices", "Key by key", bool(rows) and (
            f"Each trial that came to its end: {metric} against the value of a key, the most important first.",
            plots.slices, space[:PANELS], rows, metric))]
    versions = {"here": (found.get("made") or {}).get("versions")}
    return {
        "v": found, "found": bool(ended), "keys": kinds, "cost": cost, "metric": metric,
        "figures": [(name, title, drawn(f"tune-{name}", *made)) for name, title, made in figures if made],
        "rows": [_row(trial, kinds, cost, found) for trial in _by_metric(trials, direction)],
        "reasons": [(trial["number"], trial["reason"]) for trial in trials if trial["state"] == "failed"],
        "terms": TERMS, "facts": _facts(found, trials),
        **reproduced("tune", found | {"versions": versions}, {"here": "version"})}


def _by_metric(trials, direction):
    sign = {"minimize": 1, "maximize": -1}[direction]
    return sorted(trials, key=lambda trial: (trial["metric"] is None, sign * (trial["metric"] or 0), trial["number"]))


def _row(trial, keys, cost, found):
    mark, tone = STATES[trial["state"]]
    word = "given up" if trial["state"] == "pruned" else trial["state"]
    last = trial["evaluations"][-1] if trial["evaluations"] else {}
    said = sig(trial["metric"], 5) if trial["metric"] is not None else (
        f"{sig(last['value'], 5)} at {last['step']}" if last.get("value") is not None else "–")
    return {"number": trial["number"], "metric": said, "state": f"{mark} {word}", "tone": tone,
            "cost": "–" if trial[cost] is None else _cell(trial[cost]), "run": trial["run"],
            "best": trial["number"] == found["best"], "front": trial["number"] in found["front"],
            "values": [_cell(trial["params"].get(key)) for key in keys]}


def _cell(value: Any) -> str:
    return "–" if value is None else sig(value, 3) if type(value) is float else str(value)


def _facts(found, trials):
    counts = {state: sum(trial["state"] == state for trial in trials) for state in ("complete", "pruned", "failed")}
    return [("trials", number(len(trials))), ("complete", number(counts["complete"])),
            ("given up", number(counts["pruned"])), ("failed", number(counts["failed"])),
            (f"best {found['metric']}", "–" if found["best_value"] is None else sig(found["best_value"], 5)),
            ("backend", found["backend"]), ("sampler", found["sampler"]), ("pruner", found["pruner"]),
            ("seed", str(found["seed"]))]


def _history_words(found, ended):
    return (f"{found['metric']} of the {len(ended)} trials that came to their end, in the order of their numbers, and "
            f"the best so far. The best is trial {found['best']}.")


def _importance_words(shares, metric):
    first, share = next(iter(shares.items()))
    return f"{share:.0%} of what {metric} varies by over the space is {first}."


def _front_words(found):
    aim = "both were objectives of the search" if found["searched"] else "the search was for the metric alone"
    return (f"{found['metric']} against {UNITS[found['cost']]}; {aim}. On the front: "
            f"{', '.join(f'trial {number}' for number in found['front'])}.")
