"""The law of each backend's runs, and whether the two are one: law parity, over runs that are paired by recipe."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from twinscale.benchmarks.laws.fitting import Asked, Fit, disagreement, fit_table
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.intervals import interval
from twinscale.benchmarks.laws.losses import named as loss_named
from twinscale.benchmarks.laws.optimum import optimum
from twinscale.benchmarks.laws.table import Table
from twinscale.common.errors import BadInput

FORM = FORMS["chinchilla"]
FEWEST = len(FORM.parameters) + 3  # runs that a bootstrap wants
AHEAD = (1.0, 10.0)  # times the largest run's 6 N D, at which laws are compared
Row = Mapping[str, Any]


class Wanted(NamedTuple):
    """What is asked of laws: resamples of runs, where their draws begin, and what intervals hold."""

    boots: int
    seed: int
    level: float


def budgets(rows: Sequence[Row]) -> tuple[float, ...]:
    """The operations at which laws are asked for the best size; none of no rows."""
    return tuple(times * max(row["C_6ND"] for row in rows) for times in AHEAD if rows)


def law_of(rows: Sequence[Row], wanted: Wanted, at: Sequence[float], path: str) -> tuple[Fit, dict[str, Any], Table]:
    """(the fit of finished runs' rows, its result as fit.json has it but for how it was made, the table). Raises
    BadInput where they are too few."""
    if len(rows) < FEWEST:
        raise BadInput(f"{len(rows)} finished runs: a law of {len(FORM.parameters)} parameters wants {FEWEST}")
    columns = {name: np.array([row[name] for row in rows], float) for name in ("N", "D", "C")}
    table = Table(columns, np.array([row["loss"] for row in rows], float), np.array([row["recipe"] for row in rows]),
                  {}, path)
    fit = fit_table(table, Asked(FORM, loss_named("huber", 1e-3, 0.5), wanted.boots, wanted.seed, wanted.level,
                                 tuple(at)))
    result = fit.result | {"level": wanted.level, "disagreement": disagreement(fit.result["approaches"])}
    return fit, result, table


def paired(rows: Sequence[Row], backends: Sequence[str]) -> list[tuple[Row, Row]]:
    """The finished runs of one recipe in both backends, in the order of the rows."""
    by = {(row["backend"], row["recipe"]): row for row in rows if row["state"] == "finished"}
    first, second = backends
    return [(row, by[second, row["recipe"]]) for (backend, recipe), row in by.items()
            if backend == first and (second, recipe) in by]


def parity(pairs: Sequence[tuple[Row, Row]], backends: Sequence[str], wanted: Wanted, path: str,
           ready: Mapping[str, Fit]) -> dict[str, Any]:
    """Whether two backends' laws of the same recipes are one.

    Both are fitted to the same resamples of pairs (Efron 1979, of pairs of runs), so that what a draw of recipes does
    to both is no part of their difference. A figure agrees where either value lies within the other law's interval, or
    0 within that of the paired difference, which is far narrower: an interval of resamples need not hold the value of
    all rows where a law has an end there, as E at 0. Parameters that the rows do not tell are not judged.

    Args:
      ready: {backend: the fit of all its finished runs}, which is that of the pairs where all are paired.
    Returns: {"pairs", "largest": of final losses, "rows": a row a figure, "agree", "sentence"}. Raises BadInput where
      pairs are too few.
    """
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    at = budgets([row for side in sides for row in side])
    fits = [ready[backend] if backend in ready and len(ready[backend].curve.columns["N"]) == len(pairs) else
            law_of(side, wanted, at, path)[0] for backend, side in zip(backends, sides, strict=True)]
    figures = [of_parameters(*fits)]
    for flops in at:
        best = [{key: np.concatenate([optimum(FORM, fit.public[None], flops)[key],
                                      optimum(FORM, fit.boots.public, flops)[key]]) for key in ("N", "loss")}
                for fit in fits if fit.boots]
        figures.append({f"N* at {flops:.3g}": (best[0]["N"], best[1]["N"]),
                        f"loss at {flops:.3g}": (best[0]["loss"], best[1]["loss"])})
    unknown = {row["name"] for fit in fits for row in fit.result["parameters"] if not row["known"]}
    rows = [compared(name, *both, backends, wanted.level) | {"known": name not in unknown}
            for some in figures for name, both in some.items()]
    apart = [row["figure"] for row in rows if row["known"] and not (row["within"] or row["zero"])]
    told = [row["figure"] for row in rows if row["known"] and not row["zero"]]
    found = {"pairs": len(pairs), "largest": largest(pairs), "rows": rows, "agree": not apart}
    return found | {"sentence": sentence(found, backends, apart, told)}


def of_parameters(one: Fit, other: Fit) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{a parameter: its value and those of the resamples, of either fit}."""
    assert one.boots and other.boots
    return {name: (np.concatenate([one.public[i:i + 1], one.boots.public[:, i]]),
                   np.concatenate([other.public[i:i + 1], other.boots.public[:, i]]))
            for i, name in enumerate(FORM.parameters)}


def compared(name: str, one: np.ndarray, other: np.ndarray, backends: Sequence[str], level: float) -> dict[str, Any]:
    """A figure of both laws: the value of either (the first entry) and its interval over the resamples, and their
    difference by resample."""
    spans = [interval(values[1:], level) for values in (one, other)]
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(one) - np.nan_to_num(other)
    around = interval(difference[1:], level)
    within = all(span[0] <= value[0] <= span[1] for span, value in zip(spans, (other, one), strict=True))
    return {"figure": name, **{backend: {"value": float(values[0]), "interval": span}
                               for backend, values, span in zip(backends, (one, other), spans, strict=True)},
            "difference": float(difference[0]), "interval": around, "within": within,
            "zero": around[0] <= 0 <= around[1]}


def largest(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    """The pair whose final losses lie furthest apart."""
    one, other = max(pairs, key=lambda pair: abs(pair[0]["loss"] - pair[1]["loss"]))
    return {"difference": abs(one["loss"] - other["loss"]), "recipe": one["recipe"], "N": one["N"], "D": one["D"],
            one["backend"]: one["loss"], other["backend"]: other["loss"]}


def sentence(found: Mapping[str, Any], backends: Sequence[str], apart: Sequence[str], told: Sequence[str]) -> str:
    """What law parity came to."""
    first, second = backends
    far = found["largest"]
    losses = (f"their final losses differ by at most {far['difference']:.2g} nats, at {far['N']:,} parameters and "
              f"{far['D']:,} tokens")
    if apart:
        return (f"The laws of {first} and {second} lie apart in {', '.join(apart)}, over {found['pairs']} pairs; "
                f"{losses}.")
    more = f"; of each pair together {', '.join(told)} can be told apart" if told else ""
    return (f"The laws of {first} and {second} agree within their intervals, over {found['pairs']} pairs{more}; "
            f"{losses}.")
