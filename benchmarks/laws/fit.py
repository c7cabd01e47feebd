"""`twinscale fit`: reads a table of results, fits a law, and leaves fit.json, law.toml and a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.benchmarks.laws.fitting import Asked, Fit, disagreement, fit_table, form_named, law_file
from twinscale.benchmarks.laws.kept import FILE, RESAMPLES, keep
from twinscale.benchmarks.laws.losses import named as loss_named
from twinscale.benchmarks.laws.result import SCHEMA_VERSION, FittedLaw
from twinscale.benchmarks.laws.table import Table, read_table
from twinscale.benchmarks.laws.words import show
from twinscale.benchmarks.output import again, check_files, made
from twinscale.common.errors import DID_IT, BadInput
from twinscale.common.files.access import write_text
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result

LAW = "law.toml"


@dataclass(frozen=True)
class Options:
    """What is asked of a fit.

    law: a name of `benchmarks.laws.forms.FORMS`.
    objective, delta, tilt: as `losses.named` takes.
    columns: "N=params": the file's names of columns.
    drop, drop_highest: rows that are left out, as `table.read_table` takes.
    chance: of --law accuracy, what guessing would get.
    at: budgets in operations, whose best size is asked for.
    far: trusts a law beyond `fitting.REFUSED` times the largest run's compute.
    boots, seed, level: resamples of runs, where their draws begin, and the share that intervals hold.
    """

    law: str = "chinchilla"
    objective: str = "huber"
    delta: float = 1e-3
    tilt: float = 0.5
    columns: Sequence[str] = ()
    drop: Sequence[str] = ()
    drop_highest: int = 0
    chance: float = 0.0
    at: Sequence[float] = ()
    far: bool = False
    boots: int = 4000
    seed: int = 42
    level: float = 0.9


def fit(path: str, *, out: Path | None = None, overwrite: bool = False, as_json: bool = False,
        words: Sequence[str] = (), **given: Any) -> int:
    """Prints a fit of what is `given` for the fields of Options, and with `out` leaves it there; returns the exit
    code 0.

    Args:
      path: a .csv or .parquet file with a row for each run's end, or checkpoint.
      words: the arguments of the command, for the report.
    Raises BadInput where these, the options, or the file, are not as wanted.
    """
    options = Options(**given)
    asked = asked_of(options)
    if out:
        check_files(out, [FILE, LAW, RESAMPLES, "law.html", "law.md"], ("schema_version", "law", "parameters"),
                    overwrite)
    table = read_table(path, asked.form, chosen(options.columns), options.drop, options.drop_highest,
                       {"chance": options.chance})
    found = fit_table(table, asked)
    result = completed(found, asked, words, out)
    if out:
        left(found, table, result, out)
    answer(result, show, as_json)
    return DID_IT


def asked_of(options: Options) -> Asked:
    """What a table is fitted to by options. Raises BadInput for one that cannot be."""
    form = form_named(options.law)
    if not 0 <= options.boots <= 100_000:
        raise BadInput(f"--boots {options.boots}: from 0 to 100,000")
    if not 0 < options.level < 1:
        raise BadInput(f"--level {options.level:g}: a share between 0 and 1 is wanted, as 0.9")
    if not 0 <= options.chance < 1:
        raise BadInput(f"--chance {options.chance:g}: a share from 0 to below 1 is wanted")
    loss = loss_named(options.objective, options.delta, options.tilt)
    return Asked(form, loss, options.boots, options.seed, options.level, tuple(options.at), options.far)


def completed(found: Fit, asked: Asked, words: Sequence[str], out: Path | None) -> dict[str, Any]:
    """The result of a fit with what is of its making."""
    return {"schema_version": SCHEMA_VERSION, **found.result, "level": asked.level,
            "disagreement": disagreement(found.result["approaches"]), "made": made(),
            "commands": again(*words, out=out) if out else []}


def left(found: Fit, table: Table, result: dict[str, Any], out: Path) -> None:
    """Writes fit.json with its resamples, law.toml where `twinscale plan` reads such a law, and the report."""
    from twinscale.benchmarks.report.law import write_law

    write_result(out / FILE, FittedLaw, result)
    keep(out, found)
    if found.curve.form.name == "chinchilla":
        write_text(out / LAW, law_file(found.public, found.curve.form))
    target = found.curve.form.target(table.y, table.columns)
    predicted = found.curve.values(found.fitted.theta[None])[0]
    write_law(result, {"columns": table.columns, "y": table.y, "residuals": target - predicted,
                       "predicted": np.exp(predicted), "public": found.public,
                       "boots": found.boots.public if found.boots else None}, out)


def chosen(columns: Sequence[str]) -> dict[str, str]:
    """{a law's column: the file's name} of "N=params". Raises BadInput where one is no such pair."""
    pairs = {}
    for words in columns:
        name, equals, theirs = words.partition("=")
        if not (name and equals and theirs):
            raise BadInput(f"--column {words}: such as N=params is wanted, the law's name and the file's")
        pairs[name] = theirs
    return pairs
