"""Runs an export on a file: text, images or arrays.

As a process, `python -m twinscale.common.export.predict DIR INPUTS ANSWERS FORMAT...`, it loads formats of an export,
computes their logits of the safetensors file INPUTS into ANSWERS, and says which could not be loaded: how
`common/export/check.py` checks.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from twinscale.common.compress.recipes import dense_recipe
from twinscale.common.data.paths import is_file
from twinscale.common.data.pixels import PICTURES, from_0_to_1, read_pixels, with_channels
from twinscale.common.data.standard import as_told, standardised
from twinscale.common.data.text_files import text_of
from twinscale.common.data.tokenizers import byte_tokenizer, read_bpe
from twinscale.common.errors import BadInput, TwinscaleError, first_line, of_machine, one_of
from twinscale.common.export.formats import FORMATS, Shape, read_export
from twinscale.common.export.write import content
from twinscale.common.files.access import check_regular, files_below, shown
from twinscale.common.files.run_files import RECIPE
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.process import hushed, quieten
from twinscale.common.recipe.file import did_you_mean, load
from twinscale.common.registry import portable

SUFFIXES = {".keras": "keras", ".stablehlo": "stablehlo", ".tflite": "litert-float"}
FILES = {"saved_model.pb": "savedmodel", "model.safetensors": "safetensors"}  # by which a directory is known
TOGETHER = 64  # rows computed at once
ARRAYS = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True)
class Opened:
    """One format of an export: its name and path, and where an export.json tells, what that holds and its directory;
    and whether its operations may do as they like."""

    name: str
    path: Path
    about: Any
    root: Path
    trusted: bool = False

    @property
    def shape(self) -> Shape:
        """What its model is of."""
        return Shape(self.about["classes"], tuple(self.about["example_shape"]))

    @property
    def recipe(self) -> Any:
        """The recipe beside it."""
        return load(self.root / RECIPE, [])

    @property
    def text(self) -> bool:
        """Whether it reads text."""
        return self.about["tokenizer"] is not None


def predict(path: Any, file: Any, name: str | None = None, out: Any = None, top: int = 5, trust: bool = False
           ) -> Any:
    """Prints a JSON line for each text, image or row of a file: of text the likeliest next tokens, of images the
    likeliest classes, each with its probability.

    Args:
      path: an export's directory, or one of its formats.
      file: .txt or .jsonl of text, .png or .jpg of an image, .npy, .npz or .safetensors of arrays.
      name: of the format; none: the first that agrees with its trainer.
      out: a safetensors file to write all `logits` into.
      top: how many to print of each.
      trust: run it whatever operations it has; else one that could do more than compute is refused before it is loaded.
    Raises BadInput where the export or the file is not what it should be.
    """
    opened = replace(open_export(path, name), trusted=trust)
    check_regular(file)
    rows, lengths = read_rows(Path(file), opened)
    if out is not None and Path(out).suffix != ".safetensors":
        raise BadInput(f"--out {out}: logits are written as safetensors: give the file that ending")
    if out is not None and os.path.lexists(out) and not is_answer(out):
        raise BadInput(f"--out {out}: a file that is not ours; choose another name")
    rows = standardised(rows, as_told((opened.about or {}).get("standardise")))
    call = function_of(opened)
    try:
        logits = np.concatenate([call(rows[i:i + TOGETHER]) for i in range(0, len(rows), TOGETHER)])
    except Exception as error:
        raise of_machine(error) or BadInput(f"{file}: the model does not take it: {first_line(error)}") from None
    if opened.about and logits.shape[-1] != opened.shape.classes:
        raise BadInput(f"{opened.root / 'export.json'}: classes = {opened.shape.classes}, but the model gives "
                       f"{logits.shape[-1]} logits: export it again")
    if not np.isfinite(logits).all():
        raise TwinscaleError(f"{opened.path}: computes logits that are not finite")
    if out is not None:
        save_tensors(out, {"logits": logits})
    tokenizer = tokenizer_of(opened) if opened.about and opened.text else None
    labels = (opened.about or {}).get("labels")
    for number, row in enumerate(logits):
        last = row[lengths[number] - 1] if row.ndim == 2 else row
        chances = np.exp(last.astype(np.float64) - last.max())
        chances /= chances.sum()
        likeliest = np.argsort(-chances, kind="stable")[:top]
        print(json.dumps(said(number, likeliest, chances, lengths, tokenizer or labels)))


def is_answer(path: Path) -> bool:
    """Whether a file is one that `predict` has written: logits and nothing else."""
    try:
        with safe_open(path, "np") as found:
            return set(found.keys()) == {"logits"}
    except (OSError, SafetensorError):
        return False


def said(number: int, likeliest: Any, chances: Any, lengths: Any, names: Any) -> dict[str, Any]:
    """What is printed of one row; `names` are of its ids a tokenizer, of its classes a list, or None."""
    if lengths is None:
        return {"row": number, "classes": [
            {"class": int(i), **({"label": names[i]} if names else {}), "probability": float(chances[i])}
            for i in likeliest]}
    tokenizer = names
    return {"row": number, "tokens": int(lengths[number]), "next": [
        {"id": int(i), **({"text": tokenizer.decode([i]) if i != tokenizer.end else None} if tokenizer else {}),
         "probability": float(chances[i])} for i in likeliest]}


# ---- the export

def open_export(path: Path, name: str | None = None, unchecked: bool = False) -> Opened:
    """The Opened format of an export's directory, or of a file or directory in it; `unchecked` while it is made."""
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such export; `twinscale export RUN --to {path}` makes one")
    if name is not None and name not in FORMATS:
        raise BadInput(f'--format: "{name}" is no format'
                       + (did_you_mean(name, FORMATS) or f"; known: {', '.join(FORMATS)}"))
    if (path / "export.json").exists():
        return of_directory(path, name, unchecked)
    for root in (path.parent, path):
        about = read_about(root) if (root / "export.json").exists() else None
        rows = [row for row in about["formats"] if row["path"] == path.name] if about else []
        if rows:
            return checked(Opened(rows[0]["format"], path, about, root), rows[0], name)
    known = SUFFIXES.get(path.suffix) or next((form for file, form in FILES.items() if (path / file).exists()), None)
    if known is None:
        raise BadInput(f"{path}: neither an export (there is no export.json) nor a format of one")
    if known == "safetensors":
        raise BadInput(f"{path}: of safetensors alone no model is known: give the export's directory")
    return checked(Opened(known, path, None, path.parent), None, name)


