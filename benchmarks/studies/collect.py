"""What study.json says, and what its figures are drawn of."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.laws.fitting import Fit, law_file
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import made
from twinscale.benchmarks.studies.design import Planned, Study
from twinscale.benchmarks.studies.laws import FORM, Wanted, budgets, law_of, paired, parity
from twinscale.benchmarks.studies.result import SCHEMA_VERSION
from twinscale.common.errors import BadInput
from twinscale.common.files.access import write_text

if TYPE_CHECKING:
    from twinscale.benchmarks.studies.study import Asked

RESULTS = "results.parquet"


def collected(asked: "Asked", said: Study, runs: Sequence[Planned], rows: Sequence[dict[str, Any]]
              ) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what study.json holds, {backend: the points of its law as `report.law.figures` takes them}); law-BACKEND.toml
    is left in the directory."""
    done = [row for row in rows if row["state"] == "finished"]
    wanted, path = Wanted(asked.boots, asked.seed, asked.level), str(asked.out / RESULTS)
    laws, points, lacking, fits = {}, {}, {}, {}
    for backend in said.backends:
        mine = [row for row in done if row["backend"] == backend]
        try:
            fit, laws[backend], table = law_of(mine, wanted, budgets(mine), path)
        except BadInput as error:
            lacking[backend] = str(error)
            continue
        fits[backend] = fit
        write_text(asked.out / f"law-{backend}.toml", law_file(fit.public, FORM))
        predicted = fit.curve.values(fit.fitted.theta[None])[0]
        points[backend] = {"columns": table.columns, "y": table.y, "predicted": np.exp(predicted),
                           "residuals": np.log(table.y) - predicted, "public": fit.public,
                           "boots": fit.boots.public if fit.boots else None}
    counts = {"planned": len(runs), "finished": len(done),
              "failed": sum(row["state"] == "failed" for row in rows)}
    content = {"schema_version": SCHEMA_VERSION, "recipe": runs[0].recipe.name, "backends": list(said.backends),
               "design": said.model_dump(mode="json"), "counts": counts,
               "flops": sum(row["C"] for row in done), "seconds": sum(row["seconds"] or 0.0 for row in done),
               "runs": list(rows), "laws": laws, "lacking": lacking, "level": asked.level,
               "parity": compared(said, done, wanted, path, fits), "made": made(),
               "commands": [shlex.join(["twinscale", "study", str(asked.file), *asked.overrides, "--out",
                                        f"{asked.out}-again"])]}
    return content | {"sentence": sentence(content)}, points


def compared(said: Study, done: Sequence[dict[str, Any]], wanted: Wanted, path: str,
             fits: Mapping[str, Fit]) -> dict[str, Any] | None:
    """Law parity, or why there is none; None of one backend."""
    if len(said.backends) < 2:
        return None
    pairs = paired(done, said.backends)
    if not wanted.boots:
        return {"pairs": len(pairs), "lacking": "--boots 0: intervals are of resamples"}
    try:
        return parity(pairs, said.backends, wanted, path, fits)
    except BadInput as error:
        return {"pairs": len(pairs), "lacking": f"of pairs: {error}"}


def sentence(content: dict[str, Any]) -> str:
    """What a study came to, in a few sentences."""
    counts = content["counts"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    parts = [f"{counts['finished']} of {counts['planned']} runs finished{failed}: {sig(content['flops'], 3)} "
             "operations."]
    parts += [f"{backend}: {law['sentence']}" for backend, law in content["laws"].items()]
    parts += [f"{backend}: no law, {why}." for backend, why in content["lacking"].items()]
    if content["parity"] and "sentence" in content["parity"]:
        parts.append(content["parity"]["sentence"])
    return " ".join(parts)
