"""A run's model in formats that other programs load, each loaded again in a process of its own and held to what the
trainer's program computes on held-out rows.

    export.json      what there is, and how each was checked; see `export`
    recipe.toml      of the run
    tokenizer.json   of a bpe tokenizer
    savedmodel/  model.keras  model.stablehlo  float.tflite  dynamic.tflite  int8.tflite  safetensors/

Every format but safetensors takes one input, `inputs` (ids int32 (B, T), or images (B, H, W, C)), and gives `logits`;
text is one document a row. Each is held to the trainer's program in the precision that it computes in, the training's
or, of LiteRT, float32 or 8 bits. A difference is max |a - b| / max |b|; the bounds are

    float             4 x the trainer's program's own distance to float64 on the rows that are checked; at least
                      4 sqrt(K) eps of what sums are in, K values being the longest one
    LiteRT dynamic    D = |in 8 bits - in float32|, where a logit is within the range of the 8 bits: it rounds the same
                      weights, and activations no more coarsely
    LiteRT int8       D, and one step of the output's grid, from the trainer's program in 8 bits: integers may round as
                      much otherwise as 8 bits cost, and a logit may fall on the other side of a rounding
"""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NotRequired

import numpy as np
from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from twinscale.common import hugging_face, need, process, registry
from twinscale.common.canonical import convert, kept_of, named, read, shipped
from twinscale.common.checkpoints import sha256
from twinscale.common.compress import active, dense_recipe, first_tensors, stage_recipe
from twinscale.common.data.kept import open_kept
from twinscale.common.doctor import versions
from twinscale.common.errors import (
    DID_IT,
    MISSING,
    NO,
    BadInput,
    MissingEnvironment,
    TwinscaleError,
    error_of,
    first_line,
    of_machine,
)
from twinscale.common.families import FAMILIES
from twinscale.common.files import files_below, is_odd, local, read_json, remove, shown, write_json, write_text
from twinscale.common.formats import EPS, RESOLVED
from twinscale.common.kinds import STRICT, Backend, Count, Number, version
from twinscale.common.limited import lack
from twinscale.common.metrics import finish, statistics
from twinscale.common.output import Kind, begun, check_ours, clear, nothing_left, same, tell
from twinscale.common.parameters import longest_sum, parameters
from twinscale.common.recipe_file import did_you_mean, dumps, load
from twinscale.common.results import write_result
from twinscale.common.run import RunInfo, follow_run, read_run
from twinscale.common.run_files import RECIPE, StateFiles
from twinscale.common.stages import calibrated
from twinscale.common.tensors import difference, load_tensors, save_tensors

SCHEMA_VERSION = 1
MARKER = ".export"
CALIBRATED = 16  # training batches whose extremes are the ranges of a run that was not trained in 8 bits
FEWEST, MOST, POSITIONS = 4, 256, 4096  # rows that are checked: so many positions, but no fewer and no more rows
EIGHT_BITS = ("quantize", "post_training")
LITERT = {"litert-float": False, "litert-dynamic": True, "litert-int8": True}  # whether kernels have 8 bits


@dataclass(frozen=True)
class Format:
    """One format: its file or directory, the modules that write and read each backend's, and what reads it besides:
    "ours" where our own code is needed. Formats that the same reads are loaded by one process."""

    path: str
    writers: dict
    readers: dict
    runtime: str


WRITERS = {"keras": "twinscale.tfscale.export", "jax": "twinscale.jaxscale.export"}
READERS = {"keras": "twinscale.tfscale.predict", "jax": "twinscale.jaxscale.predict"}
OF_LITERT = (WRITERS | {"jax": "twinscale.swap.flax_to_litert"}, dict.fromkeys(WRITERS, READERS["keras"]))


def by(backend: str) -> tuple[dict[str, str], dict[str, str]]:
    """The writers and readers of a format that one backend alone has."""
    return {backend: WRITERS[backend]}, {backend: READERS[backend]}


FORMATS = {
    "savedmodel": Format("savedmodel", *by("keras"), "tensorflow"),
    "keras": Format("model.keras", *by("keras"), "ours"),
    "stablehlo": Format("model.stablehlo", *by("jax"), "jax"),
    "litert-float": Format("float.tflite", *OF_LITERT, "tensorflow"),
    "litert-dynamic": Format("dynamic.tflite", *OF_LITERT, "tensorflow"),
    "litert-int8": Format("int8.tflite", *OF_LITERT, "tensorflow"),
    "safetensors": Format("safetensors", dict.fromkeys(WRITERS, "twinscale.common.hugging_face"), READERS, "ours")}
