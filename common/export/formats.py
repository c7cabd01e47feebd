"""The formats that a run's model is exported in, who writes and reads each, and what export.json says of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

import numpy as np
from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from twinscale.common import need, registry
from twinscale.common.backends import BACKENDS, module_of, on_jax
from twinscale.common.errors import BadInput
from twinscale.common.families import FAMILIES, READS, reads_arrays, traits_of
from twinscale.common.files.access import is_odd, local, read_json, shown
from twinscale.common.files.kinds import STRICT, Backend, Count, Number, Standardised, version
from twinscale.common.files.output import Kind, begun, check_ours, same
from twinscale.common.files.run_files import StateFiles
from twinscale.common.recipe.file import did_you_mean
from twinscale.common.training.run import RunInfo, read_run

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

SCHEMA_VERSION = 1
MARKER = ".export"


@dataclass(frozen=True)
class Format:
    """One format: its file or directory, the modules that write and read each backend's, and what reads it besides:
    "ours" where our own code is needed. Formats that the same reads are loaded by one process."""

    path: str
    writers: dict
    readers: dict
    runtime: str


WRITERS = {name: f"{module_of(each.exporter)}.export" for name, each in BACKENDS.items()}
READERS = {name: f"{module_of(each.exporter)}.predict" for name, each in BACKENDS.items()}
OF_LITERT = (WRITERS | {"jax": "twinscale.swap.flax_to_litert"}, dict.fromkeys(WRITERS, READERS["keras"]))
OF_KERAS = [name for name, each in BACKENDS.items() if each.program == "keras"]
OF_JAX = [name for name in BACKENDS if on_jax(name)]


def by(backend: str, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The writers and readers of a format that one backend's modules write and read, of the backends that have it."""
    return dict.fromkeys(names, WRITERS[backend]), dict.fromkeys(names, READERS[backend])


FORMATS = {
    "savedmodel": Format("savedmodel", *by("keras", OF_KERAS), "tensorflow"),
    "keras": Format("model.keras", *by("keras", OF_KERAS), "ours"),
    "stablehlo": Format("model.stablehlo", *by("jax", OF_JAX), "jax"),
    "litert-float": Format("float.tflite", *OF_LITERT, "tensorflow"),
    "litert-dynamic": Format("dynamic.tflite", *OF_LITERT, "tensorflow"),
    "litert-int8": Format("int8.tflite", *OF_LITERT, "tensorflow"),
    "safetensors": Format("safetensors", dict.fromkeys(WRITERS, "twinscale.common.export.hugging_face"), READERS,
                          "ours")}
OWN_ALONE = {  # formats of models that are made of our own layers, and why no others have them
    "keras": "your own model's `save` writes it, with what it is made of",
    **dict.fromkeys(("litert-dynamic", "litert-int8"), "which of its places have 8 bits is not known")}
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
    """What an export's inputs are ids of: `vocabulary` ids, the end's among them; `sha256` (hex) is the Tokenizer's
    hash, for "bpe" that of tokenizer.json."""

    __pydantic_config__ = STRICT

    kind: Literal["bytes", "bpe"]
    vocabulary: Count
    sha256: str


class Checked(TypedDict):
    """A format held to what is `against`, on `rows` held-out rows: `worst` and `bound` are max |a - b| / max |b| of the
    logits, losses are nats; `bitwise` is whether the weights are read back the same, `error` what came instead."""

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
    """How many operators of a LiteRT file compute with what, as `tfscale.export.operators` counts them: `hybrid` read
    8 bits and give floating point; `products` are the matrix products and convolutions among them."""

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
    standardise: NotRequired[Standardised]  # what images from 0 to 1 are to be before the model reads them
    formats: list[Annotated[Row, AfterValidator(_whole_row)]]
    recipe: NotRequired[str]
    recipe_hash: NotRequired[str]
    stage: NotRequired[str | None]
    step: NotRequired[Count]
    inputs: NotRequired[str]
    versions: NotRequired[dict[str, str | None]]


def _whole_export(about):
    text, reads = bool(about["tokenizer"]), None
    if about["family"] in FAMILIES.builtin:  # nobody else's code is asked
        reads = registry.load(FAMILIES, about["family"]).reads
    if reads in READS and text != (reads == "text") or len(about["example_shape"]) != 3 - 2 * text:
        raise ValueError(f"tokenizer or example_shape: not of a {about['family']}")
    if about.get("labels") and len(about["labels"]) != about["classes"]:
        raise ValueError(f"labels: {len(about['labels'])} names for {about['classes']} classes")
    if (said := about.get("standardise")) and len(said["mean"]) != about["example_shape"][-1]:
        raise ValueError(f"standardise: {len(said['mean'])} channels, but example_shape {about['example_shape']}")
    return about


EXPORT = Annotated[ExportInfo, AfterValidator(_whole_export)]  # export.json, whole


def read_export(path: Path, unchecked: bool = False) -> Any:
    """What the export.json of a directory holds; raises BadInput where it is not what it should be, one whose check was
    cut short among them unless `unchecked`."""
    about = read_json(path / "export.json", EXPORT, "export it again")
    if not unchecked and any(row["path"] and not row["checked"] for row in about["formats"]):
        raise BadInput(f"{shown(path)}: an export that was cut short before it was checked; run the same command again")
    return about


def cut_short(out: Path) -> bool:
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

    recipe: "Recipe"
    shape: Shape
    tensors: dict[str, np.ndarray]


def made_by(path: Path) -> str:
    """The backend of a run, or of what `convert` has made of one."""
    if StateFiles(path).index.exists():
        return read_json(StateFiles(path).index, MadeBy, "convert the run again")["backend"]
    return read_run(path, RunInfo)["backend"]


def check_request(backend: str, out: Path, names: Sequence[str], overwrite: bool) -> list[str]:
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


def of_model(model: Any, formats: Sequence[str], named: bool) -> list[str]:
    """Those of the formats that a model section of a recipe has; raises BadInput where one was `named` that it has
    not, or it has none."""
    if reads_arrays(model):
        raise BadInput(f'model.family = "{registry.short(model.family)}" reads arrays: an export has one input, '
                       "of text or of images; `twinscale convert` writes the run's tensors by their names, with "
                       "--hugging-face those of an encoder as that library has them")
    left = [name for name in formats if not traits_of(model).foreign or name not in OWN_ALONE]
    if named and (gone := [name for name in formats if name not in left]):
        raise BadInput(f'--formats: "{gone[0]}" is not of model.family = "{registry.short(model.family)}": '
                       f"{OWN_ALONE[gone[0]]}; there are {', '.join(n for n in FORMATS if n not in OWN_ALONE)}")
    return left


def lacking(name: str, backend: str) -> str | None:
    """The package that a format needs and that is not installed, or None."""
    modules = FORMATS[name].writers[backend], FORMATS[name].readers[backend]
    needs = [package for module in modules for package in NEEDS[module.split(".")[1]]]
    own_stage = BACKENDS[backend].exporter == "keras"  # which gives the bound
    if name == "litert-int8" or (name == "litert-dynamic" and own_stage):
        needs += need.EIGHT_BITS
    return need.lacking(needs)


def lines(about: Mapping[str, Any]) -> list[str]:
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
