"""How far a plan may trust the law that it is made by: intervals of its figures, and how far beyond the law's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.benchmarks.laws import intervals, reach
from twinscale.benchmarks.laws.kept import Kept, of_law, read_fit
from twinscale.benchmarks.planning.budgets import Budget, best, worth
from twinscale.benchmarks.planning.laws import Law


def trusted(name: str, law: Law, work: Mapping[str, Any], budget: Budget | None, far: bool) -> dict[str, Any] | None:
    """{"from", "level", "resamples", "loss", "intervals", "beyond", "warnings"} of a plan's work by the law of that
    name; None where the work has no size. Intervals are None where nothing was resampled, and are those of the figures
    that the law has chosen: a size that a recipe has says nothing of the law. Raises BadInput where the work lies too
    far beyond the rows of a fit, unless `far`."""
    size, tokens = work["parameters"], work["tokens"]
    if not (size and tokens):
        return None
    kept = kept_as(name, law)
    unique = budget.unique if budget else np.inf
    point = {"N": size, "D": tokens, "C": 6 * size * tokens}
    told: dict[str, Any] = {
        "from": kept.origin, "level": kept.level, "resamples": 0 if kept.boots is None else len(kept.boots),
        "loss": float(law.loss(size, worth(tokens, unique))), "intervals": None,
        "beyond": reach.beyond(kept.spans, point), "warnings": [*kept.warnings, *reach.doubts(kept.spans, point, far)]}
    if kept.boots is None:
        return told
    alpha, beta, a, b, e = kept.boots.T
    spread = Law(e, a, b, alpha, beta)
    with np.errstate(all="ignore"):
        chosen: dict[str, Any] = {}
        if budget:
            chosen["parameters"], chosen["tokens"] = best(spread, work["budget"]["flops"], budget)
        elif work["flops_per_token"] is None:
            chosen["parameters"], chosen["tokens"] = spread.best(work["flops"])
        elif work["from"] == "the law, for this size":
            chosen["tokens"] = spread.tokens_for(size)
        loss = spread.loss(chosen.get("parameters", size), worth(chosen.get("tokens", tokens), unique))
    figures = chosen | {"loss": loss}
    told["intervals"] = {key: intervals.interval(values, kept.level) for key, values in figures.items()}
    told["intervals"]["loss_of_a_run"] = intervals.prediction(loss, kept.residuals, 42, kept.level)
    return told


def check_deadlines(name: str, law: Law, rows: Sequence[Mapping[str, Any]], far: bool) -> list[str]:
    """Warnings of sizes and tokens that a law gives for deadlines, at the ceiling; raises BadInput where
    `trusted` does."""
    kept, found = kept_as(name, law), []
    for row in rows:
        deadline = row["deadline"]
        size, tokens = deadline["parameters"]["ceiling"], deadline["tokens"]["ceiling"]
        found += reach.doubts(kept.spans, {"N": size, "D": tokens, "C": 6 * size * tokens}, far)
    return list(dict.fromkeys(found))


def kept_as(name: str, law: Law) -> Kept:
    """What is known of a law by its name; of a law.toml that is not its fit's any more, no more than its numbers."""
    kept = read_fit(name, "--law")
    same = kept.form.name == "chinchilla" and tuple(kept.public) == (law.alpha, law.beta, law.a, law.b, law.e)
    return kept if same else of_law(law, name)


def said(told: Mapping[str, Any]) -> list[str]:
    """Lines on what a law says of a plan."""
    names = {"parameters": "parameters", "tokens": "tokens", "loss": "loss", "loss_of_a_run": "loss of a run"}
    spread = "; ".join(f"{names[key]} {low:.4g} to {high:.4g}"
                       for key, (low, high) in (told["intervals"] or {}).items())
    lines = [f"Loss {told['loss']:.4g} nats a token by {told['from']}; " + (
        f"{told['level']:.0%} intervals: {spread}." if spread else "no intervals: the law has no resamples.")]
    factors = reach.told(told["beyond"])
    if factors not in ("inside", "not known"):
        lines.append(f"Beyond the rows of the fit: {factors}.")
    return lines + [f"Beware: {words}." for words in told["warnings"]]
