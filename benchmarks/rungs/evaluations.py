"""How far apart the evaluations of two programs may be, metric by metric."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twinscale.common.metrics import added, bounds_of, finished_one, own_sums
from twinscale.common.metrics.flips import expected as flips_expected
from twinscale.common.metrics.flips import most
from twinscale.common.numbers.formats import EPS, MASTERS, RESOLVED

SIDES = ("keras", "jax")  # what is compared, unless a caller compares two other runs


def accuracy_bound(sums: Sequence[Mapping[str, float]], twins: Iterable[Sequence[Mapping[str, Any]]], factor: float,
                   loss: float) -> dict[str, tuple[float, str]]:
    """{"accuracy": (bound, where it is from)}, where the loss may differ by `loss`.

    A hit is gained or lost where a position's two largest logits change places: where those of N positions are within
    `near` nats in `near` ones of N, and a mean of N that moves by b has terms that move by sqrt(N) b, then near / NEAR
    sqrt(N) b positions are expected to flip. As many may, and more by chance: what a Poisson count exceeds once in a
    million, or `factor` times what a twin has flipped.
    """
    weight, near = (max(found[key] for found in sums) for key in ("weight", "near"))
    flipped = max((apart(*(run["sums"].get("correct") for run in pair)) for pair in twins), default=0.0)
    expected = flips_expected(near, weight, loss)
    flips = max(most(expected), factor * flipped)
    return {"accuracy": (
        flips / max(weight, 1.0) + 4 * EPS["float64"],
        f"{flips:.0f} of {weight:,.0f} may flip: {expected:.2g} are expected to, {near:,.0f} are near it")}


def added_bounds(precision: str, runs: Mapping[str, Any], factor: float, loss: float) -> dict[str, tuple[float, str]]:
    """{metric of `train.metrics`: (bound, where it is from)}: its own, by that of the loss, where it has one and no
    twin has moved by more, and else `factor` times what a twin's evaluation differs by, no less than the mean of its
    positions resolves."""
    found, labels = {}, runs.get("labels", ())
    for metric in added(runs.get("metrics", ())):
        sums = [own_sums(metric, runs[side]["sums"]) for side in SIDES]
        given = [bounds_of(metric, own, loss, labels) for own in sums] if metric.bound else []
        for name in finished_one(metric, sums[0], labels):
            told = {run: runs[run]["held_out"] for run in (*SIDES, *(f"{side}-twin" for side in SIDES)) if run in runs}
            apart_most = max((apart(told[side].get(name), told[f"{side}-twin"].get(name)) for side in SIDES
                              if f"{side}-twin" in told), default=0.0)
            if given and (own := max(bounds[name] for bounds in given)) >= factor * apart_most:
                found[name] = own, f"{metric.title}'s own, by the loss's bound"
                continue
            if given:
                found[name] = factor * apart_most, f"{factor} x the {precision} twin's evaluation"
                continue
            unresolved = resolved(precision, largest(told.values(), name), max(sums[0]["weight"], 1.0))
            found[name] = (factor * max(apart_most, unresolved),
                           f"{factor} x the {precision} twin's evaluation, or what a mean resolves")
    return found


def resolved(precision: str, size: Any, count: float) -> Any:
    """What a mean of `count` values of a size cannot resolve: see `loss_curve`."""
    walk, summed = math.sqrt(count), EPS[MASTERS[precision]]
    return size * max(walk * summed, RESOLVED[precision] / walk)


def apart(x: float | None, y: float | None) -> float:
    """|x - y|, infinite where either is None."""
    return math.inf if x is None or y is None else abs(x - y)


def largest(metrics: Iterable[Mapping[str, Any]], name: str) -> float:
    """The largest size of a metric on any side; 0 where none has it."""
    return max((abs(found[name]) for found in metrics if found.get(name) is not None), default=0.0)
