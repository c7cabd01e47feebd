"""First weights from a directory of the Hugging Face library's, model.safetensors beside config.json, or several files
beside their index: the options that config.json says, and the canonical tensors that the files hold."""

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from twinscale.common.errors import BadInput
from twinscale.common.families import FAMILIES, family_of
from twinscale.common.families.ways import shape_there, to_ours
from twinscale.common.files.access import exists, place, read_json, shown
from twinscale.common.files.hub import check_fetched, fetched, folder_of, is_hub
from twinscale.common.files.pins import check_pin, pinned_file, unpinned
from twinscale.common.files.tensors import load_tensors
from twinscale.common.registry import load, resolved
from twinscale.common.section import Section

TENSORS, CONFIG = "model.safetensors", "config.json"
INDEX = "model.safetensors.index.json"  # of tensors in several files
OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # as the first BERTs were saved
BUFFERS = re.compile(r"(\.attn\.(masked_)?bias|position_ids|\.inv_freq)$")  # which are computed, and no weights
COUNTED = ".num_batches_tracked"  # torch's batch norms count their batches
SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")  # a name beside the index, and no path
TOLD = 6  # names that a line has


class Taken(NamedTuple):
    """What a model takes from a file."""

    values: dict[str, np.ndarray]  # by canonical name
    left: tuple[str, ...]  # tensors of the file that the model has no place for, by the file's names
    fresh: tuple[str, ...]  # tensors of the model that the file has not, by canonical names


def pinned_weights(name: str) -> str:
    """The pinned file of tensors that a directory, or a file's path, means; of one with several, the pinned directory.
    "" stays, and so does a name on a hub, which its commit pins."""
    if is_hub(name):
        return check_fetched(name, "model.weights")
    path = unpinned(name)
    inside = exists(path) and place(path).is_dir() and not is_sharded(path)
    return pinned_file(f"{path}/{TENSORS}" if inside else name) if name else name


def located(name: str) -> Path:
    """Where weights lie: their path, or for a name on a hub the folder in the cache."""
    return folder_of(name) if is_hub(name) else unpinned(name)


def is_sharded(path: Path) -> bool:
    """Whether a directory holds its tensors in several files."""
    return exists(path / INDEX) and not exists(path / TENSORS)


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """{name: array} of a file of tensors, or of a directory of the library's. Raises BadInput where a file is missing
    or torn, or the index names what is not there."""
    if not place(path).is_dir() or not is_sharded(path):
        return load_tensors(path / TENSORS if place(path).is_dir() else path)
    index, again = path / INDEX, "take all files that the library has saved"
    said = read_json(index, dict, again).get("weight_map")
    if not isinstance(said, dict) or not all(isinstance(file, str) and SHARD.fullmatch(file) for file in said.values()):
        raise BadInput(f"{shown(index)}: weight_map: says not of each tensor which file beside it has it: {again}")
    found = {}
    for file in sorted(set(said.values())):
        held = load_tensors(path / file)
        if missing := sorted(name for name, there in said.items() if there == file and name not in held):
            raise BadInput(f"{shown(path / file)}: lacks {listed(missing)}, which {INDEX} says is there: {again}")
        found |= {name: x for name, x in held.items() if said.get(name) == file}
    return found


class Started(Section):
    """Options of a model whose first weights may be those of a file, which say all that config.json says beside it."""

    weights: Annotated[str, AfterValidator(pinned_weights)] = Field(
        "", description="first weights: a directory of the Hugging Face library's, whose config.json says the "
                        "options, or hub:ORG/NAME@REVISION")

    @model_validator(mode="before")
    @classmethod
    def as_configured(cls, values: Any) -> Any:
        """The options, with what config.json says besides."""
        if not isinstance(values, dict) or not isinstance(values.get("weights"), str) or not values["weights"]:
            return values
        return options_beside(values["weights"], str(values.get("family"))) | values

    @model_validator(mode="after")
    def agrees(self) -> Self:
        """The options; raises ValueError where one is not what config.json says."""
        told = options_beside(self.weights, self.family) if self.weights else {}  # type: ignore[attr-defined]
        for key, value in told.items():
            mine = getattr(self, "feedforward" if key == "hidden" else key)
            if mine != value:
                raise ValueError(f"model.{key}={mine}, but {CONFIG} of model.weights says {value}: leave it out, or "
                                 "take weights of such a model")
        return self


def is_saved(path: str) -> bool:
    """Whether a directory is one that the library has saved, and no run or state of ours."""
    folder = place(path)
    return exists(folder / CONFIG) and (exists(folder / TENSORS) or exists(folder / INDEX))


def config_beside(weights: str) -> Path:
    """The config.json of a directory of weights, or beside their file."""
    path = located(weights)
    return (path if exists(path) and place(path).is_dir() else path.parent) / CONFIG