def of_directory(path: Path, name: str | None, unchecked: bool) -> Opened:
    """The Opened format `name`, or the first that agrees, of an export's directory."""
    about = read_about(path, unchecked)
    rows = {row["format"]: row for row in about["formats"] if row["path"]}
    agreeing = [form for form, row in rows.items() if row["checked"] and row["checked"]["agrees"]]
    if not rows:
        raise BadInput(f"{path}: its export.json lists no format that was written")
    name = name or next(iter(agreeing or rows))
    if name not in rows:
        reason = next((f" ({row['reason']})" for row in about["formats"] if row["format"] == name), "")
        raise BadInput(f'--format: "{name}" was not exported to {path}{reason}; there is {", ".join(rows)}')
    return checked(Opened(name, path / FORMATS[name].path, about, path), rows[name], name)


def read_about(root: Path, unchecked: bool = False) -> Any:
    """What export.json holds, once the recipe beside it is the one that it is of."""
    about, file = read_export(root, unchecked), root / RECIPE
    recipe, tokenizer = load(file, []), about["tokenizer"]
    if about.get("recipe_hash", recipe.hash) != recipe.hash:
        raise BadInput(f"{file}: not the recipe that export.json is of: export it again")
    if portable(about["family"]) != portable(recipe.model.family) or tokenizer and (
            tokenizer["kind"], [tokenizer["vocabulary"], recipe.data.sequence]) != (
            recipe.data.tokenizer, [about["classes"], *about["example_shape"]]):
        raise BadInput(f"{root / 'export.json'}: its family, tokenizer, classes or example_shape are not those of the "
                       "recipe beside it: export it again")
    return about


def checked(opened: Opened, row: Any, name: str | None) -> Opened:
    """The same, once it is what was asked for and what export.json says."""
    litert = opened.name.startswith("litert") and (name or "").startswith("litert") and row is None
    if name not in (None, opened.name) and not litert:
        raise BadInput(f'--format: {opened.path} is "{opened.name}", not "{name}"')
    for file in files_below(opened.path) if opened.path.is_dir() else (opened.path,):
        check_regular(file)
    if row and (not opened.path.exists() or content(opened.path) != row["sha256"]):
        raise BadInput(f"{opened.path}: missing, or its content is not what export.json says: export it again")
    return opened


