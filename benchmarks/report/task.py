"""What a page shows of a task: the figures of `task_plots`, a table beside each, and the worst examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.benchmarks.numbers import as_float, evenly, floats, sig
from twinscale.benchmarks.report import task_plots
from twinscale.benchmarks.report.plots import drawn
from twinscale.common.metrics.classes import PARTS
from twinscale.common.metrics.words import number

BARS, TAKEN, KEPT = 30, 30, 24  # classes that have bars, pairs of classes in a table, evaluations in a table


def view(task: Mapping[str, Any], sides: Mapping[str, str]) -> dict[str, Any] | None:
    """What task.html.j2 and task.md.j2 show; None where there is nothing."""
    if not task:
        return None
    return {"entities": task.get("kind") == "entities", "labels": [*sides.values()],
            "classes": classes(task.get("classes") or [], sides), "matrix": matrix(task, sides),
            "reliability": reliability(task.get("reliability") or {}, sides),
            "curves": curves(task.get("curves") or {}, sides),
            "paired": paired_words(task["paired"], [*sides.values()]) if task.get("paired") else None,
            "worst": [example(one, sides) for one in task.get("worst") or []], "lacking": task.get("lacking")}


def in_tables(task: Mapping[str, Any]) -> tuple[str, ...]:
    """How the names of metrics begin whose values the tables of a task have."""
    start = "entity_" if task.get("kind") == "entities" else ""
    return ((*(f"{start}{part}/" for part in PARTS),) if task.get("classes") else ()) + (
        ("confusion/",) if task.get("matrix") else ())


# ---- of classes

def classes(rows: Sequence[Mapping[str, Any]], sides: Mapping[str, str]) -> dict[str, Any] | None:
    """Bars of the classes, or of those with the lowest F1, and a table of all."""
    if not rows:
        return None
    f1 = np.array([[part_of(row, side, "f1") for side in sides] for row in rows])
    lowest = np.argsort(np.nan_to_num(f1).min(axis=1), kind="stable")
    chosen = range(len(rows)) if len(rows) <= BARS else sorted(lowest[:BARS])
    shown = [rows[i] for i in chosen]
    weakest = rows[lowest[0]]
    words = (f"Precision, recall and F1 of {'all' if len(shown) == len(rows) else 'the weakest'} {len(shown)} of "
             f"{len(rows)} classes. The lowest F1 is that of {weakest['name']}: "
             + " and ".join(f"{part_of(weakest, side, 'f1'):.3f} ({label})" for side, label in sides.items()) + ".")
    if len(sides) == 2:
        apart = np.abs(f1[:, 0] - f1[:, 1])
        most = int(np.argmax(np.nan_to_num(apart)))
        words += f" Both sides' F1 differ by {apart[most]:.3f} at most" + (
            f", at {rows[most]['name']}." if apart[most] > 0 else ".")
    table = [(row["name"], number(as_float(row.get("count"))),
              *(f"{part_of(row, side, part):.4f}" for part in PARTS for side in sides)) for row in rows]
    return {"figure": drawn("classes", words, task_plots.bars, shown, sides), "rows": table,
            "heads": [f"{'F1' if part == 'f1' else part}, {label}" for part in PARTS for label in sides.values()]}


def part_of(row: Mapping[str, Any], side: str, part: str) -> float:
    """A class' share on a side."""
    return as_float((row.get(side) or {}).get(part))


def matrix(task: Mapping[str, Any], sides: Mapping[str, str]) -> dict[str, Any] | None:
    """Heat maps of confusion, and a table of what is most often taken for something else, or differs most."""
    tables, names = task.get("matrix") or {}, task.get("names") or []
    if not tables:
        return None
    found = {side: task_plots.floats_of(tables[side]) for side in sides if side in tables}
    off = sum(found.values()) * (1 - np.eye(len(names)))
    apart = np.abs(np.subtract(*found.values())) if len(found) == 2 else np.zeros_like(off)
    cells = [(int(i), int(j)) for i, j in np.argwhere((off > 0) | (apart > 0))]
    cells = sorted(cells, key=lambda at: (-off[at], -apart[at], at))
    rows = [(names[i], names[j], *(number(x[i, j]) for x in found.values())) for i, j in cells[:TAKEN]]
    right = " and ".join(f"{number(np.trace(x))} of {number(x.sum())} ({sides[side]})" for side, x in found.items())
    words = (f"Confusion of {len(names)} classes: rows are labels, columns predictions, a cell is as dark as its share "
             f"of the row. On the diagonal, and so right, are {right}.")
    if len(found) == 2:
        count = int((apart > 0).sum())
        words += (f" The difference is the first less the second, each colour for one that has more: {count} of "
                  f"{apart.size} cells differ, by {number(apart.max(initial=0.0))} at most.")
    return {"figure": drawn("confusion", words, task_plots.confusion, tables, names, sides), "rows": rows,
            "more": max(0, len(cells) - TAKEN)}


