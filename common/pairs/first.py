"""The file of a pair's first weights: the tensors of the Keras model under their own paths, in the order in which it
has them, and what they are called in a recipe's canonical tree. A checkpoint may be in its place."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists, shown
from twinscale.common.files.pins import check_pin, unpinned
from twinscale.common.files.tensors import load_metadata, load_tensors, save_tensors
from twinscale.common.foreign.taken import first_of
from twinscale.common.pairs.draws import Call
from twinscale.common.pairs.tensors import ROLE_OF, Tensor

ORDER = "tensors"  # the one key of the metadata: of several the file's bytes would not be the same each time
CAME = "# First weights: "  # a line of match.toml on where they come from
SECOND = ("flax", "b")  # sides whose tensors a match takes back
FIX = "`twinscale match RECIPE` makes it"


class Told(TypedDict):
    """What the metadata says, of a file that knows of dropout too."""

    order: list[tuple[str, bool]]  # path, whether it is trained
    dropout: tuple[Call, ...]  # rate, shape of a row's mask, in the order of the calls


class Start(NamedTuple):
    """What a pair begins with: a file of first weights, or a checkpoint of a side, of whose tensors the file beside
    the match says what they are called."""

    weights: str
    match: str
    of: str = "keras"

    @property
    def beside(self) -> Path:
        """The file of first weights beside the match."""
        return unpinned(self.match).with_suffix(".safetensors")


def is_checkpoint(path: Path) -> bool:
    """Whether a file that is there is none that `write_first` has written."""
    if not exists(path):
        return False
    try:
        return path.is_dir() or ORDER not in load_metadata(path)
    except BadInput:  # of another form
        return True


def canonical_names(tensors: Sequence[Tensor]) -> dict[str, str]:
    """{path: canonical name} of a program's tensors: dots for slashes, and at the end what the tensor is, by which
    weight decay and optimizers go: kernel, embedding, bias or scale, and of what is not trained mean or var."""
    found: dict[str, str] = {}
    for tensor in tensors:
        *above, leaf = tensor.path.replace(".", "/").split("/")
        role = tensor.role if tensor.trained == (tensor.role not in ("mean", "var")) else (
            "scale" if tensor.trained else "mean")
        name = ".".join([*above, *([] if ROLE_OF.get(leaf.lower()) == role else [leaf]), role])
        while name in found.values():
            name = f"{name.rpartition('.')[0]}+.{role}"
        found[tensor.path] = name
    return found


def check_trained(tensors: Sequence[Tensor], side: str) -> None:
    """Raises BadInput where the program of a side has no tensor that an optimizer moves."""
    if not any(tensor.trained for tensor in tensors):
        raise BadInput(f"model.{side}: the program has no tensor that is trained, so that there is nothing to train: "
                       "`twinscale.check` compares such programs")


def write_first(path: Any, tensors: Sequence[Tensor], values: Mapping[str, np.ndarray],
                draws: Sequence[Call] | None = None) -> None:
    """Writes {path: array} of a program's tensors to a safetensors file, and its calls of dropout if they are known."""
    order = [[tensor.path, tensor.trained] for tensor in tensors]
    told = json.dumps(order if draws is None else {"order": order, "dropout": list(draws)})
    save_tensors(path, {tensor.path: values[tensor.path] for tensor in tensors}, {ORDER: told})


def first_draws(start: str | Start) -> tuple[Call, ...] | None:
    """The calls of dropout that a file of first weights, or that of a Start, says of the first program; None where it
    says none."""
    path = unpinned(start if isinstance(start, str) else start.weights)
    if isinstance(start, Start) and is_checkpoint(path):
        path = start.beside
    return _told(path)[1]


def read_first(start: str | Start) -> tuple[tuple[Tensor, ...], dict[str, np.ndarray]]:
    """(the tensors, {path: array}) of a file of first weights, which may be pinned, or of a Start. Raises BadInput
    where it is not there, is another than was meant, or is none."""
    weights = start if isinstance(start, str) else start.weights
    path = unpinned(weights)
    if isinstance(start, Start) and is_checkpoint(path):
        tensors, _ = read_first(str(start.beside))
        check_pin(weights)
        return tensors, first_of(tensors, path, unpinned(start.match) if start.of in SECOND else None)
    if not exists(path):
        raise BadInput(f"model.weights: {shown(path)}: no such file: {FIX}")
    check_pin(weights)
    values = load_tensors(path)
    order, _ = _told(path)
    if sorted(name for name, _ in order) != sorted(values):
        raise BadInput(f"model.weights: {shown(path)}: does not say in which order its tensors lie: {FIX}")
    return tuple(Tensor(name, values[name].shape, trained) for name, trained in order), values


def _told(path):
    """([(path, whether it is trained)], calls of dropout or None) of a file's metadata; ([], None) where it is none."""
    try:
        told = TypeAdapter(Told | list[tuple[str, bool]]).validate_json(load_metadata(path).get(ORDER, ""))
    except ValidationError:
        return [], None
    return (told, None) if isinstance(told, list) else (told["order"], told["dropout"])


@lru_cache(2)
def _first(start: str | Start):
    tensors, values = read_first(start)
    names = canonical_names(tensors)
    return tensors, {names[tensor.path]: values[tensor.path] for tensor in tensors}


def first_tensors(start: str | Start) -> tuple[Tensor, ...]:
    """The Tensors of a file of first weights."""
    return _first(start)[0]


def first_shapes(start: str | Start) -> dict[str, tuple[int, ...]]:
    """{canonical name: shape} of a file of first weights."""
    return {name: x.shape for name, x in _first(start)[1].items()}


def first_value(start: str | Start, name: str) -> np.ndarray:
    """The first value of a tensor by its canonical name."""
    return _first(start)[1][name]
