"""Rows of named arrays: `random`, `arrays:FILE.npz` and functions that make {name: array}.

Whole numbers are int32 and floats float32 from here on, as both backends have them.
"""

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data.cache import stamp
from twinscale.common.data.labelled import Given, pieces_of, remarks
from twinscale.common.data.paths import is_file
from twinscale.common.data.unlabelled import rows_of
from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.files.tensors import load_archive
from twinscale.common.pairs.inputs import Spec, random_inputs
from twinscale.common.sources import MIXED, NAME, Data, Source, as_written, opened

if TYPE_CHECKING:
    from twinscale.common.objectives import Objective

JUDGED = ("labels", "weights")  # what an objective reads, and no model
ADDED = ("row", "key", "signals", *MIXED)  # what a step adds to a batch


@dataclass(frozen=True)
class Rows:
    """The rows that are numbered `members` (int64) in the source."""

    arrays: Mapping[str, np.ndarray]  # (N, ...) each
    members: np.ndarray

    def __len__(self) -> int:
        return len(self.members)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Each array (B, ...), labels and weights among them, as they are."""
        member = self.members[indices]
        return {name: x[member] for name, x in self.arrays.items()}


def given(data: Data, objective: "Objective", kept: bytes | None = None) -> Given:
    """What a source of arrays or of text, with labels or with pieces to be hidden, gives, by the tokenizer whose file's
    content (bytes) is `kept`, where it has one. Raises as `arrays`, `pieces_of` and `rows_of` do."""
    if data.unlabelled:
        return rows_of(data, kept)
    return pieces_of(data, objective, kept) if opened(data)[0].labelled else Given(arrays(data))


def arrays(data: Data) -> dict[str, np.ndarray]:
    """{name: bool, int32 or float32 array (rows, ...)} of a source of arrays, by name.

    Raises BadInput, which names the array, where one is of objects or text, is not finite, does not fit its dtype or
    has another number of rows.
    """
    source, argument = opened(data)
    if source.arrays is None:
        raise BadInput(f"{as_written(data)} holds no arrays")
    found, start = source.arrays(data, argument), as_written(data)
    if not isinstance(found, Mapping):
        raise BadInput(f"{start}: gives {type(found).__name__}: {{name: array}} is wanted")
    known = {str(name): narrowed(np.asarray(x), f"{start}: {shown(name)}") for name, x in sorted(found.items())}
    for name in known:
        if not re.fullmatch(NAME, name) or name in ADDED:
            raise BadInput(f"{start}: {shown(name)}: cannot be an array's name: take letters, digits, _ and -, and "
                           f"none of {', '.join(ADDED)}")
    if not known.keys() - set(JUDGED):
        raise BadInput(f"{start}: has no inputs, but {', '.join(known) or 'nothing'}: give an array with a row "
                       "for each example")
    first = next(iter(known))
    for name, x in known.items():
        if len(x) != len(known[first]):
            raise BadInput(f"{start}: {name} has {len(x):,} rows, but {first} has {len(known[first]):,}: give each "
                           "as many")
    return {name: x[:data.max_documents or None] for name, x in known.items()}


def narrowed(x: np.ndarray, start: str) -> np.ndarray:
    """An array as bool, int32 or float32."""
    if x.dtype.kind not in "biuf":
        raise BadInput(f"{start}: is of {x.dtype}: give bools, whole numbers or floats")
    if not x.ndim:
        raise BadInput(f"{start}: is one number: its first axis is the rows'")
    if x.dtype.kind == "b":
        return x
    with np.errstate(over="ignore"):
        found = x.astype(np.float32 if x.dtype.kind == "f" else np.int32)
    odd = ~np.isfinite(found) if x.dtype.kind == "f" else found != x
    if odd.any():
        place = tuple(int(i) for i in np.argwhere(odd)[0])
        why = (f"which {found.dtype} does not hold" if np.isfinite(x[place]) else "which is no number")
        raise BadInput(f"{start}: holds {x[place]} in row {place[0]}, {why}: correct the {int(odd.sum()):,} like it")
    return found


def with_labels(found: Mapping[str, np.ndarray], objective: "Objective", start: str
                ) -> tuple[dict[str, np.ndarray], int]:
    """(arrays with labels and weights, how many classes or 0) for an objective. Where there are no labels, which is for
    one that reads none, they are 0; where there are no weights each position counts, as far as labels tell of any.

    Raises BadInput where an objective needs labels that are not there or are no classes, and for weights below 0.
    """
    rows, classes = len(next(iter(found.values()))), 0
    labels, called = found.get("labels"), f'objective "{objective.title}"'
    if labels is None and objective.labels:
        raise BadInput(f'{start}: has no array "labels", which {called} reads: add it, or set '
                       'objective.name = "probe", which reads none')
    if labels is None or not objective.labels:
        labels = np.zeros(rows, np.int32)
    positions = labels.shape[:1]
    if not objective.judged:
        if labels.dtype.kind != "i" or labels.min(initial=0) < 0:
            raise BadInput(f'{start}: labels: {called} is of classes from 0 on, but they are {labels.dtype} from '
                           f'{labels.min()} on: set objective.name = "squared-error" or "sigmoid", or give classes')
        positions, classes = labels.shape, int(labels.max(initial=0)) + 1
    weights = np.asarray(found.get("weights", np.ones(positions)), np.float32)
    if (weights < 0).any() or not weights.any():
        raise BadInput(f"{start}: weights: from {weights.min()} to {weights.max()}: none may be below 0, nor all 0")
    return {**found, "labels": labels, "weights": weights}, classes


def unread(manifest: Mapping[str, Any]) -> str:
    """A line on what the data of a manifest have that nobody reads, or not as it is written; "" where that is
    nothing."""
    names, said = manifest.get("unread", ()), remarks(manifest)
    if names:
        said.append(f"the data have {', '.join(names)}, which objective.name = \"probe\" does not read: set "
                    'objective.name = "cross-entropy" for classes, "squared-error" or "sigmoid" to train on them')
    return "; ".join(said)


def row_size(example_shape: Sequence[Any]) -> int:
    """Values of a row, of a `Dataset.example_shape`; of arrays those of the largest."""
    return max(math.prod(one[1]) if isinstance(one, tuple) else 0 for one in example_shape) or math.prod(
        one for one in example_shape if not isinstance(one, tuple))


def row_positions(kind: str, example_shape: Sequence[Any]) -> int:
    """Positions, or pixels, of a row, of the kind and the example_shape of a `Dataset`; of arrays those of the largest,
    of whose floats the last axis are features."""
    if kind == "arrays":
        return max(math.prod(shape[:-1] if dtype == "float32" else shape) for _, shape, dtype in example_shape)
    return math.prod(example_shape[:2 if kind != "text" else 1])


def row_bytes(found: Mapping[str, np.ndarray], row: int) -> bytes:
    """What a row's inputs are, as bytes: by them it is on one side of the split."""
    return b"".join(x[row].tobytes() for name, x in sorted(found.items()) if name not in JUDGED)


