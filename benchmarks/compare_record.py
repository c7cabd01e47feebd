"""A verdict with its circumstances, as it is written and drawn: what was compared, what was asked for, and limits."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.columns_asked import columns_in
from twinscale.benchmarks.comparison_files import MARKDOWN, PAGE, ComparisonFiles
from twinscale.benchmarks.output import CHECKS, again, made, tell
from twinscale.benchmarks.report.page import write_report
from twinscale.benchmarks.rung_table import not_climbed
from twinscale.benchmarks.rungs.evaluations import SIDES
from twinscale.benchmarks.sides import COLUMNS, LABELS, ColumnPair, titles_of
from twinscale.benchmarks.verdict import PARTS, Rung, Verdict
from twinscale.common.backends import RUNTIMES
from twinscale.common.data.arrays import unread
from twinscale.common.families.pair import is_of_one
from twinscale.common.files.results import write_result
from twinscale.common.recipe.file import dumps
from twinscale.common.registry import short
from twinscale.common.trackers import log_verdict
from twinscale.common.training.run_metrics import read_metrics
from twinscale.common.training.stopping import end_of, measured_before

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe

SCHEMA_VERSION = 1


def record(verdict: dict[str, Any], recipe: "Recipe", dataset: "Dataset", out: Path, asked: Sequence[Any],
           options: dict[str, Any], pending: str | None = None) -> Verdict:
    """Writes a verdict with its circumstances, and the report, into `out`; returns the Verdict. `pending` says what is
    still to come."""
    tell("both", "report")
    whole = told(verdict, recipe, dataset, out, asked, options)
    if pending:
        whole |= {"pending": True, "limits": [*whole["limits"], pending]}
    written = write_result(ComparisonFiles(out).verdict, Verdict, whole)
    write_report(whole, out)
    if not pending:
        files = ComparisonFiles(out)
        log_verdict(recipe, out, figures_of(written), [files.verdict, out / MARKDOWN, out / PAGE])
    return written


def figures_of(verdict: Verdict) -> dict[str, float]:
    """What a tracker shows of a verdict as numbers: whether the backends agree, and each rung's margin, where it is
    finite."""
    margins = {f"margin/{rung.name}": rung.margin for rung in verdict.rungs}
    return {"agrees": float(verdict.agrees)} | {name: float(margin) for name, margin in margins.items()
                                                if margin is not None and math.isfinite(margin)}


def told(verdict: dict[str, Any], recipe: "Recipe", dataset: "Dataset", out: Path, asked: Sequence[Any],
         options: dict[str, Any]) -> dict[str, Any]:
    """A verdict with its circumstances, as it is written and drawn."""
    pair = columns_in(options)
    whole = verdict | circumstances(recipe, dataset, verdict["rungs"], verdict["devices"])
    if pair:
        whole |= {"sides": titles_of(recipe.model, pair), "differences": between(recipe, pair)}
    whole |= reproducible(out, asked, **options)
    whole["rungs"] = [rung | {"checks": rung["checks"][:CHECKS]} for rung in whole["rungs"]]
    lost = {PARTS[part]: f"{part} failed: {said}" for part, said in whole.get("failed", {}).items() if part in PARTS}
    whole["skipped"] = [row | {"why": lost.get(row["name"], row["why"])} for row in whole["skipped"]]
    whole["limits"] = [*whole["limits"], *unheeded(recipe, out)]
    return whole


def unheeded(recipe: "Recipe", out: Path) -> list[str]:
    """A line on where each side would have ended, where a recipe says that trainings end early; else none."""
    train = recipe.train
    ends: dict[str, int | None] = {}
    if not train.stop_after:
        return []
    for side in SIDES:
        lines = read_metrics(ComparisonFiles(out).run(side, train.precision))
        ends[side] = end_of(recipe, measured_before(recipe, lines, train.steps))
    said = " and ".join(f"{LABELS[side]} " + (f"after step {end}" if end else "not") for side, end in ends.items())
    apart = ", apart" * (len(set(ends.values())) > 1)
    return [f"all steps were trained, whatever train.stop_after={train.stop_after} says: by {train.watch} "
            f"{said} would have ended early{apart}"]


def reproducible(out: Path, asked: Sequence[Any] = (), recipe: str | None = None, overrides: Sequence[str] = (),
                 **options: Any) -> dict[str, Any]:
    """What a comparison was asked for, and the command that asks for it again, from the resolved recipe in `out`.

    Args:
      out: the directory. asked: the recipe's file and the overrides; or `recipe` and `overrides` say so.
      options: of `twinscale compare`, by name: a text, or whether it was given.
    """
    recipe, overrides = (asked[0], list(asked[1:])) if asked else (recipe, list(overrides))
    words = ["compare", str(ComparisonFiles(out).recipe)]
    for name, value in options.items():
        words += [f"--{name}"] * bool(value) + ([value] if isinstance(value, str) else [])
    return {"plant": options.get("plant"), "arguments": {"recipe": recipe, "overrides": overrides, **options},
            "made": made(), "commands": again(*words, out=out)}


def differences(recipe: "Recipe") -> list[list[str]]:
    """[what, of the first side, of the second] of what is not the same on both sides."""
    if is_of_one(recipe.model):
        return [["program", *(short(getattr(recipe.model, side)) for side in ("a", "b"))]]
    return [["program", "Keras functional graph", "Flax NNX modules"],
            ["how it runs", f"jit_compile = {recipe.keras.jit_compile}",
             f"scan = {recipe.jax.scan}, remat = {recipe.jax.remat}"]]


def between(recipe: "Recipe", pair: ColumnPair) -> list[list[str]]:
    """`differences` of a pair of columns: what they share is left out."""
    programs = {"keras": "Keras functional graph", "jax": "Flax NNX modules"}
    how = {"tensorflow": f"jit_compile = {recipe.keras.jit_compile}",
           "jax": f"scan = {recipe.jax.scan}, remat = {recipe.jax.remat}"}
    columns = [COLUMNS[name] for name in pair]
    rows = [["program", *(programs[column.program] for column in columns)],
            ["runtime", *(RUNTIMES[column.runtime] for column in columns)],
            ["how it runs", *(how[column.runtime] for column in columns)]]
    return [row for row in rows if row[1] != row[2]]


def circumstances(recipe: "Recipe", dataset: "Dataset", rungs: Sequence[Rung], devices: Mapping[str, Sequence[str]]
                  ) -> dict[str, Any]:
    """What a verdict says beside its findings."""
    precision, ran = recipe.train.precision, {rung["name"] for rung in rungs}
    count, side = len(devices["keras"]), "program" if is_of_one(recipe.model) else "backend"
    limits = [f"{count} device{'s' * (count > 1)} for each {side}{', but for P6' * ('P6' in ran)}",
              "step times of one machine at one time: compare the ratio, not the milliseconds"]
    if "P6" in ran:
        limits.append("meshes are of virtual devices and of processes that share one CPU: what they compute is that of "
                      "real ones, and their step times say nothing")
    if said := unread(dataset.manifest):
        limits.append(said)
    if "P7" not in ran:
        limits.append("one seed: nothing is said past the horizon")
    return {"schema_version": SCHEMA_VERSION, "precision": precision, "steps": recipe.train.steps,
            "recipe": {"name": recipe.name, "hash": recipe.hash, "toml": dumps(recipe)},
            "differences": differences(recipe), **({"sides": titles} if (titles := titles_of(recipe.model)) else {}),
            "skipped": not_climbed(rungs), "data": dataset.manifest,
            "assumptions": ["first weights, batches, random bits and schedules are shared, so that any difference left "
                            "is the program's or the runtime's",
                            "a twin permutes the rows within each batch and dithers the first weights by half a unit "
                            "in the last place"],
            "limits": limits}