def function_of(opened: Opened) -> Callable[[Any], Any]:
    """The function from inputs to logits, NumPy arrays both; imports what the format needs and no more.

    Raises BadInput where the model cannot be loaded or, unless it is trusted, has operations that are no arithmetic.
    """
    readers = FORMATS[opened.name].readers
    backend = opened.about["backend"] if opened.about else next(iter(readers))
    quieten()
    with hushed():
        module = importlib.import_module(readers[backend])
    known = (dense_recipe(opened.recipe), opened.shape) if opened.about else (None, None)
    try:
        if not opened.trusted and (strange := module.strange(opened.name, opened.path)):
            raise BadInput(f"{opened.path}: has operations that are no arithmetic ({shown(', '.join(strange))}) and "
                           "could read and write files: --trust runs it all the same")
        return module.load(opened.name, opened.path, *known)
    except TwinscaleError:
        raise
    except ImportError:
        raise
    except Exception as error:
        raise BadInput(f'{opened.path}: cannot be loaded as "{opened.name}": {first_line(error)}') from None


def tokenizer_of(opened: Opened) -> Any:
    """The tokenizer of an export of text."""
    known, file = opened.about["tokenizer"], opened.root / "tokenizer.json"
    if not one_of({"bytes": False, "bpe": True}, known["kind"], f"{shown(opened.root)}: tokenizer"):
        return byte_tokenizer()
    check_regular(file)
    try:
        tokenizer = read_bpe(file, known["vocabulary"])
    except Exception as error:  # of the library's own kind
        raise BadInput(f"{file}: no tokenizer can be read there: {first_line(error)}") from None
    if tokenizer.hash != known["sha256"]:
        raise BadInput(f"{file}: its content is not what export.json says: export it again")
    return tokenizer


# ---- the file

def read_rows(file: Path, opened: Opened) -> tuple[Any, Any]:
    """(inputs, the number of tokens of each row or None for images) of a file."""
    try:
        if not is_file(file, "give a file", "--input "):
            raise BadInput(f"--input {shown(file)}: is a folder: give a file")
        if file.suffix in ARRAYS:
            return of_array(file, array_of(file), opened)
        if not opened.about:
            raise BadInput(f"{file}: without the export.json beside {opened.path} only arrays can be read: "
                           f"{', '.join(ARRAYS)}")
        if file.suffix in (".txt", ".jsonl") and opened.text:
            return of_texts(file, opened)
        if file.suffix.lower() in PICTURES and not opened.text:
            return image_of(file, opened.shape.example_shape), None
    except OSError as error:
        raise BadInput(f"--input {file}: cannot be read: {error.strerror or error}") from None
    kinds = ((".txt", ".jsonl") if opened.text else PICTURES) + ARRAYS
    raise BadInput(f"--input {file}: this model reads {', '.join(kinds)}")


def of_texts(file: Path, opened: Opened) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the last tokens of each text that fit, and how many those are."""
    data, texts = opened.recipe.data, []
    if file.suffix == ".txt":
        try:
            texts.append(file.read_bytes().decode().removeprefix("\ufeff"))
        except UnicodeDecodeError as error:
            raise BadInput(f"--input {file}: byte {error.start} is not valid UTF-8 ({error.reason})") from None
    else:
        with file.open("rb") as lines:
            texts += [text_of(line, data.field, f"{file}:{i}") for i, line in enumerate(lines, 1) if line.strip()]
    tokenizer = tokenizer_of(opened)
    ids = [tokenizer.encode(text) for text in texts]
    if not ids or not all(map(len, ids)):
        raise BadInput(f"--input {file}: {'there is no text in it' if not ids else 'one of its texts is empty'}")
    length = opened.shape.example_shape[0]
    if longer := sum(len(row) > length for row in ids):
        print(f"twinscale: {longer} of {len(ids)} texts are longer than the {length} tokens that the model reads: "
              "their last ones are taken", file=sys.stderr)
    return filled([row[-length:] for row in ids], length, tokenizer.end)


def filled(rows: Any, length: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids (N, length), filled up with `end`, which comes too late to be seen, and their lengths (N,)."""
    ids = np.full((len(rows), length), end, np.int32)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = row
    return ids, np.array([len(row) for row in rows])


