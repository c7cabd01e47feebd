"""A model's tensors in the layouts of the Hugging Face library (safetensors and config.json), and back.

Which there are a family says: `common/families/`; whatever has none keeps its canonical names.
"""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import numpy as safetensors

from twinscale.common.errors import BadInput
from twinscale.common.export.formats import Shape
from twinscale.common.families import family_of, reads_text
from twinscale.common.families.ways import to_ours, to_theirs
from twinscale.common.families.weights import INDEX, TENSORS, load_weights
from twinscale.common.files.access import shown, write_bytes, write_json
from twinscale.common.files.output import Kind, clear
from twinscale.common.registry import resolved, short

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe

SAVED = Kind(".hugging-face", "config.json", {
    r"config\.json": None, r"model\.safetensors(\.index\.json)?": None, r"model-\d{5}-of-\d{5}\.safetensors": None})
MOST = 5_000_000_000  # bytes of a file, of which more are wanted for more, as the library has it


def layouts_of(model: Any) -> Any:
    """The Layouts of the family of a model section of the recipe, or None."""
    return resolved(family_of(model).layouts)


def layout(model: Any) -> tuple[str | None, str]:
    """(a layout's name, "") of a model section of the recipe, or (None, why there is none)."""
    found = layouts_of(model)
    if found and getattr(model, "bottleneck", 0):
        return None, f"no layout has the adapters of model.bottleneck={model.bottleneck}"
    return found.layout(model) if found else (None, f"no layout is known for a {short(model.family)}")


def to_layout(name: str, model: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{the layout's name: array} of {canonical name: array}."""
    found = {}
    for theirs, ours, how in layouts_of(model).pairs(name, model):
        found[theirs] = to_theirs(np.concatenate([tensors[part] for part in ours], -1), how)
    return found


def from_layout(name: str, model: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{canonical name: array} of {the layout's name: array}."""
    found = {}
    for theirs, ours, how in layouts_of(model).pairs(name, model):
        x = to_ours(tensors[theirs], how)
        found |= {part: np.ascontiguousarray(y) for part, y in zip(ours, np.split(x, len(ours), -1), strict=True)}
    return found


def write(recipe: "Recipe", dataset: "Dataset | Shape", tensors: Mapping[str, np.ndarray], path: Path,
          tokenizer: Path | None = None, most: float = math.inf) -> dict[str, Any]:
    """Writes a model as a directory of the library's: model.safetensors, or of more than `most` bytes several files and
    their index, and where there is a layout config.json; with the file `tokenizer`, a copy of it. Returns
    {"layout", "note"}: the layout's name, and why there is none."""
    name, note = layout(recipe.model)
    dtype = next(iter(tensors.values())).dtype.name
    if name:
        tensors = to_layout(name, recipe.model, tensors)
        sizes = dataset.example_shape if family_of(recipe.model).reads == "images" else dataset.example_shape[0]
        write_json(path / "config.json", layouts_of(recipe.model).config(
            name, recipe.model, dataset.classes, sizes, dtype))
    shards = shards_of(tensors, most)
    for file, names in shards.items():
        # The library takes no file that does not say in whose manner its tensors lie.
        content = safetensors.save({key: np.ascontiguousarray(tensors[key]) for key in names}, {"format": "pt"})
        write_bytes(path / file, content)
    if len(shards) > 1:
        write_json(path / INDEX, {"metadata": {"total_size": sum(x.nbytes for x in tensors.values())},
                                  "weight_map": {name: file for file, names in shards.items() for name in names}})
    if tokenizer:
        shutil.copyfile(tokenizer, path / "tokenizer.json")
    return {"layout": name, "note": f"{name}'s layout" if name else f"canonical names: {note}"}


def shards_of(tensors: Mapping[str, np.ndarray], most: float) -> dict[str, list[str]]:
    """{file: names of its tensors}, by name, each of `most` bytes at most or of one tensor."""
    groups: list[list[str]] = [[]]
    for name in sorted(tensors):
        if groups[-1] and sum(tensors[other].nbytes for other in (*groups[-1], name)) > most:
            groups.append([])
        groups[-1].append(name)
    if len(groups) == 1:
        return {TENSORS: groups[0]}
    return {f"model-{i:05}-of-{len(groups):05}.safetensors": names for i, names in enumerate(groups, 1)}


def save(recipe: "Recipe", tensors: Mapping[str, np.ndarray], out: Path) -> dict[str, Any]:
    """Writes the model of a run, {canonical name: array}, as a directory of the library's and reads it again; returns
    what `write` does.

    Raises BadInput where there is no layout, where the directory holds what is not of this verb, and where what is read
    is not bit for bit what was written.
    """
    name, why = layout(recipe.model)
    if name is None:
        raise BadInput(f"--hugging-face: {why}: the library has no such model; without it the run's whole state is "
                       "written, by canonical names")
    shape = Shape(len(tensors.get("head.bias", ())), (0,))
    if reads_text(recipe.model):
        shape = Shape(len(tensors["embedding.embedding"]), (recipe.data.sequence,))
    elif example := layouts_of(recipe.model).shape:
        shape = Shape(shape.classes, example(recipe.model, tensors))
    clear(out, SAVED, {"verb": "convert"}, True, "--to")
    found = write(recipe, shape, tensors, out, most=MOST)
    back = read(recipe.model, out)
    if odd := [key for key, x in tensors.items() if key not in back or back[key].tobytes() != x.tobytes()]:
        raise BadInput(f"--to {shown(out)}: {odd[0]} is not read as it was written ({len(odd)} such tensors): the disk "
                       "or the layout is broken")
    return found


def read(model: Any, path: Path) -> dict[str, np.ndarray]:
    """{canonical name: array} of such a directory; raises BadInput where a file is torn."""
    name, tensors = layout(model)[0], load_weights(path)
    return from_layout(name, model, tensors) if name else tensors