KIND = Kind(MARKER, "export.json", {r"(export|tokenizer)\.json|recipe\.toml": None, **{
    rf"{re.escape(form.path)}|\.{re.escape(form.path)}\.tmp(\.keras)?": None for form in FORMATS.values()}})
IDENTITY = {"verb": "export"}
NEEDS = {"tfscale": need.BACKENDS["keras"], "jaxscale": need.BACKENDS["jax"],
         "swap": (*need.BACKENDS["jax"], "tensorflow"), "common": ()}


# ---- what is in export.json

class ShapeInfo(TypedDict):
    """Also shape.json."""

    __pydantic_config__ = STRICT

    classes: Annotated[Count, Field(ge=1)]
    example_shape: Annotated[list[Annotated[Count, Field(ge=1)]], Field(min_length=1, max_length=3)]


class MadeBy(TypedDict):
    """Of index.json, before more is asked of it."""

    __pydantic_config__ = STRICT

    backend: Backend


class TokenizerInfo(TypedDict):
    __pydantic_config__ = STRICT

    kind: Literal["bytes", "bpe"]
    vocabulary: Count
    sha256: str


class Checked(TypedDict):
    __pydantic_config__ = STRICT

    agrees: bool
    worst: NotRequired[Number | None]
    bound: NotRequired[Number | None]
    error: NotRequired[str | None]
    against: NotRequired[str]
    rows: NotRequired[Count]
    bound_from: NotRequired[str | None]
    bitwise: NotRequired[bool | None]
    predictions: NotRequired[Number | None]  # share that is the trainer's
    loss: NotRequired[Number | None]
    trainer_loss: NotRequired[Number | None]


class OperatorsInfo(TypedDict):
    __pydantic_config__ = STRICT

    int8: Count
    total: Count
    hybrid: NotRequired[Count]
    float: NotRequired[Count]
    other: NotRequired[Count]
    products: NotRequired[dict[str, Count]]
    by_name: NotRequired[dict[str, Count]]


class Row(TypedDict):
    """Of a format; what follows its path is of one that was written, and its reason of one that was not."""

    __pydantic_config__ = STRICT

    format: Literal[tuple(FORMATS)]
    path: str | None
    bytes: NotRequired[Count]
    zipped_bytes: NotRequired[Count]
    sha256: NotRequired[str]
    checked: NotRequired[Checked | None]
    operators: NotRequired[OperatorsInfo | None]
    missing: NotRequired[str | None]
    reason: NotRequired[str]
    batch: NotRequired[str | Count | None]  # "any", or rows
    note: NotRequired[str | None]
    layout: NotRequired[str | None]


def _whole_row(row):
    name = row["format"]
    for key in ("sha256", "checked") if row["path"] else ("reason",):
        if key not in row:
            raise ValueError(f'"{name}" has no {key}')
    if row["path"] not in (None, FORMATS[name].path):
        raise ValueError(f'"{name}" is not where it belongs, {FORMATS[name].path}')
    return row


def _family(name):
    known = registry.names(FAMILIES)
    if name not in known and not registry.is_reference(name):
        raise ValueError(f"expected {' or '.join(known)}, or FILE.py:OBJECT or MODULE:OBJECT")
    return name


class ExportInfo(ShapeInfo):
    """export.json."""

    schema_version: version(SCHEMA_VERSION)
    backend: Backend
    family: Annotated[str, AfterValidator(_family)]
    tokenizer: TokenizerInfo | None
    labels: NotRequired[list[str] | None]  # of the classes, where they have names
    formats: list[Annotated[Row, AfterValidator(_whole_row)]]
    recipe: NotRequired[str]
    recipe_hash: NotRequired[str]
    stage: NotRequired[str | None]
    step: NotRequired[Count]
    inputs: NotRequired[str]
    versions: NotRequired[dict[str, str | None]]


def _whole_export(about):
    text, own = bool(about["tokenizer"]), about["family"] in FAMILIES.builtin  # nobody else's code is asked
    if own and text != registry.load(FAMILIES, about["family"]).text or len(about["example_shape"]) != 3 - 2 * text:
        raise ValueError(f"tokenizer or example_shape: not of a {about['family']}")
    if about.get("labels") and len(about["labels"]) != about["classes"]:
        raise ValueError(f"labels: {len(about['labels'])} names for {about['classes']} classes")
    return about


