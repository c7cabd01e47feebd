"""A writer or a reader of a format as a process of its own: what it is handed, and what it answers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinscale.common import process
from twinscale.common.errors import TwinscaleError, error_of, of_machine
from twinscale.common.export.formats import Model, Shape, ShapeInfo
from twinscale.common.files.access import read_json, write_json, write_text
from twinscale.common.files.run_files import RECIPE
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.limited import lack
from twinscale.common.recipe.file import dumps, load


def write_model(path: Path, model: Model) -> None:
    """Writes a Model into a directory, for a process to read."""
    save_tensors(path / "tensors.safetensors", model.tensors)
    write_text(path / RECIPE, dumps(model.recipe))
    write_json(path / "shape.json", vars(model.shape))


def read_model(path: Path) -> Model:
    """The Model that `write_model` has written."""
    shape = read_json(path / "shape.json", ShapeInfo)
    return Model(load(path / RECIPE, []), Shape(shape["classes"], tuple(shape["example_shape"])),
                 load_tensors(path / "tensors.safetensors"))


def ask(module: str, *words: object) -> dict[str, Any]:
    """What a module prints, as JSON, run as a process; raises the error that its exit code is of, with what it said."""
    done = process.run(process.helper(module, *words), encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **process.QUIET})
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["without a word"]
        raise lack(done.returncode, done.stderr.encode().splitlines()) or error_of(
            done.returncode, f"{module} ended with exit code {done.returncode}: {said[-1].removeprefix('twinscale: ')}")
    return json.loads(done.stdout.splitlines()[-1])


def failed(said: dict[str, Any]) -> ImportError | TwinscaleError:
    """The error that a writer's process says instead of an answer; one of the machine is raised."""
    if fault := of_machine(RuntimeError(said["error"])):
        raise fault
    return ImportError(said["error"], name=said["missing"]) if said.get("missing") else TwinscaleError(said["error"])


def answer(write: Callable[..., dict[str, Any]]) -> None:
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
