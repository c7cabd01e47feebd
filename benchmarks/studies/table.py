"""results.parquet: a row for each run's end, with what it was, and one for each evaluation on the way."""

import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twinscale.benchmarks.studies.design import Planned
from twinscale.benchmarks.tuning.trials import evaluations, seconds_of
from twinscale.common.errors import BadInput, need
from twinscale.common.files.access import write_bytes
from twinscale.common.training.run_metrics import read_metrics

# Columns in their order, by the names of pyarrow's types.
COLUMNS = {"run": "string", "backend": "string", "recipe": "string", "N": "int64", "N_without_embeddings": "int64",
           "C": "float64", "C_6ND": "float64", "D": "int64", "unique_D": "int64", "epochs": "float64",
           "schedule": "string", "learning_rate": "float64", "global_batch": "int64", "seed": "uint64",
           "precision": "string", "sparsity": "float64", "bits": "int64", "step": "int64", "loss": "float64",
           "training_loss": "float64", "accuracy": "float64", "seconds": "float64", "state": "string",
           "reason": "string"}
BITS = {"float64": 64, "float32": 32, "bfloat16": 16}
LONGEST = 500  # characters of a reason


def row_of(run: Planned, there: int, path: Path, info: Mapping[str, Any] | None, reason: str | None = None
           ) -> dict[str, Any]:
    """The row of a run's end: finished, where `info` is what run.json says, or failed for a `reason`.

    Args:
      there: tokens (examples, of what is no text) that the data has to train on.
      path: the run's directory.
    """
    final = (info or {}).get("final") or {}
    state = "finished" if info is not None and reason is None else "failed"
    return facts(run, there, run.recipe.train.steps) | {
        "loss": final.get("loss"), "training_loss": training_loss(path), "accuracy": final.get("accuracy"),
        "seconds": seconds_of(info) if info is not None else None, "state": state,
        "reason": reason and reason[:LONGEST]}


def facts(run: Planned, there: int, steps: int) -> dict[str, Any]:
    """What is known of a run without its training, after so many updates."""
    recipe, size = run.recipe, run.size
    examples = steps * recipe.train.global_batch
    tokens = examples * size.row
    return {"run": run.name, "backend": run.backend, "recipe": recipe.hash, "N": size.total,
            "N_without_embeddings": size.without_embeddings, "C": examples * size.row_flops,
            "C_6ND": 6.0 * size.total * tokens, "D": tokens, "unique_D": min(tokens, there),
            "epochs": tokens / there, "schedule": recipe.schedule.kind,
            "learning_rate": recipe.optimizer.learning_rate, "global_batch": recipe.train.global_batch,
            "seed": recipe.seed, "precision": recipe.train.precision, "sparsity": 0.0,
            "bits": BITS[recipe.train.precision], "step": steps}


def on_the_way(run: Planned, there: int, path: Path) -> list[dict[str, Any]]:
    """A row for each evaluation before the run's end."""
    return [dict.fromkeys(COLUMNS) | facts(run, there, step) | {"loss": loss, "state": "checkpoint"}
            for step, loss in evaluations(path, "loss") if step < run.recipe.train.steps]


def training_loss(path: Path) -> float | None:
    """What was logged last of the training's loss; None where nothing was."""
    with suppress(BadInput):
        return next((line["train/loss"] for line in reversed(read_metrics(path)) if "train/loss" in line), None)
    return None


def write_table(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Writes rows as Parquet, typed by COLUMNS, whole or not at all. Raises MissingEnvironment without pyarrow."""
    need("pyarrow", why="a study's table is Parquet")
    import pyarrow
    from pyarrow.parquet import write_table as write

    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in COLUMNS.items()])
    content = io.BytesIO()
    write(pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema), content)
    write_bytes(path, content.getvalue())