EXPORT = Annotated[ExportInfo, AfterValidator(_whole_export)]  # export.json, whole


def read_export(path, unchecked=False):
    """What the export.json of a directory holds; raises BadInput where it is not what it should be, one whose check was
    cut short among them unless `unchecked`."""
    about = read_json(path / "export.json", EXPORT, "export it again")
    if not unchecked and any(row["path"] and not row["checked"] for row in about["formats"]):
        raise BadInput(f"{shown(path)}: an export that was cut short before it was checked; run the same command again")
    return about


def cut_short(out):
    """Whether a directory holds what `export` had begun when it was ended, which nobody needs."""
    try:
        if not same(out, KIND, IDENTITY):
            return False
        return begun(out, KIND, IDENTITY) or any(
            row["path"] and not row["checked"] for row in read_export(out, unchecked=True)["formats"])
    except BadInput:
        return False


@dataclass(frozen=True)
class Shape:
    """What a model's builder reads of a dataset."""

    classes: int
    example_shape: tuple


@dataclass(frozen=True)
class Model:
    """A recipe, the shape of its data and {canonical name: array}: what a format is written of."""

    recipe: object
    shape: Shape
    tensors: dict


def made_by(path):
    """The backend of a run, or of what `convert` has made of one."""
    if StateFiles(path).index.exists():
        return read_json(StateFiles(path).index, MadeBy, "convert the run again")["backend"]
    return read_run(path, RunInfo)["backend"]


def check_request(backend, out, names, overwrite):
    """The formats that are asked for, or all that a backend has; raises BadInput for others, and where a directory is
    not for an export."""
    if not local(out):
        raise BadInput(f"--to {out}: TensorFlow and Keras write to a disk: export there, then copy the directory")
    known = [name for name, form in FORMATS.items() if backend in form.writers]
    for name in names:
        if name not in FORMATS:
            near = did_you_mean(name, FORMATS) or f"; known: {', '.join(FORMATS)}"
            raise BadInput(f'--formats: "{name}" is no format{near}')
        if name not in known:
            raise BadInput(f'--formats: "{name}" is not of {backend} runs, which have {", ".join(known)}')
    check_ours(out, KIND, overwrite or cut_short(out), "--to")
    asked = [name for name in known if name in names or not names]
    if "savedmodel" in asked and is_odd(out):
        rest = ",".join(name for name in asked if name != "savedmodel") or "others"
        raise BadInput(f"--to {shown(out)}: TensorFlow loads no SavedModel from a path that has one of []*?\\ or is "
                       f"not UTF-8; choose another directory, or leave it out: --formats {rest}")
    return asked


def export(room, exporter, path, out, formats=(), overwrite=False, accept_data=False):
    """Writes the model of a run, or of what `convert` has made of one, into a directory and checks it; returns the exit
    code: 0 all agree, 1 one does not or cannot be written, 4 one needs a package that is not installed.

    export.json: {"schema_version", "recipe", "recipe_hash", "backend", "stage", "step", "family", "classes",
    "example_shape", "inputs", "tokenizer", "labels", "versions", "formats"}, each format {"format", "path", "bytes",
    "zipped_bytes" (deflated, level 9), "sha256", "batch" ("any" or rows), "note", "operators" (LiteRT), "checked":
    {"against", "rows", "worst", "bound", "bound_from", "agrees", "predictions" (share that is the trainer's), "loss",
    "trainer_loss", "error" (that came instead)}}, or {"format", "path": null, "missing" (the package, or null),
    "reason"}.

    Args:
      room: the run's Room.
      exporter: its module `export`.
      path: the run's directory, or the state's.
      out: the directory; it must be new, empty, or with `overwrite` an earlier export's.
      formats: names of FORMATS; none: all that the backend has.
      accept_data: check on data that is no longer what the run was trained on.
    Raises BadInput where `check_request` or `open_kept` does, or the run has no checkpoint.
    """
    recipe, formats = load(StateFiles(path).recipe, []), check_request(room.backend, out, formats, overwrite)
    dataset = open_kept(recipe, kept_of(path), accept_data)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        state = path
        if not StateFiles(path).index.exists():
            state = work / "state"
        with named(state, path):
            if state is not path:
                convert(room, recipe, follow_run(path), state)
            taken = read(state, recipe)
        model = Model(dense_recipe(recipe), Shape(dataset.classes, tuple(dataset.example_shape)),
                      shipped(recipe, taken["tensors"]))
        lacks = {name: lacking(name, room.backend) for name in formats}
        if all(lacks.values()):
            raise MissingEnvironment(f"{', '.join(sorted(set(lacks.values())))}: not installed, and needed by "
                                     f"{', '.join(formats)}; `twinscale doctor` says what brings it")
        stack.enter_context(nothing_left(out))
        clear(out, KIND, IDENTITY, overwrite or cut_short(out), "--to")
        write_text(out / RECIPE, dumps(recipe))
        about = described(room, recipe, dataset, taken["step"], out)
        eight = None
        if any(not lacks[name] for name in formats if name in ("litert-dynamic", "litert-int8")):
            eight = in_eight_bits(room, recipe, dataset, taken["tensors"], model)
        found = write_all(room, exporter, [name for name in formats if not lacks[name]], model, eight, out, work)
        about["formats"] = [row_of(name, lacks[name], found.get(name), out) for name in formats]
        write_result(out / "export.json", EXPORT, about)
        check(room, exporter, about, dataset, model, eight, out, work)
    write_result(out / "export.json", EXPORT, about)
    if any(not row["checked"]["agrees"] for row in about["formats"] if row["path"]) or any(
            not row["missing"] for row in about["formats"] if not row["path"]):
        return NO
    return MISSING if any(not row["path"] for row in about["formats"]) else DID_IT