def options_beside(weights: str, family: str) -> dict[str, Any]:
    """The options of a family of ours that the config.json of weights says; none where there is no such file. Raises
    BadInput where it is of a model that the family is not."""
    path = config_beside(weights)
    if not exists(path):
        return {}
    config, layouts = read_json(path, dict, "take the directory that the library has saved"), layouts_named(family)
    kind = config.get("model_type")
    if kind not in layouts.prefixes:
        raise BadInput(f'model.weights: {shown(path)}: model_type = {shown(kind)}: model.family = "{family}" takes '
                       f"{', '.join(layouts.prefixes)}")
    try:
        return layouts.options(kind, config)
    except KeyError as error:
        raise BadInput(f"model.weights: {shown(path)}: lacks or does not know {error}: take the directory that the "
                       "library has saved") from None


def layouts_named(family: str) -> Any:
    """The Layouts of a family of ours, by its name."""
    return resolved(load(FAMILIES, family).layouts)


def taken(model: Any, tree: Mapping[str, Any]) -> Taken:
    """What a model of options with `weights`, of a canonical tree, takes from their file.

    Of a head, what has another shape in the file starts fresh. Raises BadInput, which names tensors, where the file is
    of another architecture: another tensor has another shape or is missing, or one of a block is left.
    """
    return _taken(model, tuple((name, tuple(parameter.shape)) for name, parameter in tree.items()))


@lru_cache(2)
def _taken(model, shapes):
    if is_hub(model.weights):
        fetched(model.weights, "model.weights")  # which a run read back elsewhere may not have
    path, shapes = located(model.weights), dict(shapes)
    start = f"model.weights: {shown(path)}"
    if not exists(path):
        raise BadInput(f"{start}: no such file: give a directory with {TENSORS}, or leave model.weights out")
    check_pin(model.weights)
    held, layouts = load_weights(path), resolved(family_of(model).layouts)
    name, why = (layouts.nearest or layouts.layout)(model)
    if name is None:
        raise BadInput(f"{start}: no layout is known for such a model: {why}")
    prefix = layouts.prefixes[name]
    known = {bare(theirs, prefix): theirs for theirs in held}
    values, wrong, missing, used = {}, [], [], set()
    for theirs, ours, how in layouts.pairs(name, model):
        there, wanted = known.get(bare(theirs, prefix)), shape_in(ours, shapes, how)
        if there is None or held[there].shape != wanted and is_fresh(ours[0], layouts.fresh):  # of other classes
            missing += ours
            continue
        used.add(there)
        if held[there].shape != wanted:
            wrong.append(f"{there} {list(held[there].shape)}, not {list(wanted)}")
            continue
        x = to_ours(held[there], how)
        values |= {part: np.ascontiguousarray(y) for part, y in zip(ours, np.split(x, len(ours), -1), strict=True)}
    left = sorted(theirs for theirs in held.keys() - used if not theirs.endswith(COUNTED))
    wrong += [f"{ours} is missing" for ours in missing if not is_fresh(ours, layouts.fresh)]
    wrong += [f"{theirs} is left" for theirs in left
              if bare(theirs, prefix).startswith(layouts.body[name]) and not BUFFERS.search(theirs)]
    if wrong:
        raise BadInput(f"{start}: of another architecture than the recipe's model: {listed(wrong)}: take the options "
                       f"that its {CONFIG} says")
    for theirs in sorted(used):
        if held[theirs].dtype.kind != "f" or not np.isfinite(held[theirs]).all():
            raise BadInput(f"{start}: {shown(theirs)}: holds what are no finite floats: save the weights again")
    return Taken(values, tuple(left), tuple(name for name in shapes if name not in values))


def bare(name: str, prefix: str) -> str:
    """A tensor's name without the prefix that models with a head have before their body's, and as it is saved today."""
    name = name.removeprefix(prefix)
    for old, new in OLD.items():
        name = name.replace(old, new)
    return name


def shape_in(ours: list[str], shapes: Mapping[str, tuple[int, ...]], how: bool | str) -> tuple[int, ...]:
    """The shape in a layout of canonical tensors that lie beside each other along the last axis."""
    first = shapes[ours[0]]
    return shape_there((*first[:-1], sum(shapes[part][-1] for part in ours)), how)


def is_fresh(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a tensor of a model may start without a file's."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def listed(words: list[str] | tuple[str, ...]) -> str:
    """The first few of some words, and how many more there are."""
    more = f" and {len(words) - TOLD} more" if len(words) > TOLD else ""
    return ", ".join(shown(word) for word in words[:TOLD]) + more


def said(model: Any, tree: Mapping[str, Any]) -> str:
    """A line on what a model takes from its file of weights; "" where it has none. Raises as `taken` does."""
    if not (getattr(model, "weights", "") and family_of(model).layouts):
        return ""
    found = taken(model, tree)
    return (f"weights: {len(found.values)} of {len(tree)} tensors are those of {unpinned(model.weights)}"
            + (f"; fresh ones are {listed(found.fresh)}" if found.fresh else "")
            + (f"; in the file alone are {listed(found.left)}" if found.left else ""))
