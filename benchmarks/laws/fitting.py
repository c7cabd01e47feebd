"""`twinscale fit`: a law of a table of results, its certificate, its intervals, and what it advises."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from twinscale.benchmarks.laws import approaches, intervals, solve
from twinscale.benchmarks.laws.curves import Curve
from twinscale.benchmarks.laws.forms import FORMS, Form
from twinscale.benchmarks.laws.losses import RobustLoss
from twinscale.benchmarks.laws.optimum import optimum
from twinscale.benchmarks.laws.table import Table
from twinscale.common.errors import BadInput, did_you_mean

# Times the largest compute of the table that a budget may be before a word is said, and without --far.
WARNED, REFUSED = 10.0, 100.0
SPLIT = 1e10  # condition of the scaled Hessian above which a direction is not told by the rows
FAINT = 1e-3  # share of every prediction below which a term is not told
OPTIMA = ("chinchilla", "over-training", "repetition", "precision", "sparsity")  # laws of N and D


class Asked(NamedTuple):
    """What is asked of a fit."""

    form: Form
    loss: RobustLoss
    boots: int = 4000
    seed: int = 42
    level: float = 0.9
    budgets: tuple[float, ...] = ()
    far: bool = False


class Fit(NamedTuple):
    """A fitted law with all that its result and report say."""

    curve: Curve
    fitted: solve.Fitted
    public: np.ndarray  # (P,)
    boots: intervals.Boots | None
    result: dict[str, Any]


def form_named(name: str) -> Form:
    """The form of `--law`. Raises BadInput where there is none of that name."""
    if name not in FORMS:
        raise BadInput(f"--law {name}: is none of {', '.join(FORMS)}{did_you_mean(name, FORMS)}")
    return FORMS[name]


def fit_table(table: Table, asked: Asked) -> Fit:
    """The fit of a table. Raises BadInput where a budget is too far beyond the table, or runs are too few to
    resample."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # matrices are small: threads that wait for work cost as much as those that do it
        return _fit_table(table, asked)


def _fit_table(table, asked):
    form, loss = asked.form, asked.loss
    check_budgets(table, asked)
    if asked.boots:
        intervals.check_runs(table.runs, len(form.parameters) - form.ones)
    target = form.target(table.y, table.columns)
    curve = Curve(form, table.columns)
    began = time.process_time()
    fitted = solve.fit(curve, target, loss)
    fit_seconds = time.process_time() - began
    public = curve.public(fitted.theta[None])[0]
    residuals = target - curve.values(fitted.theta[None])[0]
    boots = intervals.bootstrap(curve, target, table.runs, loss, asked.boots, residuals, asked.seed) if (
        asked.boots) else None
    seconds = {"fit_seconds": fit_seconds, "resampling_seconds": time.process_time() - began - fit_seconds}
    known = judged(curve, fitted)
    result = {
        "results": {"path": table.path, "rows": len(target), "runs": len(np.unique(table.runs)),
                    "dropped": table.dropped,
                    "spans": {name: [float(column.min()), float(column.max())] for name, column in
                              table.columns.items()}},
        "law": {"name": form.name, "title": form.title, "equation": form.equation, "source": form.source},
        "objective": {"name": loss.name, "delta": loss.delta or None, "tilt": loss.tilt, "value": fitted.objective,
                      "inside": fitted.inside, "mean_error": float(np.abs(residuals).mean())},
        "certificate": certificate(fitted, boots) | seconds,
        "parameters": parameters(curve, target, fitted, public, boots, asked, known),
        "approaches": compared(table, asked, public, boots) if form.name == "chinchilla" else [],
        "optima": [advised(table, asked, public, boots, flops) for flops in asked.budgets],
        "held_out": [one._asdict() for one in intervals.rollout(form, table.columns, target, loss,
                                                                axes_of(form))],
        "warnings": [*known.values(), *doubts(fitted)],
    }
    result["sentence"] = sentence(result)
    return Fit(curve, fitted, public, boots, result)


def axes_of(form: Form) -> tuple[str, ...]:
    """The columns that a rollout may go along."""
    return tuple(dict.fromkeys([*(name for name in ("N", "D") if name in form.columns),
                                *(("C",) if {"N", "D"} <= {*form.columns} else ())]))


