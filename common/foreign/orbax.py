"""Checkpoints of Orbax without Orbax or JAX: the arrays of a directory, each a zarr, in files of their own or together
in TensorStore's database (OCDBT).

Which arrays there are, `_METADATA` says: the keys on the way to each, which are its path here and, joined by dots, its
name there.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import dotted, files_below, read_json, shown
from twinscale.common.need import lacking, missing

METADATA, DATABASE = "_METADATA", "manifest.ocdbt"
ITEMS = ("default", "state", "params", "model")  # of a step of a CheckpointManager: what the weights are called
FIX = "save it again"
FREE, RATIO = 1 << 26, 50  # as common.foreign.checkpoints has it; arrays of one number take no room at all


class Key(TypedDict):
    """A step on the way to a leaf."""

    __pydantic_config__ = ConfigDict(extra="allow")

    key: str


class Leaf(TypedDict):
    """A leaf of the tree."""

    __pydantic_config__ = ConfigDict(extra="allow")

    key_metadata: list[Key]
    value_metadata: dict[str, Any]


class Tree(TypedDict, total=False):
    """What `_METADATA` holds; absent, use_zarr3 is false."""

    __pydantic_config__ = ConfigDict(extra="allow")

    tree_metadata: dict[str, Leaf]
    use_zarr3: bool


def is_orbax(path: Path) -> bool:
    """Whether a directory is a checkpoint of Orbax, a step of a CheckpointManager, or holds such steps."""
    return path.is_dir() and ((path / METADATA).is_file() or bool(_inside(path)))


def _inside(path) -> list[Path]:
    """What of a directory are checkpoints: the items of a step, or the one below each step."""
    return sorted({found.parent for pattern in (f"*/{METADATA}", f"*/*/{METADATA}") for found in path.glob(pattern)})


def read_orbax(path: Path) -> dict[str, np.ndarray]:
    """{path: array} of a checkpoint; of a directory with one step in it, or of a step with several items, of the one
    that holds weights. Raises BadInput where there are several steps, or an array is damaged."""
    if lacking(["tensorstore"]):
        raise MissingEnvironment(missing("orbax", "the checkpoint is one of Orbax"))
    home = _home(path)
    tree = read_json(home / METADATA, Tree, FIX)
    if "tree_metadata" not in tree:
        raise BadInput(f"{shown(home / METADATA)}: tree_metadata: missing; {FIX}")
    opened = {}
    for leaf in tree["tree_metadata"].values():
        keys = [str(step["key"]) for step in leaf["key_metadata"]]
        if leaf["value_metadata"].get("value_type") not in ("None", "string", "Dict", "List", "dict", "list"):
            opened["/".join(keys)] = _opened(home, ".".join(keys), tree.get("use_zarr3", False))
    size = sum(file.stat().st_size for file in files_below(home))
    held = sum(math.prod(x.shape) * 4 for x in opened.values())
    if held > FREE and held > RATIO * size:
        raise BadInput(f"{shown(home)}: says that it holds {held:,} bytes, in {size:,}; {FIX}")
    return {name: _values(x.read().result()) for name, x in opened.items()}


def _home(path):
    """The directory that has `_METADATA`."""
    if (path / METADATA).is_file():
        return path
    found = _inside(path)
    steps = sorted({place.relative_to(path).parts[0] for place in found if len(place.relative_to(path).parts) > 1})
    if len(steps) > 1:
        there = ", ".join(map(shown, steps[:12]))
        raise BadInput(f"{shown(path)}: holds several checkpoints, {there}: name one of them")
    if len(found) == 1:
        return found[0]
    named = [place for name in ITEMS for place in found if place.name == name]
    if not named:
        raise BadInput(f"{shown(path)}: holds {', '.join(shown(place.name) for place in found[:12])}: name one of them")
    return named[0]


def _opened(home, name, zarr3):
    import tensorstore

    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise BadInput(f"{shown(home / METADATA)}: {dotted([name])}: no name of an array")
    root = home.resolve()
    if (home / DATABASE).is_file():
        store = {"driver": "ocdbt", "base": f"{root.as_uri()}/", "path": f"{name}/"}
    else:
        store = {"driver": "file", "path": f"{root / name}/"}
    try:
        asked = {"driver": "zarr3" if zarr3 else "zarr", "kvstore": store}
        return tensorstore.open(asked, read=True, open=True).result()
    except ValueError as error:
        raise BadInput(f"{shown(home)}: {shown(name)}: {shown(str(error).splitlines()[0], 200)}; {FIX}") from None


def _values(x):
    x = np.asarray(x)
    return x.astype(np.float32) if x.dtype.name == "bfloat16" else x
