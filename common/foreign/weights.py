"""Two checkpoints under a match, tensor by tensor."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists, shown
from twinscale.common.files.tensors import difference
from twinscale.common.foreign.checkpoints import read_checkpoint
from twinscale.common.foreign.names import Fitted, fitted
from twinscale.common.foreign.taken import candidates
from twinscale.common.pairs.first import read_first
from twinscale.common.pairs.layouts import turned
from twinscale.common.pairs.match import Match, read_match

Arrays = Mapping[str, np.ndarray]


def apart(a: Path, b: Path, match: Path | None) -> dict[str, Any]:
    """How far each tensor of checkpoint b is from what a match makes of those of checkpoint a; without a match from the
    one that is called alike.

    Returns {"a", "b", "match": their paths, "tensors": rows as of `benchmarks.results.TensorApart`, the furthest apart
    first, "unmatched": {side: names}}. Raises BadInput where the match does not fit the shapes.
    """
    of_a, of_b = read_checkpoint(a), read_checkpoint(b)
    if match is None:
        alike = fitted(of_a, list(of_b))
        pairs = {name: other for name, other in alike.names.items() if of_a[other].shape == of_b[name].shape}
        left = {"a": set(of_a) - set(pairs.values()), "b": set(of_b) - set(pairs)}
        rows = [_row(name, [other], of_b[name], of_a[other]) for name, other in pairs.items()]
    else:
        found = read_match(match, candidates(of_b))
        fit_a, fit_b = _fits(match, found, of_a, of_b)
        left = {"a": {*fit_a.left, *fit_a.absent}, "b": {*fit_b.left, *fit_b.absent}}
        rows = []
        for line in found.lines:
            if line.b not in fit_b.names or not set(line.a) <= set(fit_a.names):
                continue
            try:
                made = turned(line.steps, [of_a[fit_a.names[name]] for name in line.a])
            except BadInput as error:
                raise BadInput(f"{shown(match)}: {shown(line.b)}: {error}") from None
            theirs = of_b[fit_b.names[line.b]]
            if made.shape != theirs.shape:
                raise BadInput(f"{shown(match)}: {shown(line.b)}: makes {made.shape} of {shown(a)}, but {shown(b)} has "
                               f"{theirs.shape}")
            rows.append(_row(line.b, line.a, theirs, made))
    if not rows:
        raise BadInput(f"{shown(a)} and {shown(b)}: no tensor of one is a tensor of the other: --match FILE says which "
                       "are; `twinscale match` writes it")
    rows.sort(key=lambda row: (-math.inf if row["relative"] is None else -row["relative"], row["tensor"]))
    return {"a": str(a), "b": str(b), "match": str(match) if match else None, "tensors": rows,
            "unmatched": {side: sorted(names) for side, names in left.items()}}


def _fits(path: Path, match: Match, a: Arrays, b: Arrays) -> tuple[Fitted, Fitted]:
    """Which tensors of two checkpoints a match speaks of. Beside a match lie first weights, which say in which order
    the program has its tensors."""
    names, ordered = list(dict.fromkeys(name for line in match.lines for name in line.a)), False
    first = path.with_suffix(".safetensors")
    if exists(first):
        try:
            order = [tensor.path for tensor in read_first(str(first))[0]]
        except BadInput:  # something else of that name
            order = []
        if set(names) <= set(order):
            names, ordered = order, True
    return fitted(a, names, ordered), fitted(b, [line.b for line in match.lines], False)


def _row(name, names, theirs, made) -> dict[str, Any]:
    x, y = np.asarray(theirs, np.float64), np.asarray(made, np.float64)
    relative = difference(x, y)
    absolute = float(np.abs(x - y).max()) if x.size else 0.0
    return {"tensor": name, "of": list(names), "shape": list(x.shape), "equal": bool(np.array_equal(x, y)),
            "relative": relative if math.isfinite(relative) else None,
            "absolute": absolute if math.isfinite(absolute) else None}

