"""A run's model in formats that other programs load, each loaded again in a process of its own and held to what the
trainer's program computes on held-out rows.

    export.json      what there is, and how each was checked; see `export`
    recipe.toml      of the run
    tokenizer.json   of a bpe tokenizer
    savedmodel/  model.keras  model.stablehlo  float.tflite  dynamic.tflite  int8.tflite  safetensors/

Every format but safetensors takes one input, `inputs` (ids int32 (B, T), or images (B, H, W, C)), and gives `logits`;
text is one document a row. `common/export/check.py` says how each is checked.
"""

import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common import registry
from twinscale.common.compress.recipes import active, dense_recipe, stage_recipe
from twinscale.common.compress.rules import first_tensors
from twinscale.common.data.kept import open_kept
from twinscale.common.data.standard import told as means
from twinscale.common.errors import DID_IT, MISSING, NO, MissingEnvironment, TwinscaleError, first_line, of_machine
from twinscale.common.export import hugging_face
from twinscale.common.export.check import check
from twinscale.common.export.formats import (
    EXPORT,
    FORMATS,
    IDENTITY,
    KIND,
    SCHEMA_VERSION,
    Model,
    Shape,
    check_request,
    cut_short,
    lacking,
    of_model,
)
from twinscale.common.export.process import ask, failed, write_model
from twinscale.common.files.access import files_below, remove, write_text
from twinscale.common.files.output import clear, nothing_left, tell
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RECIPE, StateFiles
from twinscale.common.machine.doctor import versions
from twinscale.common.recipe.file import dumps, load
from twinscale.common.training.canonical import converted, kept_of, read, shipped
from twinscale.common.training.checkpoints import sha256
from twinscale.common.training.stages import calibrated

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.room import Room

CALIBRATED = 16  # training batches whose extremes are the ranges of a run that was not trained in 8 bits
EIGHT_BITS = ("quantize", "post_training")
LITERT = {"litert-float": False, "litert-dynamic": True, "litert-int8": True}  # whether kernels have 8 bits


def export(room: "Room", exporter: ModuleType, path: Path, out: Path, asked: Sequence[str] = (),
           overwrite: bool = False, accept_data: bool = False, backend: str = "") -> int:
    """Writes the model of a run, or of what `convert` has made of one, into a directory and checks it; returns the exit
    code: 0 all agree, 1 one does not or cannot be written, 4 one needs a package that is not installed.

    export.json: {"schema_version", "recipe", "recipe_hash", "backend", "stage", "step", "family", "classes",
    "example_shape", "inputs", "tokenizer", "labels", "versions", "formats"}, each format {"format", "path", "bytes",
    "zipped_bytes" (deflated, level 9), "sha256", "batch" ("any" or rows), "note", "operators" (LiteRT), "checked":
    {"against", "rows", "worst", "bound", "bound_from", "agrees", "predictions" (share that is the trainer's), "loss",
    "trainer_loss", "error" (that came instead)}}, or {"format", "path": null, "missing" (the package, or null),
    "reason"}.

    Args:
      room: a Room, of whatever backend: the run's or another's.
      exporter: its module `export`.
      path: the run's directory, or the state's.
      out: the directory; it must be new, empty, or with `overwrite` an earlier export's.
      asked: names of FORMATS; none: all that the backend has.
      accept_data: check on data that is no longer what the run was trained on.
      backend: the one whose formats these are, whose exporter the room's is; unless said, the room's own.
    Raises BadInput where `check_request`, `of_model` or `open_kept` does, or the run has no checkpoint.
    """
    backend = backend or room.backend
    recipe, formats = load(StateFiles(path).recipe, []), check_request(backend, out, asked, overwrite)
    formats = of_model(recipe.model, formats, named=bool(asked))
    dataset = open_kept(recipe, kept_of(path), accept_data)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with converted(room, path) as state:
            taken = read(state, recipe)
        model = Model(dense_recipe(recipe), Shape(dataset.classes, tuple(dataset.example_shape)),
                      shipped(recipe, taken["tensors"]))
        lacks = {name: lacking(name, backend) for name in formats}
        if all(lacks.values()):
            packages = sorted({lack for lack in lacks.values() if lack})
            raise MissingEnvironment(f"{', '.join(packages)}: not installed, and needed by {', '.join(formats)}; "
                                     "`twinscale doctor` says what brings it")
        stack.enter_context(nothing_left(out))
        clear(out, KIND, IDENTITY, overwrite or cut_short(out), "--to")
        write_text(out / RECIPE, dumps(recipe))
        about = described(backend, recipe, dataset, taken["step"], out)
        eight = None
        if any(not lacks[name] for name in formats if name in ("litert-dynamic", "litert-int8")):
            eight = in_eight_bits(room, recipe, dataset, taken["tensors"], model)
        found = write_all(room, exporter, {name: FORMATS[name].writers[backend] for name in formats if not lacks[name]},
                          model, eight, out, work)
        about["formats"] = [row_of(name, lacks[name], found.get(name), out) for name in formats]
        write_result(out / "export.json", EXPORT, about)
        check(room, exporter, about, dataset, model, eight, out, work)
    write_result(out / "export.json", EXPORT, about)
    if any(not row["checked"]["agrees"] for row in about["formats"] if row["path"]) or any(
            not row["missing"] for row in about["formats"] if not row["path"]):
        return NO
    return MISSING if any(not row["path"] for row in about["formats"]) else DID_IT