def described(room, recipe, dataset, step, out):
    """export.json before anything is written."""
    text = dataset.kind == "text"
    tokenizer = None
    if text:
        tokenizer = dataset.manifest["tokenizer"]
        if dataset.tokenizer:
            shutil.copyfile(dataset.tokenizer, out / "tokenizer.json")
    return {"schema_version": SCHEMA_VERSION, "recipe": recipe.name, "recipe_hash": recipe.hash,
            "backend": room.backend, "stage": active(recipe).kind if recipe.compress.stages else None, "step": step,
            "family": registry.portable(recipe.model.family), "classes": dataset.classes,
            "example_shape": list(dataset.example_shape),
            "inputs": "ids int32 (rows, positions), one document a row" if text else
                      "images (rows, height, width, channels) from 0 to 1",
            "tokenizer": tokenizer, "labels": dataset.manifest.get("labels"), "versions": versions(), "formats": []}


def lacking(name, backend):
    """The package that a format needs and that is not installed, or None."""
    modules = FORMATS[name].writers[backend], FORMATS[name].readers[backend]
    needs = [package for module in modules for package in NEEDS[module.split(".")[1]]]
    if name == "litert-int8" or (name == "litert-dynamic" and backend == "keras"):  # whose bound its own stage gives
        needs += need.EIGHT_BITS
    return need.lacking(needs)


# ---- what is exported

def served(recipe):
    """The recipe of a model that takes `inputs` alone: one document a row, no dropout, nothing fused."""
    return recipe.with_values(model={"dropout": 0.0}, data={"cross_documents": True},
                              jax={"remat": "none", "attention": "einsum"})


def in_eight_bits(room, recipe, dataset, tensors, model):
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


def bare(tensors):
    """{canonical name: array} of a state's tensors, without the optimizer's slots; canonical names stay."""
    named = {name: x for name, x in tensors.items() if name.startswith("weights/")} or tensors
    return {name.removeprefix("weights/"): x for name, x in named.items()}


def write_all(room, exporter, formats, model, eight, out, work):
    """Writes formats aside; {format: what its writer says of it, or the error that came instead}: what one converter
    cannot, others may."""
    found, elsewhere = {}, {}
    for name in formats:
        what, module = eight if name == "litert-int8" else model, FORMATS[name].writers[room.backend]
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


def failed(said):
    """The error that a writer's process says instead of an answer; one of the machine is raised."""
    if fault := of_machine(RuntimeError(said["error"])):
        raise fault
    return ImportError(said["error"], name=said["missing"]) if said.get("missing") else TwinscaleError(said["error"])


def aside(out, name):
    """Where a format is written, before it is moved to where it belongs."""
    return out / f".{FORMATS[name].path}.tmp"


def row_of(name, lacks, found, out):
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


