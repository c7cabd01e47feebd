"""The files that compressed models ship as: LiteRT of every row of a compression, measured side by side."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.output import tell
from twinscale.benchmarks.workers import ROOMS, open_workers
from twinscale.common.compress.recipes import active
from twinscale.common.export.shipping import BATCHES
from twinscale.common.export.write import EIGHT_BITS as KINDS
from twinscale.common.need import EIGHT_BITS, lacking

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

ROWS = 256  # held-out rows that a file's own metrics are of, at most


def add_files(recipe: "Recipe", out: Path, rows: Sequence[dict[str, Any]],
              described: "Callable[[dict[str, Any]], tuple[Recipe, Path]]") -> None:
    """Converts the model of every row to LiteRT, in floating point, and what was quantised in 8 bits, measures the
    files, and enters them into the rows, with the row's own "bytes", "latency_ms", "metric" and "metric_name".

    Args:
      recipe: the compression's.
      out: its directory.
      rows: as `benchmarks.compression.compare.row` makes them.
      described: (row) to (the recipe of its model, the file of its tensors), as `common.export.shipping.ship` takes
        them.
    """
    if module := lacking(EIGHT_BITS):
        for row in rows:
            row["files"] = [{"format": "litert-float", "reason": f"{module} is not installed"}]
        return
    with open_workers(rooms={"keras": ROOMS["keras"]}) as workers:
        worker, files = workers["keras"], []
        for row in rows:
            stage, tensors = described(row)
            eight = stage.compress.stages and active(stage).kind in KINDS
            name = "litert-int8" if eight else "litert-float"
            tell("files", f"{row['backend']} {row['stage']}: {name}")
            file: Any = {"format": name, "reason": None, "paths": {}}
            for batch in BATCHES:
                path = ComparisonFiles(out).shipped(row["backend"], row["stage"], name, batch)
                made = worker.ask("ship", recipe=stage, tensors=tensors, path=path, name=name, batch=batch)
                file["paths"][batch] = path
                file = made | file
            file["metrics"] = worker.ask("file_metrics", recipe=stage, path=file["paths"][BATCHES[-1]], name=name,
                                         rows=ROWS)
            file["rows"] = file["metrics"].pop("rows")
            row["files"] = [file]
            files.append(file)
        tell("files", f"latencies of {len(files)} files, in turns")
        for file, found in zip(files, worker.ask("latencies", recipe=recipe, files=files), strict=True):
            file["latency"] = found
            file["path"] = file.pop("paths")[BATCHES[0]].relative_to(out).as_posix()
    for row in rows:
        row["bytes"] = row["files"][0]["bytes"]
        row["latency_ms"] = row["files"][0]["latency"][0]["median_ms"]
