"""`twinscale predict-loss`: what a fitted law says of runs that nobody has trained, and how far it may be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.benchmarks.laws import intervals, reach
from twinscale.benchmarks.laws.curves import predicted
from twinscale.benchmarks.laws.forms import Form
from twinscale.benchmarks.laws.kept import Kept, read_fit
from twinscale.benchmarks.laws.result import SCHEMA_VERSION, Prediction
from twinscale.benchmarks.output import PRINTED, Delivery, check_files, deliver
from twinscale.common.errors import DID_IT, BadInput
from twinscale.common.files.access import escaped_lines
from twinscale.common.files.output import safe_console, table_of

FILE = "prediction.json"
OPTIONS = {"N": "--n", "D": "--d", "unique_D": "--unique-d", "bits": "--bits", "sparsity": "--sparsity",
           "loss": "--loss", "chance": "--chance"}
PLAIN = {"bits": 32.0, "sparsity": 0.0, "chance": 0.0}  # of a run of which nothing else is said
SHARES = ("sparsity", "chance")
UNITS = {"loss": "nats a token", "accuracy": "of the answers", "learning_rate": "", "global_batch": ""}
MOST = 10_000  # points
AT_ONCE = 200_000  # points times resamples, whose terms lie in memory together: more of them leave the caches

Ends = list[list[float] | None]  # [low, high] of each point


def predict_loss(fit: str, given: Mapping[str, Sequence[float]], *, level: float | None = None, far: bool = False,
                 to: Delivery = PRINTED) -> int:
    """Prints what a law predicts for points, and leaves it as FILE where a directory is named; returns the exit code 0.

    Args:
      fit: a directory or file, or a name, as `kept.read_fit` takes.
      given: {column of OPTIONS: its values, one for all points or one for each}.
      level: the share that intervals hold; None: that of the fit.
      far: trusts the law beyond `fitting.REFUSED` times its rows.
      to: where FILE goes, and how the answer is printed.
    Raises BadInput where these are not what the law reads.
    """
    if level is not None and not 0 < level < 1:
        raise BadInput(f"--level {level:g}: a share between 0 and 1 is wanted, as 0.9")
    if to.out:
        check_files(to.out, [FILE], ("schema_version", "predicts", "rows"), to.overwrite)
    law = read_fit(fit)
    deliver(prediction(law, points(law.form, given), level or law.level, far), FILE, Prediction, show, to)
    return DID_IT


def points(form: Form, given: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """The columns of a law at points, C = 6 N D among them. Raises BadInput where one is missing, is not read by the
    law, is no number that it may be, or has not as many values as the others."""
    wanted = [name for name in form.columns if name != "C"]
    values = {name: list(given.get(name, ())) for name in OPTIONS}
    for name, found in values.items():
        if found and name not in wanted:
            raise BadInput(f"{OPTIONS[name]}: the law {form.name} does not read it, but "
                           f"{', '.join(OPTIONS[key] for key in wanted)}")
        for value in found:
            right = 0 <= value < 1 if name in SHARES else 0 < value < 1e40  # NaN is neither
            if not right:
                what = "a share from 0 to below 1" if name in SHARES else "a finite number above 0"
                raise BadInput(f"{OPTIONS[name]} {value:g}: {what} is wanted")
    for name in wanted:
        if not values[name]:
            plain = values["D"] if name == "unique_D" else [PLAIN[name]] if name in PLAIN else []
            if not plain:
                raise BadInput(f"{OPTIONS[name]}: the law {form.name} reads it: give it")
            values[name] = plain
    count = max(len(values[name]) for name in wanted)
    if count > MOST:
        raise BadInput(f"{count:,} points: at most {MOST:,} are predicted at once")
    for name in wanted:
        if len(values[name]) not in (1, count):
            raise BadInput(f"{OPTIONS[name]}: {len(values[name])} values for {count} points: one for all, or one for "
                           "each, is wanted")
    columns = {name: np.broadcast_to(np.array(values[name], float), count) for name in wanted}
    return columns | ({"C": 6 * columns["N"] * columns["D"]} if {"N", "D"} <= columns.keys() else {})


def prediction(law: Kept, columns: Mapping[str, np.ndarray], level: float, far: bool) -> dict[str, Any]:
    """What a law says of points, as JSON has it: each with the interval of the law and, wider, that of a run."""
    names = list(columns)
    there = [dict(zip(names, map(float, point), strict=True)) for point in zip(*columns.values(), strict=True)]
    doubts = [reach.doubts(law.spans, point, far) for point in there]
    values = observed(law.form, predicted(law.form, law.public[None], columns)[0], columns)
    confidence, run = spans_of(law, columns, level)
    rows = [{"point": point, "value": float(values[i]), "confidence": confidence[i], "prediction": run[i],
             "beyond": reach.beyond(law.spans, point), "warnings": doubts[i]} for i, point in enumerate(there)]
    warnings = [*(f"of the fit: {words}" for words in law.warnings), *(words for found in doubts for words in found)]
    result = {"schema_version": SCHEMA_VERSION, "law": law.form.name, "equation": law.form.equation,
              "origin": law.origin, "predicts": law.form.y, "level": level,
              "resamples": 0 if law.boots is None else len(law.boots), "rows": rows,
              "warnings": list(dict.fromkeys(warnings))}
    return result | {"sentence": sentence(result)}


def spans_of(law: Kept, columns: Mapping[str, np.ndarray], level: float) -> tuple[Ends, Ends]:
    """([low, high] of the law, those of one run by the scatter of the runs that were fitted) of each point; None in
    their place without resamples."""
    count = len(next(iter(columns.values())))
    if law.boots is None:
        return [None] * count, [None] * count
    found: tuple[Ends, Ends] = ([], [])
    each = max(1, AT_ONCE // len(law.boots))
    for begin in range(0, count, each):
        some = {name: column[begin:begin + each] for name, column in columns.items()}
        totals = predicted(law.form, law.boots, some)
        for ends, drawn in zip(found, (totals, intervals.of_runs(totals, law.residuals)), strict=True):
            ends += observed(law.form, intervals.ends(drawn, level), some).T.tolist()
    return found


def observed(form: Form, totals: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """What people measure, of sums of a law's terms; both grow together. The law of accuracy sums what is missed,
    upside down."""
    return 1 - (1 - columns["chance"]) / totals if form.y == "accuracy" else totals


def sentence(result: Mapping[str, Any]) -> str:
    """The last point in words."""
    row, share = result["rows"][-1], f"{result['level']:.0%}"
    at = ", ".join(f"{name} = {value:.4g}" for name, value in row["point"].items())
    unit = f" {UNITS[result['predicts']]}".rstrip()
    spread = (f" (the law's own {share} interval {pair(row['confidence'])}; a run's {pair(row['prediction'])})"
              if row["confidence"] else " (no interval: there are no resamples)")
    name = result["predicts"].replace("_", " ")
    return f"{name[0].upper()}{name[1:]} {row['value']:.4g}{unit}{spread} at {at}, by {result['origin']}."


def pair(ends: Sequence[float] | None) -> str:
    """An interval's ends as text."""
    return "–" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"


def show(result: Mapping[str, Any]) -> None:
    """Prints a prediction on stdout: a table of its points, the last one in words, and what speaks against it."""
    console, share = safe_console(soft_wrap=True), f"{result['level']:.0%}"
    names = (*result["rows"][0]["point"], result["predicts"], f"{share} of the law", f"{share} of a run",
             "beyond the rows")
    table = table_of((escaped_lines(name) for name in names), title=f"{result['law']}: {result['equation']}")
    for row in result["rows"]:
        table.add_row(*(f"{value:.4g}" for value in row["point"].values()), f"{row['value']:.4g}",
                      pair(row["confidence"]), pair(row["prediction"]), reach.told(row["beyond"]))
    console.print(table)
    for words in result["warnings"]:
        console.print(f"Beware: {words}.")
    console.print(result["sentence"])