def check_budgets(table: Table, asked: Asked) -> None:
    """Raises BadInput where a budget is far beyond the table's compute, and `far` does not say that this is wanted."""
    if asked.budgets and asked.form.name not in OPTIMA:
        raise BadInput(f"--at: --law {asked.form.name} is no law of size and data, and advises none")
    for flops in asked.budgets:
        if not 0 < flops < 1e40:
            raise BadInput(f"--at {flops:g}: a number of operations above 0 is wanted")
        if (beyond := flops / table.columns["C"].max()) > REFUSED and not asked.far:
            raise BadInput(f"--at {flops:g}: is {beyond:,.0f} times the largest compute of {table.path}, and laws are "
                           f"not trusted beyond {REFUSED:g} times: train larger runs, or say --far")


def judged(curve: Curve, fitted: solve.Fitted) -> dict[str, str]:
    """{parameter: why it is not known} of a fit."""
    form, unknown = curve.form, {}
    shares = curve.bent(fitted.theta[None]).shares[0].max(0)
    for k, name in enumerate(form.coefficients[:len(form.coefficients) - form.ones]):
        if shares[k] < FAINT:
            unknown[name] = (f"{name} is on its boundary, 0: its term is at most {shares[k]:.1e} of a prediction, and "
                             "its exponent says nothing")
    for i, (name, (low, high)) in enumerate(form.exponents.items()):
        value, reach = fitted.theta[i], high - low
        if not low - reach <= value <= high + reach:
            unknown[name] = f"{name} = {value:.3g} is far outside of where such exponents lie, {low:g} to {high:g}"
    if not 0 < fitted.condition < SPLIT:
        unknown[fitted.weakest] = (f"{fitted.weakest} is not identified: the rows hardly tell it apart from the others "
                                   f"(condition {fitted.condition:.1e})")
    return unknown


def doubts(fitted: solve.Fitted) -> list[str]:
    """What speaks against a fit's convergence."""
    found = []
    if not fitted.converged:
        found.append("the solver did not converge: the objective could still fall")
    if fitted.agreeing == 1:
        found.append(f"only one of {fitted.starts} starts came to this minimum")
    return found


def certificate(fitted: solve.Fitted, boots: intervals.Boots | None) -> dict[str, Any]:
    """What says that the solver came to a minimum."""
    return {"converged": fitted.converged, "gradient": fitted.gradient, "condition": fitted.condition,
            "weakest": fitted.weakest, "starts": fitted.starts, "agreeing": fitted.agreeing, "steps": fitted.steps,
            "resamples": len(boots.public) if boots else 0, "resamples_converged": boots.converged if boots else 0}