def content(path):
    """SHA-256 (hex) of a file, or of a directory's names and contents."""
    if not path.is_dir():
        return sha256(path)
    lines = [f"{file.relative_to(path).as_posix()} {sha256(file)}\n" for file in sorted(files_below(path))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# ---- a writer as a process

def write_model(path, model):
    """Writes a Model into a directory, for a process to read."""
    save_tensors(path / "tensors.safetensors", model.tensors)
    write_text(path / RECIPE, dumps(model.recipe))
    write_json(path / "shape.json", vars(model.shape))


def read_model(path):
    """The Model that `write_model` has written."""
    shape = read_json(path / "shape.json", ShapeInfo)
    return Model(load(path / RECIPE, []), Shape(shape["classes"], tuple(shape["example_shape"])),
                 load_tensors(path / "tensors.safetensors"))


def ask(module, *words):
    """What a module prints, as JSON, run as a process; raises the error that its exit code is of, with what it said."""
    done = process.run(process.helper(module, *words), encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **process.QUIET})
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["without a word"]
        raise lack(done.returncode, done.stderr.encode().splitlines()) or error_of(
            done.returncode, f"{module} ended with exit code {done.returncode}: {said[-1].removeprefix('twinscale: ')}")
    return json.loads(done.stdout.splitlines()[-1])


def answer(write):
    """The process of a writer, `python -m MODULE [FORMAT MODEL PATH]...`: prints {format: what `write` says of it, or
    {"error"}}."""
    found, words = {}, sys.argv[1:]
    for name, model, path in zip(words[::3], words[1::3], words[2::3], strict=True):
        try:
            what = read_model(Path(model))
            found[name] = write(name, what.recipe, what.shape, what.tensors, Path(path))
        except Exception as error:
            found[name] = {"error": str(error) or type(error).__name__}
            if isinstance(error, ImportError):
                found[name]["missing"] = error.name or str(error)
    print("\n" + json.dumps(found))


# ---- checking

def check(room, exporter, about, dataset, model, eight, out, work):
    """Fills in "checked" of every row that was written."""
    rows = held_out_rows(dataset)
    save_tensors(work / "rows.safetensors", {"inputs": rows["inputs"]})
    known = outputs(room, exporter, model, eight, rows["inputs"])
    groups = {}
    for row in (row for row in about["formats"] if row["path"]):
        groups.setdefault(FORMATS[row["format"]].runtime, []).append(row["format"])

    def loaded(number, names):
        answers = work / f"answers-{number}.safetensors"
        errors = ask("twinscale.common.predict", out, work / "rows.safetensors", answers, *names)
        return {name: failed({"error": said}) if (said := errors[name]) else load_tensors(answers)[name]
                for name in names}

    def tried(number, names):
        try:
            return loaded(number, names)
        except (TwinscaleError, OSError, ValueError, KeyError) as error:
            if of_machine(error):
                raise
            return dict.fromkeys(names, error)

    with ThreadPoolExecutor(2) as pool:
        found = {}
        for answers in pool.map(tried, range(len(groups)), groups.values()):
            found |= answers
    for row in (row for row in about["formats"] if row["path"]):
        row["checked"] = judged(row["format"], model, eight, found[row["format"]], known, rows)
        if row["format"] == "safetensors":
            same = equal(hugging_face.read(model.recipe.model, out / row["path"]), model.tensors)
            row["checked"] |= {"bitwise": same, "agrees": row["checked"]["agrees"] and same}
        said = row["checked"]
        tell("export", f"{row['format']}: " + (f"cannot be loaded: {said['error']}" if said["error"] else
             f"{'agrees' if said['agrees'] else 'DOES NOT AGREE'}: worst {said['worst']:.1e}, "
             f"bound {said['bound']:.1e}"))