# ---- of shares and evaluations

def reliability(found: Mapping[str, Any], sides: Mapping[str, str]) -> dict[str, Any] | None:
    """How often either side is right where it is so sure."""
    if not found:
        return None
    said = []
    for side, label in sides.items():
        confidence, accuracy, count = (floats((found.get(side) or {}).get(key))
                                       for key in ("confidence", "accuracy", "count"))
        off = float(count @ np.abs(confidence - accuracy) / max(count.sum(), 1e-300)) if count.size else np.nan
        said.append(f"{sig(off, 3)} ({label})")
    words = (f"How often a prediction is right, by how sure it is: on the dotted line confidence is the share of hits. "
             f"The mean distance from it, the calibration error, is {' and '.join(said)}.")
    rows = [(label, f"{confidence:.3f}", f"{accuracy:.3f}", number(count)) for side, label in sides.items()
            for confidence, accuracy, count in zip(
                *(floats((found.get(side) or {}).get(key)) for key in ("confidence", "accuracy", "count")),
                strict=True)]
    return {"figure": drawn("reliability", words, task_plots.reliability, found, sides), "rows": rows}


def curves(found: Mapping[str, Any], sides: Mapping[str, str]) -> dict[str, Any] | None:
    """What sums up the evaluations, as they went, and a table of them, of very many evenly thinned out."""
    if not found:
        return None
    steps = next(iter(next(iter(found.values())).values()))["steps"]
    words = f"{len(steps)} evaluations on the held-out set, from step {steps[0]:,} to {steps[-1]:,}."
    return {"figure": drawn("evaluations", words, task_plots.curves, found, sides)} | evaluations(found, sides)


def evaluations(found: Mapping[str, Any], sides: Mapping[str, str]) -> dict[str, Any]:
    """The "rows" of a table of evaluations, of very many evenly thinned out, and their "heads"."""
    steps = next(iter(next(iter(found.values())).values()))["steps"] if found else []
    rows = []
    for i in evenly(len(steps), KEPT):
        values = [of[side]["values"] for of in found.values() for side in sides if side in of]
        rows.append((f"{steps[i]:,}", *(sig(x[i], 5) if i < len(x) else "–" for x in values)))
    heads = [f"{metric.replace('_', ' ')}, {label}" for metric, of in found.items()
             for side, label in sides.items() if side in of]
    return {"rows": rows, "heads": heads}


# ---- the worst examples

def example(one: Mapping[str, Any], sides: Mapping[str, str]) -> dict[str, Any]:
    """An example as templates take it: of each side what it predicts, whether that is right, and its loss."""
    predicted, share = one.get("predicted") or {}, one.get("share") or {}
    told = [{"label": label, "loss": sig((one.get("loss") or {}).get(side), 3), "predicted": predicted.get(side),
             "share": f"{100 * as_float(share.get(side)):.1f} %" if side in share else None,
             "right": predicted.get(side) == one.get("label")} for side, label in sides.items()]
    words = [word | {"sides": [(label, word.get(side)) for side, label in sides.items()],
                     "wrong": any(word.get(side) != word.get("label") for side in sides),
                     "plain": all(word.get(key) == "O" for key in ("label", *sides))}
             for word in one.get("words") or []]
    return {"row": one.get("row"), "label": one.get("label"), "text": one.get("text"), "image": one.get("image"),
            "size": " x ".join(map(str, one.get("size") or [])), "words": words, "told": told}


# ---- the paired test

def paired_words(test: Mapping[str, Any], labels: Sequence[str]) -> str:
    """What the paired test of F1 (`rungs/sentences.py`) says, for a person."""
    low, high = test["interval"]
    where = {"equivalent": "inside", "different": "outside", "inconclusive": "reaches beyond"}[test["answer"]]
    return (f"F1 of entities, paired over {test['seeds']} sentences: {' - '.join(labels)} = {test['mean']:+.2g}, "
            f"{100 - 200 * test['alpha']:g} % interval [{low:.2g}, {high:.2g}] {where} ±{test['margin']:g}: "
            f"{test['answer']}. It says how much of this is the choice of sentences, and is no part of the verdict.")
