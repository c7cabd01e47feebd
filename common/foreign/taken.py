"""A program's tensors out of a checkpoint of it, or of the other program of a pair."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.foreign.checkpoints import read_checkpoint
from twinscale.common.foreign.names import bare, check_fits, fitted
from twinscale.common.pairs.layouts import shape_after
from twinscale.common.pairs.match import read_match, returned
from twinscale.common.pairs.tensors import Tensor

Arrays = Mapping[str, np.ndarray]


def first_of(tensors: Sequence[Tensor], checkpoint: Path, match: Path | None = None) -> dict[str, np.ndarray]:
    """{path: array} of a program's tensors from a checkpoint of it; with a match, from one of the other program's,
    which the match carries back. Raises BadInput, by name, where a tensor is not there, has another shape or is not
    finite."""
    held, shapes = read_checkpoint(checkpoint), {tensor.path: tensor.shape for tensor in tensors}
    if match is None:
        found = _taken(held, list(shapes), checkpoint)
    else:
        lines = read_match(match, candidates(held))
        theirs = _taken(held, [line.b for line in lines.lines], checkpoint)
        for line in lines.lines:
            _check_shape(checkpoint, line.b, theirs[line.b], shape_after(line.steps, [shapes[name] for name in line.a]))
        found = returned(lines, tensors, (), theirs)
        for name in shapes.keys() - found.keys():
            raise BadInput(f"{shown(checkpoint)}: {shown(name)} cannot be made of what is in it: not all of it goes "
                           "into the other program; take a checkpoint of this side's")
    for name, x in found.items():
        _check_shape(checkpoint, name, x, shapes[name])
        if not np.isfinite(x).all():
            raise BadInput(f"{shown(checkpoint)}: {shown(name)}: holds what is not finite; take an earlier checkpoint")
    return {name: np.asarray(found[name], np.float32) for name in shapes}


def _taken(held: Arrays, wanted: Sequence[str], path: Path) -> dict[str, np.ndarray]:
    found = fitted(held, wanted)
    check_fits(found, path)
    return {name: held[found.names[name]] for name in wanted}


def _check_shape(path, name, x, shape):
    if tuple(x.shape) != tuple(shape):
        raise BadInput(f"{shown(path)}: {shown(name)}: has shape {tuple(x.shape)}, but {tuple(shape)} is wanted")


def candidates(held: Iterable[str]) -> list[Tensor]:
    """What tensors of a checkpoint may be called in a match, for {i}: their paths, each from any part on."""
    found = {}
    for path in held:
        parts = bare(path).split("/")
        found |= {"/".join(parts[i:]): None for i in range(len(parts))} | {path: None}
    return [Tensor(name, ()) for name in found]