def sha256_of(found: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) over names, in order, dtypes, shapes and content."""
    sha = hashlib.sha256()
    for name, x in sorted(found.items()):
        sha.update(f"{name} {x.dtype.str} {x.shape}\n".encode())
        sha.update(np.ascontiguousarray(x))  # type: ignore[arg-type]  # it is a buffer
    return sha.hexdigest()


def drawn(data: Data, argument: str) -> dict[str, np.ndarray]:
    """The arrays of `random`, by `data.inputs`. Raises BadInput where there are none, or one cannot be drawn."""
    if not data.inputs:
        raise BadInput("data.inputs: data.source=\"random\" draws what they say, and they say nothing: such as "
                       "inputs = { ids = { shape = [32], below = 1000 }, mask = { shape = [32], padding = true } }")
    specs = {}
    for name, spec in data.inputs.items():
        if spec.below and spec.padding:
            raise BadInput(f"data.inputs.{name}: ids have below, a mask has padding: take one of them")
        kind = "ids" if spec.below else "mask" if spec.padding else "normal"
        dtype = spec.dtype or ("float32" if kind == "normal" else "int32")
        specs[name] = Spec(spec.shape, dtype, kind, spec.below or None)
    try:
        return random_inputs(specs, data.seed, data.rows)
    except BadInput as error:
        raise BadInput(f"data.inputs.{error}") from None


def path_of(argument: str) -> Path:
    """The archive's path; BadInput where it is no file."""
    path = Path(os.path.expanduser(argument))
    if not is_file(path, "give the path of a .npz file", "data.source: "):
        raise BadInput(f"data.source: {shown(path)} is a folder: give the path of a .npz file")
    return path


def fingerprint_of_random(data: Data, argument: str) -> Any:
    """All that drawn arrays depend on."""
    return data.model_dump(mode="json", include={"inputs", "rows", "seed"})


ARRAYS = Source("arrays", lambda data, file: stamp([path_of(file)]),
                arrays=lambda data, file: load_archive(path_of(file)))
RANDOM = Source("arrays", fingerprint_of_random, arrays=drawn)
