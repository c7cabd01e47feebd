"""Points at which two programs are held beside each other besides their first step.

Before the first update every norm's scale is 1 and every bias 0, which hides the order of operations and whole terms;
and a first batch rarely holds what later ones will. So there is a generic point, weights that no initial value favours,
and a stress batch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from twinscale.common.data.arrays import JUDGED
from twinscale.common.families.parameters import dithering, generic_value, stream
from twinscale.common.numbers.formats import DITHER
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.references import FORMATS

POINTS = ("first", "generic", "stress")  # first weights and batch; generic weights; generic weights, stress batch


def generic_tensors(tensors: Mapping[str, np.ndarray], seed: int, dither: float = 0.0) -> dict[str, np.ndarray]:
    """Tensors of a state, as `Room.state_tensors` gives them, with its weights moved by seeded noise of their own size,
    and their averages with them. The values are bfloat16's, so that every precision has the same weights; with
    `dither` each is changed by as much of itself at most, as in `common.families.parameters.initial_values`."""
    found = dict(tensors)
    for name in (name for name in tensors if name.startswith("weights/")):
        # By way of float32, for float64's first values may lie on the other side of a tie.
        bare, value = name.removeprefix("weights/"), tensors[name].astype(np.float32).astype(np.float64)
        noise = stream(seed, bare, "generic").standard_normal(value.shape)
        there = generic_value(value, noise, bare.endswith(".var"))
        factor = dithering(seed, bare, dither, value.shape)
        if dither < DITHER["bfloat16"]:
            there = rounded(there, FORMATS["bfloat16"]) * factor
        else:  # what bfloat16 would round away again moves the values before they are rounded
            there = rounded(there * factor, FORMATS["bfloat16"])
        found[name] = there.astype(tensors[name].dtype)
        if f"ema/{bare}" in tensors:
            found[f"ema/{bare}"] = found[name]
    return found


def stress_batch(batch: dict[str, Any], classes: int, seed: int, parts: int = 1, fill: Callable | None = None
                 ) -> dict[str, np.ndarray]:
    """A batch of the same names, shapes and dtypes with what real ones seldom hold.

    Text: documents from one token to the whole row, an id repeated, the lowest and the highest id by turns, a row that
    is ignored whole. Pictures: constant ones, saturated noise, one of each that is ignored. Named arrays: what `fill`
    makes of them, which a family says or is `stress_arrays`. Of `parts` micro-batches the first has few
    positions that count, the others many.

    Args:
      batch: of `common.data.training_batches`. classes: the number of labels. seed: the recipe's. fill: of named
        arrays, (batch, classes, generator) to those that differ.
    """
    drawn = stream(seed, "stress")
    if fill is None:
        fill = stress_text if batch["inputs"].dtype.kind in "iu" else stress_pictures
    found = batch | fill(batch, classes, drawn)
    weights = np.array(found["weights"]).reshape(-1)
    if parts > 1:
        light = np.arange(weights.size) < weights.size // parts
        kept = np.flatnonzero((weights != 0) & light)[:1]
        weights[light] = False
        weights[kept] = True
    found["weights"] = weights.reshape(batch["weights"].shape)
    return {name: np.asarray(x, batch[name].dtype) for name, x in found.items()}


def stress_text(batch: dict[str, Any], classes: int, drawn: np.random.Generator) -> dict[str, Any]:
    """Ids, labels, weights and documents of a stress batch of text, (B, T)."""
    shape = rows, length = batch["inputs"].shape
    tokens, document = drawn.integers(0, classes, (rows, length + 1)), np.zeros((rows, length + 1), np.int64)
    doubled = np.cumsum(2 ** np.arange(length.bit_length()))  # documents of 1, 2, 4, ... tokens
    for row in range(rows):
        if row % 4 == 0:
            tokens[row] = np.arange(length + 1) % 2 * (classes - 1)
            document[row] = np.searchsorted(doubled, np.arange(length + 1), side="right")
        elif row % 4 == 1:
            tokens[row] = tokens[row, 0]
        else:
            document[row] = np.cumsum(drawn.random(length + 1) < 0.3)
    weights = drawn.random(shape) < 0.8
    found = {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}
    if "segments" in batch:
        found["segments"] = document[:, :-1] - document[:, :1]
        weights &= document[:, 1:] == document[:, :-1]
    weights[3::4] = False
    return found | {"weights": weights}


def stress_pictures(batch: dict[str, Any], classes: int, drawn: np.random.Generator) -> dict[str, Any]:
    """Values, labels and weights of a stress batch of pictures, (B, ...) in [0, 1], or of other features."""
    x = saturated(batch["inputs"], drawn)
    rows = np.arange(len(x))
    labels = np.where(rows % 3 == 0, 0, np.where(rows % 3 == 1, classes - 1, drawn.integers(0, classes, len(x))))
    return {"inputs": x, "labels": labels, "weights": rows % 4 != 2}


def stress_arrays(batch: dict[str, Any], classes: int, drawn: np.random.Generator) -> dict[str, Any]:
    """Floats and weights of a stress batch of named arrays, as pictures' values; all else stays as it is, for what ids
    and masks may be is not known, and floats of 0 and 1 alone are masks."""
    found = {name: saturated(x, drawn) for name, x in sorted(batch.items())
             if name not in JUDGED and x.dtype.kind == "f" and not np.isin(x, (0, 1)).all()}
    weights = batch["weights"].copy()
    weights[2::4] = 0
    return found | {"weights": weights if weights.any() else batch["weights"]}


def saturated(x: np.ndarray, drawn: np.random.Generator) -> np.ndarray:
    """Of four rows one of the lowest value, one of the lowest and the highest, one of the highest, one as it is."""
    found, low, high = x.copy(), x.min(), x.max()
    rows = np.arange(len(x))
    found[rows % 4 == 0] = low
    found[rows % 4 == 1] = np.where(drawn.random(x[rows % 4 == 1].shape) < 0.5, low, high)
    found[rows % 4 == 2] = high
    return found