def described(backend: str, recipe: "Recipe", dataset: "Dataset", step: int, out: Path) -> dict[str, Any]:
    """export.json before anything is written."""
    text = dataset.kind == "text"
    tokenizer = None
    if text:
        tokenizer = dataset.manifest["tokenizer"]
        if dataset.tokenizer:
            shutil.copyfile(dataset.tokenizer, out / "tokenizer.json")
    return {"schema_version": SCHEMA_VERSION, "recipe": recipe.name, "recipe_hash": recipe.hash,
            "backend": backend, "stage": active(recipe).kind if recipe.compress.stages else None, "step": step,
            "family": registry.portable(recipe.model.family), "classes": dataset.classes,
            "example_shape": list(dataset.example_shape),
            "inputs": "ids int32 (rows, positions), one document a row" if text else
                      "images (rows, height, width, channels) from 0 to 1" + (
                          ", less the mean and divided by the deviation of `standardise`" if dataset.standard else ""),
            "tokenizer": tokenizer, "labels": dataset.manifest.get("labels"),
            **({"standardise": means(dataset.standard)} if dataset.standard else {}), "versions": versions(),
            "formats": []}


# ---- what is exported

def served(recipe: "Recipe") -> "Recipe":
    """The recipe of a model that takes `inputs` alone: one document a row, no dropout, nothing fused."""
    plain = {"dropout": 0.0} if isinstance(getattr(recipe.model, "dropout", None), float) else {}  # a pair's is a word
    return recipe.with_values(model=plain, data={"cross_documents": True},
                              jax={"remat": "none", "remat_save": (), "remat_offload": (), "attention": "einsum"})


def in_eight_bits(room: "Room", recipe: "Recipe", dataset: "Dataset", tensors: Mapping[str, np.ndarray], model: Model
                  ) -> Model:
    """The Model of the stage that quantises: the run's own, or where it is none, 8 bits after training with the ranges
    of a few training batches."""
    shape = model.shape
    if recipe.compress.stages and active(recipe).kind in EIGHT_BITS:
        return Model(recipe, shape, bare(tensors))
    tell("export", f"8 bits: ranges of {CALIBRATED} training batches")
    stages = [*recipe.model_dump()["compress"]["stages"], {"kind": "post_training", "calibrate": CALIBRATED}]
    staged = recipe.with_values(compress={"stages": stages}, train={"precision": "float32"})
    staged = stage_recipe(staged, len(stages) - 1)
    ranges = calibrated(room, staged, dataset, model.tensors)
    return Model(staged, shape, bare(first_tensors(staged, dataset, model.tensors, ranges)))


def bare(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{canonical name: array} of a state's tensors, without the optimizer's slots; canonical names stay."""
    named = {name: x for name, x in tensors.items() if name.startswith("weights/")} or tensors
    return {name.removeprefix("weights/"): x for name, x in named.items()}


def write_all(room: "Room", exporter: ModuleType, writers: Mapping[str, str], model: Model, eight: Model | None,
              out: Path, work: Path) -> dict[str, Any]:
    """Writes formats, each by a module of {format: module}, aside; {format: what its writer says of it, or the error
    that came instead}: what one converter cannot, others may."""
    found: dict[str, Any] = {}
    elsewhere: dict[str, list[tuple[str, Path, Path]]] = {}
    for name, module in writers.items():
        what: Any = eight if name == "litert-int8" else model  # `eight` is there where it is asked for
        try:
            if name == "safetensors":
                tokenizer = out / "tokenizer.json"
                found[name] = hugging_face.write(model.recipe, model.shape, model.tensors, aside(out, name),
                                                 tokenizer if tokenizer.exists() else None)
            elif module == exporter.__name__:
                with room.numerics(what.recipe):
                    found[name] = exporter.write(name, what.recipe, what.shape, what.tensors, aside(out, name))
            else:
                handed = work / ("eight" if what is eight else "model")
                if not handed.exists():
                    write_model(handed, what)
                elsewhere.setdefault(module, []).append((name, handed, aside(out, name)))
        except Exception as error:
            if fault := of_machine(error):
                raise fault from None
            found[name] = error
    for module, jobs in elsewhere.items():
        tell("export", f"{', '.join(name for name, *_ in jobs)}: by {module}")
        try:
            answers = ask(module, *(word for job in jobs for word in job))
        except TwinscaleError as error:
            if of_machine(error):
                raise
            answers = {name: {"error": str(error)} for name, *_ in jobs}
        found |= {name: failed(said) if "error" in said else said for name, said in answers.items()}
    return found


def aside(out: Path, name: str) -> Path:
    """Where a format is written, before it is moved to where it belongs."""
    return out / f".{FORMATS[name].path}.tmp"


def row_of(name: str, lacks: str | None, found: Any, out: Path) -> dict[str, Any]:
    """The row of export.json of a format, which is moved to where it belongs; not yet checked."""
    path = FORMATS[name].path
    reason = f"{lacks} is not installed; `twinscale doctor` says what brings it" if lacks else None
    if isinstance(found, ImportError):
        lacks = (found.name or str(found)).split(".")[0]
    if isinstance(found, Exception):
        reason = first_line(found)
    if reason:
        if aside(out, name).exists():
            remove(aside(out, name))
        tell("export", f"{name}: not written: {reason}")
        return {"format": name, "path": None, "missing": lacks, "reason": reason}
    os.replace(aside(out, name), out / path)
    files = sorted(files_below(out / path)) if (out / path).is_dir() else [out / path]
    row = {"format": name, "path": path, "bytes": sum(file.stat().st_size for file in files),
           "zipped_bytes": sum(len(zlib.compress(file.read_bytes(), 9)) for file in files),
           "sha256": content(out / path), "batch": "any", **found, "checked": None}
    tell("export", f"{name}: {row['bytes']:,} bytes")
    return row


def content(path: Path) -> str:
    """SHA-256 (hex) of a file, or of a directory's names and contents."""
    if not path.is_dir():
        return sha256(path)
    lines = [f"{file.relative_to(path).as_posix()} {sha256(file)}\n" for file in sorted(files_below(path))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
