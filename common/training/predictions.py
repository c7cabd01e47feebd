"""predictions.safetensors of a run: what its last evaluation predicts of held-out rows, where a metric is of classes.

"best" int32, "share" and "loss" float32, of shape (rows,) or (rows, length), in the order of the held-out set. Training
on several devices leaves none, as none of them has all rows.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists, shown
from twinscale.common.files.run_files import run_files
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.metrics.rows import DTYPES, of_classes

MOST = 1 << 24  # positions


def keeps(training: Any) -> bool:
    """Whether a training (`loop.Training`) leaves predictions of its last evaluation."""
    devices, held_out, probe = training.session.devices, training.session.dataset.held_out, training.probe
    if len(devices.names) > 1 or probe.permuted or probe.held_out or not training.run.writes:
        return False
    if not of_classes(training.recipe.train.metrics):
        return False
    labels = held_out.take(np.zeros(1, np.int64))["labels"]
    return len(held_out) * math.prod(labels.shape) <= MOST


def write_predictions(path: Path, kept: Sequence[Mapping[str, np.ndarray]], rows: int) -> None:
    """Writes the predictions of all batches into a run's directory; what fills the last batch up, behind `rows` rows,
    is left out."""
    whole = {name: np.concatenate([part[name] for part in kept])[:rows] for name in DTYPES}
    save_tensors(run_files(path).predictions, whole)


def read_predictions(path: Path | str) -> dict[str, np.ndarray] | None:
    """What a run's directory has, None where it has none. Raises BadInput where it is something else."""
    file = run_files(path).predictions
    if not exists(file):
        return None
    found = load_tensors(file)
    if {name: x.dtype for name, x in found.items()} != DTYPES or len({x.shape for x in found.values()}) != 1:
        raise BadInput(f"{shown(file)}: holds no predictions; make the run again with --overwrite")
    return found