def array_of(file: Path) -> np.ndarray:
    """The array `inputs`, or the only one, of a file; nothing is unpickled."""
    try:
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False)
        if file.suffix == ".safetensors":
            return named_inputs(file, load_tensors(file))
        with np.load(file, allow_pickle=False) as found:
            return named_inputs(file, found)
    except (OSError, BadInput):
        raise
    except Exception as error:
        raise BadInput(f"--input {file}: no array can be read: {first_line(error)}") from None


def named_inputs(file: Path, found: Any) -> np.ndarray:
    """The array `inputs` of several, or the only one."""
    names = list(found.keys())
    if "inputs" not in names and len(names) != 1:
        raise BadInput(f"--input {file}: holds {', '.join(names) or 'nothing'}: name the array `inputs`")
    x = found["inputs" if "inputs" in names else names[0]]
    if not isinstance(x, np.ndarray):  # of a .npz, whatever was put into it
        raise BadInput(f"--input {file}: holds no array but other content")
    return x


def of_array(file: Path, x: np.ndarray, opened: Opened) -> tuple[np.ndarray, Any]:
    """An array as rows of inputs, once it has their shape and values."""
    if not opened.about:  # rows of ids have two axes, images four
        if x.ndim == 2 and (x.dtype.kind not in "iu" or not x.size or x.min() < 0):
            raise BadInput(f"--input {file}: is {x.dtype} of shape {x.shape}, but rows of ids, 0 or more, are wanted")
        return (x.astype(np.int32), np.full(len(x), x.shape[1])) if x.ndim == 2 else (
            from_0_to_1(x, f"--input {file}"), None)
    shape, wanted = opened.shape, opened.shape.example_shape
    x = x[None] if x.ndim == len(wanted) else x
    if opened.text:
        if x.ndim != 2 or x.dtype.kind not in "iu" or not 0 < x.shape[-1] <= wanted[0] or not len(x):
            raise BadInput(f"--input {file}: is {x.dtype} of shape {x.shape}, but rows of 1 to {wanted[0]} ids are "
                           "wanted")
        if x.min() < 0 or x.max() >= shape.classes:
            raise BadInput(f"--input {file}: ids from {x.min()} to {x.max()}, but the vocabulary has 0 to "
                           f"{shape.classes - 1}")
        return filled(list(x), wanted[0], shape.classes - 1)
    if x.shape[1:] != wanted or not len(x) or (x.dtype.kind != "f" and x.dtype != np.uint8):
        raise BadInput(f"--input {file}: is {x.dtype} of shape {x.shape}, but images of shape {wanted}, floating point "
                       "from 0 to 1 or uint8, are wanted")
    return from_0_to_1(x, f"--input {file}"), None


def image_of(file: Path, wanted: Sequence[int]) -> np.ndarray:
    """One image (1, H, W, C) of a file, float32 from 0 to 1."""
    place = f"--input {shown(file)}"
    if wanted[-1] not in (1, 3):
        raise BadInput(f"{place}: the model takes {wanted[-1]} channels, which no picture has: give an array")
    pixels = read_pixels(file, place)
    if pixels.shape[:2] != wanted[:2]:
        raise BadInput(f"{place}: is {pixels.shape[0]} x {pixels.shape[1]} pixels, but the model takes "
                       f"{wanted[0]} x {wanted[1]}: resize it")
    return from_0_to_1(with_channels(pixels, wanted[-1], place)[None], place)


# ---- as a process

def answer(root: Any, rows: Path | str, answers: Path | str, *names: str) -> None:
    """Computes the logits of formats into a file; prints {format: what is wrong with it, or null}."""
    inputs, found = load_tensors(rows)["inputs"], {}
    errors: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = function_of(open_export(root, name, unchecked=True))(inputs)
            errors[name] = None
        except Exception as error:
            errors[name] = first_line(error)
    save_tensors(Path(answers), found)
    print("\n" + json.dumps(errors))


if __name__ == "__main__":
    answer(*sys.argv[1:])