def parameters(curve: Curve, target_n: np.ndarray, fitted: solve.Fitted, public_P: np.ndarray,
               boots: intervals.Boots | None, asked: Asked, unknown: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each parameter: value, deviation and interval of the bootstrap, and of an exponent its profile."""
    form, rows = curve.form, []
    for i, name in enumerate(form.parameters[:len(form.parameters) - form.ones]):
        row = {"name": name, "value": float(public_P[i]), "known": name not in unknown, "deviation": None,
               "interval": None, "profile": None}
        if boots:
            row["deviation"] = float(boots.public[:, i].std())
            row["interval"] = intervals.interval(boots.public[:, i], asked.level)
        if boots and name in form.exponents and not unknown:
            row["profile"] = intervals.profile(curve, target_n, fitted, asked.loss, name, asked.level)
        rows.append(row)
    return rows


def advised(table: Table, asked: Asked, public_P: np.ndarray, boots: intervals.Boots | None, flops: float
            ) -> dict[str, Any]:
    """What a law advises for a budget, each figure with its interval."""
    best = {key: float(value[0]) for key, value in optimum(asked.form, public_P[None], flops).items()}
    beyond = float(flops / table.columns["C"].max())
    row: dict[str, Any] = {"flops": flops, "beyond": beyond, "far": beyond > WARNED, **best, "intervals": None}
    if boots:
        spread = optimum(asked.form, boots.public, flops)
        row["intervals"] = {key: intervals.interval(value, asked.level) for key, value in spread.items()}
        row["intervals"]["loss_of_a_run"] = intervals.prediction(spread["loss"], boots.residuals, asked.seed,
                                                                 asked.level)
    return row


def compared(table: Table, asked: Asked, public_P: np.ndarray, boots: intervals.Boots | None) -> list[dict[str, Any]]:
    """The three approaches: the exponent a of N = G C^a and the sizes for the budgets, each with its interval."""
    count = min(asked.boots, 1000)
    weights = np.concatenate([np.ones((1, len(table.y))), intervals.resampled(table.runs, count, asked.seed) if count
                              else np.zeros((0, len(table.y)))])
    found = []
    for name, title, made in (("1", "the envelope of all runs", approaches.envelope),
                              ("2", "parabolas over runs of equal compute", approaches.isoflop)):
        powers = made(table.columns, table.y, weights)
        found.append(row_of(name, title, powers.exponent, {flops: powers.at(flops) for flops in asked.budgets}, asked))
    spread = np.concatenate([public_P[None], boots.public if boots else np.zeros((0, len(public_P)))])
    sizes = {flops: optimum(asked.form, spread, flops)["N"] for flops in asked.budgets}
    found.append(row_of("3", "the fitted law", spread[:, 1] / (spread[:, 0] + spread[:, 1]), sizes, asked))
    return found


def row_of(name: str, title: str, exponents_B: np.ndarray, sizes: Mapping[float, np.ndarray], asked: Asked
           ) -> dict[str, Any]:
    """An approach's row; its first entries are of all rows, the others of resamples. Without a value it says so."""
    there = bool(np.isfinite(exponents_B[0]))

    def span(values):
        drawn = values[1:][np.isfinite(values[1:])]
        return intervals.interval(drawn, asked.level) if len(drawn) and there else None

    return {"approach": name, "title": title, "found": there, "a": float(exponents_B[0]) if there else None,
            "interval": span(exponents_B),
            "sizes": [{"flops": flops, "N": float(values[0]), "interval": span(values)} for flops, values in
                      sizes.items()] if there else []}


def disagreement(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which approaches' exponents lie apart, in a sentence; "" where there is nothing to compare."""
    there = [row for row in rows if row["found"] and row["interval"]]
    if len(there) < 2:
        return ""
    apart = [f"{one['approach']} and {other['approach']}" for i, one in enumerate(there) for other in there[i + 1:]
             if one["interval"][0] > other["interval"][1] or other["interval"][0] > one["interval"][1]]
    named = ", ".join(f"{row['approach']}: {row['a']:.3f}" for row in there)
    if apart:
        return f"The approaches put a at {named}; {', '.join(apart)} disagree beyond their intervals."
    return f"The approaches put a at {named}, within each other's intervals."


def sentence(result: Mapping[str, Any]) -> str:
    """The advice of the largest budget, or what the law is, in one sentence."""
    if not result["optima"]:
        values = ", ".join(f"{row['name']} = {row['value']:.4g}" if row["known"] else f"{row['name']} not known"
                           for row in result["parameters"])
        return f"{result['law']['equation']}: {values}."
    best = max(result["optima"], key=lambda row: row["flops"])
    spans = best["intervals"]

    def with_span(key, written):
        return written(best[key]) + (f" ({written(spans[key][0])} to {written(spans[key][1])})" if spans else "")

    count = "{:.3g}".format
    far = f", {best['beyond']:,.0f} times the largest run's compute" if best["far"] else ""
    return (f"For {best['flops']:.3g} operations{far}: train {with_span('N', count)} parameters on "
            f"{with_span('D', count)} tokens, {with_span('ratio', '{:.1f}'.format)} a parameter, for a loss of "
            f"{with_span('loss', '{:.3f}'.format)}.")


def law_file(public_P: np.ndarray, form: Form) -> str:
    """The TOML that `--law` of `twinscale plan` reads, of a chinchilla law."""
    values = dict(zip(form.parameters, map(float, public_P), strict=True))
    return "".join(f"{key.lower()} = {values[key]!r}\n" for key in ("E", "A", "B", "alpha", "beta"))