def held_out_rows(dataset):
    """{"inputs", "labels", "weights"} of the first held-out rows, each as one document."""
    length = dataset.example_shape[0] if dataset.kind == "text" else 1
    count = min(len(dataset.held_out), max(FEWEST, min(MOST, POSITIONS // length)))
    batch = dataset.held_out.take(np.arange(count))
    return {name: batch[name] for name in ("inputs", "labels", "weights")}


def one_document(inputs):
    """A batch as the trainers read it, of rows of one document each."""
    length = inputs.shape[1]
    return {"inputs": inputs, "positions": np.broadcast_to(np.arange(length, dtype=np.int32), (len(inputs), length)),
            "segments": np.zeros((len(inputs), length), np.int32), "row": np.arange(len(inputs), dtype=np.uint32)}


def outputs(room, exporter, model, eight, inputs):
    """{precision: logits} of the trainer's program: in the training's precision, float32 and float64, and where
    anything has 8 bits, "8 bits"."""
    def computed(what, recipe):
        with room.numerics(recipe):
            return exporter.logits(recipe, what.shape, what.tensors, inputs)

    own = model.recipe.train.precision
    known = {precision: computed(model, model.recipe.with_values(train={"precision": precision}))
             for precision in dict.fromkeys((own, "float32", "float64"))}
    return known | ({"8 bits": computed(eight, eight.recipe)} if eight else {})


def judged(name, model, eight, found, known, rows):
    """What "checked" says of a format whose logits are `found`, an array or the error that came instead."""
    own = model.recipe.train.precision
    precision = "8 bits" if name == "litert-int8" else "float32" if name.startswith("litert") else own
    bound, source = bound_of(name, precision, model, eight, known)
    said = {"against": f"the trainer's program in {precision}", "rows": len(rows["inputs"]), "worst": math.inf,
            "bound": bound, "bound_from": source, "agrees": False, "error": None}
    if isinstance(found, Exception):
        return said | {"error": str(found).splitlines()[0]}
    if found.shape != known[own].shape:
        return said | {"error": f"its logits have shape {found.shape}, the trainer's {known[own].shape}"}
    worst = difference(found, known[precision])
    return said | {"worst": worst, "agrees": bool(worst <= bound < math.inf),
                   "predictions": float((found.argmax(-1) == known[own].argmax(-1)).mean()),
                   "loss": measured(found, rows)["loss"], "trainer_loss": measured(known[own], rows)["loss"]}


def bound_of(name, precision, model, eight, known):
    """(how far a format may be from the trainer's program in a precision, why)."""
    here = "the trainer's own program on these rows"
    if name in ("litert-dynamic", "litert-int8"):
        low, high = map(float, eight.tensors["head.range"])
        cost = difference(known["8 bits"], np.clip(known["float32"], low, high))
        source = f"what 8 bits cost {here}, but for logits out of their range"
        if name == "litert-dynamic":
            return cost, source
        step = (high - low) / 255 / float(np.abs(known["8 bits"]).max())
        return cost + step, f"{source}, and one step of the output's grid"
    wide = precision == "float64"
    noise = difference(known["float32" if wide else precision], known["float64"])
    if wide:  # there is nothing wider here to measure it by
        noise *= EPS["float64"] / EPS["float32"]
    longest, summed = longest_forward(model), "float64" if wide else "float32"
    return max((4 * noise, f"4 x what {precision} costs {here}"), (RESOLVED[precision], f"eps of {precision}"),
               (4 * math.sqrt(longest) * EPS[summed], f"4 sqrt({longest}) eps of {summed}"))


def longest_forward(model):
    """Values that the longest sum of a forward pass adds up, those over positions and of a tied head among them."""
    recipe, shape = model.recipe, model.shape
    tree = parameters(recipe.model, shape.classes, shape.example_shape)
    return max(longest_sum(tree), *shape.example_shape[:1], getattr(recipe.model, "width", 0))


def measured(logits, rows):
    """{"loss", "accuracy"} of logits on the rows."""
    sums = statistics(np, logits.astype(np.float64), rows["labels"], rows["weights"].astype(np.float64))
    return finish({name: float(x) for name, x in sums.items()})


def equal(found, wanted):
    """Whether tensors are the same bit for bit, by name."""
    return found.keys() == wanted.keys() and all(
        found[name].dtype == x.dtype and found[name].shape == x.shape and found[name].tobytes() == x.tobytes()
        for name, x in wanted.items())


def lines(about):
    """The rows of export.json as a table of text, for people."""
    table = [("format", "bytes", "deflated", "worst", "bound", "agrees", "int8 operators")]
    for row in about["formats"]:
        if not row["path"]:
            table.append((row["format"], "-", "-", "-", "-", "not exported: " + row["reason"], ""))
            continue
        said, operators = row["checked"], row.get("operators")
        table.append((row["format"], f"{row['bytes']:,}", f"{row['zipped_bytes']:,}",
                      "-" if said["error"] else f"{said['worst']:.1e}", f"{said['bound']:.1e}",
                      "yes" if said["agrees"] else "no",
                      f"{operators['int8']} of {operators['total']}" if operators else ""))
    widths = [max(len(line[i]) for line in table if i < 5 or line[1] != "-") for i in range(len(table[0]))]
    return ["  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(
        line[1:5], widths[1:5], strict=True)), *line[5:]]).rstrip() for line in table]
