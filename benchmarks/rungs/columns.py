"""The rung above three columns: on the program or on the runtime a disagreement of whole trainings is laid.

The columns are three of the four cells of the swap (`benchmarks/rungs/swap.py`): the Keras program on TensorFlow and on
JAX, and the Flax program on JAX. Two of them share the program and two the runtime, so that which of the pairs agree
says what the parting follows. The fourth cell is not trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.compare_collect import precisions, run_path
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.sides import COLUMNS, USUAL, differ_in_one
from twinscale.common.training.run_metrics import read_metrics

if TYPE_CHECKING:
    from twinscale.benchmarks.verdict import Verdict
    from twinscale.common.recipe.schema import Recipe

NAME, TITLE = "P9", "program or runtime"
PROVES = "a parting of whole trainings is laid on the program or on the runtime, by which columns agree"


# ---- a pair

def pair_found(recipe: "Recipe", pair: Sequence[str], out: Path, directory: str, verdict: "Verdict") -> dict[str, Any]:
    """What is said of two columns, `pair`, that were compared in `out`, which is called `directory`: a `Pair` of
    `benchmarks/columns_result.py`."""
    return {"columns": list(pair), "directory": directory, "answer": verdict.answer, "exit_code": verdict.exit_code,
            "sentence": verdict.sentence, "rungs": [step_of(rung) for rung in verdict.rungs],
            "losses": {described.train.precision: losses_apart(*(logged(out, key, described) for key in USUAL))
                       for described in precisions(recipe)}}


def step_of(rung: Any) -> dict[str, Any]:
    """A rung of a ladder in short."""
    waits = rung.get("conclusive") is False or rung.get("open")
    answer = "agrees" if rung["agrees"] and not waits else "open" if waits else "fails"
    return {key: rung[key] for key in ("name", "title", "worst", "bound", "where")} | {"answer": answer}


def logged(out: Path, key: str, recipe: "Recipe") -> np.ndarray:
    """The losses that a side's run has logged, float64 (steps,); NaN what was not finite."""
    lines = read_metrics(run_path(out, key, recipe))
    return np.array([line["train/loss"] for line in lines if "train/loss" in line], np.float64)


def losses_apart(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """`Losses` of two runs' losses, float64 (steps,) each."""
    absolute = np.abs(first - second)
    relative = absolute / np.maximum(np.maximum(np.abs(first), np.abs(second)), 1e-300)
    worst = int(np.argmax(np.where(np.isnan(relative), np.inf, relative)))
    return {"steps": len(first), "absolute": float(absolute.max()), "relative": float(relative[worst]), "step": worst}


# ---- all of them

def laid_on(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rung of three pairs, each with its "columns", "answer", "rungs", "losses": a `Laid` of
    `benchmarks/columns_result.py`."""
    answers = {frozenset(pair["columns"]): pair["answer"] for pair in pairs}
    names = [name for name in COLUMNS if any(name in pair["columns"] for pair in pairs)]
    alone = [name for name in names
             if {answer for pair, answer in answers.items() if name in pair} == {"fails"}
             and {answer for pair, answer in answers.items() if name not in pair} == {"agrees"}]
    found: dict[str, Any] = {"blame": "several", "by": None, "at": None}
    if set(answers.values()) == {"agrees"}:
        found["blame"] = "none"
    elif "open" in answers.values():
        found["blame"] = None
    elif alone:
        found |= {"blame": follows(alone[0], names), "by": alone[0]}
        found["at"] = parting(nearest(alone[0], pairs))
    return {"name": NAME, "title": TITLE, "proves": PROVES, "agrees": found["blame"] == "none",
            "conclusive": found["blame"] is not None, **found, "sentence": sentence(found, names, pairs)}


def follows(name: str, names: Sequence[str]) -> str:
    """What a column that parts from both others has alone: its program, its runtime, or neither."""
    others = [COLUMNS[other] for other in names if other != name]
    own = COLUMNS[name]
    alone = [what for what in ("program", "runtime") if all(getattr(own, what) != getattr(o, what) for o in others)]
    return alone[0] if len(alone) == 1 else "one column"


def nearest(name: str, pairs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The pair of a column and one that it shares the program or the runtime with: what parts there is one thing."""
    return next(pair for pair in pairs if name in pair["columns"] and differ_in_one(pair["columns"]))


def parting(pair: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first rung of a pair that fails."""
    return next((dict(step) for step in pair["rungs"] if step["answer"] == "fails"), None)


# ---- words

def sentence(found: Mapping[str, Any], names: Sequence[str], pairs: Sequence[Mapping[str, Any]]) -> str:
    """On what a disagreement is laid, in a sentence."""
    titles = [COLUMNS[name].title for name in names]
    if found["blame"] == "none":
        return f"{listed(titles)} train the same: every rung of every pair holds{within(pairs)}."
    if found["by"]:
        own = COLUMNS[found["by"]].title
        laid = {"program": "it is the program's, of Keras or of Flax",
                "runtime": "it is the runtime's, of TensorFlow or of JAX",
                "one column": f"it is neither the program's nor the runtime's, but of {own} alone"}
        rest = [title for title in titles if title != own]
        return f"{listed(rest)} agree; {own} parts from both{at(found['at'])}: {laid[found['blame']]}."
    told = {"agrees": "agree", "fails": "part", "open": "stay open"}
    each = "; ".join(f"{listed([COLUMNS[name].title for name in pair['columns']])} {told[pair['answer']]}"
                     f"{at(parting(pair))}" for pair in pairs)
    if found["blame"] is None:
        return f"It stays open whether the columns train the same: {each}."
    return f"More than one thing differs, and neither the program nor the runtime stands out: {each}."


def listed(titles: Sequence[str]) -> str:
    """"a, b and c"."""
    return " and ".join([", ".join(titles[:-1]), titles[-1]])


def at(step: Mapping[str, Any] | None) -> str:
    """" at P2 (gradient), 1 against a bound of 2" of a rung, "" of none."""
    if not step:
        return ""
    return (f" at {step['name']} ({step['title']}): {step['where']}, {sig(step['worst'])} against a bound of "
            f"{sig(step['bound'])}")


def within(pairs: Sequence[Mapping[str, Any]]) -> str:
    """How far apart the losses of all pairs are at most, in the sharpest precision that all have."""
    precision = next(iter(pairs[0]["losses"]))
    losses = [pair["losses"][precision] for pair in pairs]
    worst = max(found["relative"] for found in losses)
    return f", and in {precision} all losses lie within {sig(worst)} relative over {losses[0]['steps']} steps"
