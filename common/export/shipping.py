"""The files that a compressed model ships as: written by a backend, measured as files."""

import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.data import held_out_batches, open_dataset
from twinscale.common.export.check import one_document
from twinscale.common.export.formats import Shape
from twinscale.common.files.access import place
from twinscale.common.files.tensors import load_tensors
from twinscale.common.metrics import finish, statistics
from twinscale.common.recipe.schema import Recipe

BATCHES = (1, 16)  # rows that a latency is measured with
WARM, ROUNDS, LEAST = 3, 25, 0.002  # calls before; rounds over all files; seconds that a sample takes at least


def ship(write: Callable, recipe: Any, tensors: Path, path: Path, name: str, batch: int) -> dict[str, Any]:
    """Writes a model as a file of `batch` rows and returns {"bytes", "zipped_bytes", "operators"}.

    Args:
      write: the backend's `export.write`.
      recipe: of the model, or of a stage that quantises, as JSON.
      tensors: a safetensors file of {canonical name: array}, or of such a stage's state.
      name: the format.
    """
    described, path = Recipe.model_validate(recipe), place(path)
    dataset = open_dataset(described)
    more = write(name, described, Shape(dataset.classes, tuple(dataset.example_shape)), load_tensors(tensors), path,
                 batch)
    content = path.read_bytes()
    return {"bytes": len(content), "zipped_bytes": len(zlib.compress(content, 9)), "operators": more["operators"]}


def file_metrics(load: Callable, recipe: Recipe, path: Path, name: str, rows: int) -> dict[str, Any]:
    """{"rows" and metrics} of a file over the first held-out rows, each as one document."""
    described = Recipe.model_validate(recipe)
    dataset, call = open_dataset(described), load(name, place(path))
    totals, seen = {}, 0
    for batch in held_out_batches(dataset, 16):
        if seen >= rows:
            break
        logits = call(one_document(batch["inputs"])["inputs"]).astype(np.float64)
        sums = statistics(np, logits, batch["labels"], batch["weights"].astype(np.float64))
        totals = {key: totals.get(key, 0.0) + float(value) for key, value in sums.items()}
        seen += len(batch["inputs"])
    return {"rows": min(seen, len(dataset.held_out)), **finish(totals)}


def latencies(load: Callable, files: Sequence[Mapping[str, Any]], recipe: Recipe) -> list:
    """Milliseconds of a call, median and 95th percentile, of each file with one thread and with all, measured in turns
    so that a slow moment of the machine meets all of them: [{"batch", "threads", "median_ms", "p95_ms", "rounds_ms"},
    ...] a file, where the rounds of files are pairs.

    Args:
      load: the backend's `predict.load`, from (format, path, threads=N) to a function from inputs to logits.
      files: [{"format", "paths" {rows: path}}].
      recipe: any whose data the files read, as JSON.
    """
    dataset, cores = open_dataset(Recipe.model_validate(recipe)), os.cpu_count()
    calls = []
    for number, file in enumerate(files):
        for rows, path in file["paths"].items():
            inputs = dataset.held_out.take(np.arange(int(rows)))["inputs"]
            for threads in dict.fromkeys((1, cores)):
                call = load(file["format"], place(path), threads=threads)
                calls.append((number, int(rows), threads, call, inputs))
    repeats = [warmed(call, inputs) for *_, call, inputs in calls]
    samples = [[] for _ in calls]
    for _ in range(ROUNDS):
        for (*_, call, inputs), repeat, sample in zip(calls, repeats, samples, strict=True):
            start = time.perf_counter()
            for _ in range(repeat):
                call(inputs)
            sample.append(1e3 * (time.perf_counter() - start) / repeat)
    found = [[] for _ in files]
    for (number, rows, threads, *_), sample in zip(calls, samples, strict=True):
        found[number].append({"batch": rows, "threads": threads, "median_ms": float(np.median(sample)),
                              "p95_ms": float(np.percentile(sample, 95)), "rounds_ms": sample})
    return found


def warmed(call: Callable, inputs: Any) -> int:
    """Calls a few times, and returns how many calls make a sample that a clock can tell."""
    for _ in range(WARM):
        start = time.perf_counter()
        call(inputs)
        took = time.perf_counter() - start
    return max(1, round(LEAST / max(took, 1e-7)))
