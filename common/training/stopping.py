"""When a training ends before its last step: after evaluations in which what is watched has not got better."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.metrics import added, finished, higher_is_better, statistics_of, total
from twinscale.common.metrics.base import ALWAYS
from twinscale.common.registry import short

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe


def watched(recipe: "Recipe", metrics: Mapping[str, float]) -> float:
    """What a recipe watches, of an evaluation's metrics. Raises BadInput where they have none of that name."""
    name = recipe.train.watch
    if name not in metrics:
        raise BadInput(f'train.watch="{short(name)}": evaluations have no such value: there are '
                       f"{', '.join(list(metrics)[:8])}")
    return metrics[name]


def measured_before(recipe: "Recipe", lines: Iterable[Mapping[str, Any]], start: int) -> dict[int, float]:
    """{updates: what is watched} of the evaluations of a run's metrics until its state of `start` updates."""
    key = f"held_out/{recipe.train.watch}"
    return {line["step"] + 1: math.nan if line[key] is None else line[key] for line in lines
            if key in line and line["step"] < start}


def check_watched(recipe: "Recipe", dataset: "Dataset") -> None:
    """Raises BadInput where an evaluation on a dataset will have no value such as a recipe watches: of a metric that
    names its values by classes, one of drawn logits is asked."""
    train, classes = recipe.train, max(dataset.classes, 2)
    if not train.metrics or fixed(train.watch):
        return
    drawn, where, labels = np.random.default_rng(0), (2, 3), dataset.manifest.get("labels") or ()
    judged = drawn.standard_normal((*where, classes)), drawn.integers(0, classes, where), np.ones(where)
    sums = {"weight": 6.0} | total([statistics_of(train.metrics, np, *judged)])
    watched(recipe, finished(train.metrics, sums, labels))


def fixed(name: str) -> bool:
    """Whether a value is one of those that are always measured."""
    return any(name in metric.better for metric in added([ALWAYS]))


def ranked(recipe: "Recipe", measured: Mapping[int, float]) -> list[int]:
    """The steps that have a finite value of what is watched, the best first, the earlier of equal ones."""
    sign = -1 if higher_is_better(recipe.train.metrics, recipe.train.watch) else 1
    return sorted((step for step, value in measured.items() if math.isfinite(value)),
                  key=lambda step: (sign * measured[step], step))


def best_of(recipe: "Recipe", measured: Mapping[int, float]) -> int | None:
    """The updates at which what is watched was best; None where it was never finite."""
    return next(iter(ranked(recipe, measured)), None)


def waited(recipe: "Recipe", measured: Mapping[int, float]) -> int:
    """Evaluations since the best, all of them where none was finite."""
    best = best_of(recipe, measured)
    return sum(best is None or done > best for done in measured)


def is_over(recipe: "Recipe", measured: Mapping[int, float]) -> bool:
    """Whether a training that has measured this ends."""
    return bool(recipe.train.stop_after) and waited(recipe, measured) >= recipe.train.stop_after


def end_of(recipe: "Recipe", measured: Mapping[int, float]) -> int | None:
    """The updates after which a training that has measured this would have ended early; None where it would not."""
    steps = sorted(measured)
    return next((done for i, done in enumerate(steps) if done < recipe.train.steps and is_over(
        recipe, {step: measured[step] for step in steps[:i + 1]})), None)


def told(recipe: "Recipe", measured: Mapping[int, float]) -> dict[str, Any]:
    """{"step", "watch", "best", "best_step", "evaluations"} of a training that ends: when, by what, its best value and
    the updates until then, and the evaluations since."""
    best = best_of(recipe, measured)
    return {"step": max(measured), "watch": recipe.train.watch, "best": None if best is None else measured[best],
            "best_step": best, "evaluations": waited(recipe, measured)}


def words(found: Mapping[str, Any]) -> str:
    """That in a line."""
    best = "was never finite" if found["best_step"] is None else (
        f"was best after step {found['best_step']} ({found['best']:.6g})")
    return (f"ended early after step {found['step']}: {found['watch']} {best} and no better in the "
            f"{found['evaluations']} evaluations since (train.stop_after)")
