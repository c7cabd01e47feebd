"""Pixels of each channel less a mean and divided by a deviation: those of the training images, or ones that are given.

    x' = (x - mean) / deviation    of x from 0 to 1, float32; after augmentation and mixing, in training and wherever
                                   the model reads images

It is computed here, once for both backends. A run's manifest has the numbers, by which it goes on, is evaluated and
exported, whatever the images are by then.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from twinscale.common.errors import BadInput, one_of
from twinscale.common.files.access import exists, read_json, shown
from twinscale.common.sources import Data, as_written

LEVELS = 256
AT_ONCE = 1 << 26  # bytes of pixels that are counted together
PROCESSOR = "preprocessor_config.json"  # of the Hugging Face library, beside the weights of a model of images


class Standard(NamedTuple):
    """Of each channel, float32 (C,), of pixels from 0 to 1."""

    mean: np.ndarray
    deviation: np.ndarray


def standard_of(data: Data, pixels: np.ndarray, members: np.ndarray) -> Standard | None:
    """What the images (uint8 NxHxWxC) of a [data] are standardised by, None where they are not; `members` (int64) are
    the numbers of the training ones. Raises BadInput where it is not one of each channel, or a channel is constant."""
    channels = pixels.shape[-1]
    if not data.mean:
        return one_of({"none": lambda: None, "channels": lambda: measured(data, pixels, members)}, data.standardise,
                      "data.standardise")()
    if len(data.mean) != channels:
        raise BadInput(f"data.mean has {len(data.mean)} values, but the images of {as_written(data)} have {channels} "
                       "channels: give as many, of data.deviation too")
    return Standard(np.array(data.mean, np.float32), np.array(data.deviation, np.float32))


def measured(data: Data, pixels: np.ndarray, members: np.ndarray) -> Standard:
    """Mean and deviation (of the population) of each channel of the images that `members` number. Levels are counted,
    so that sums are whole numbers and exact; a quotient and a root are of float64, and rounded once to float32."""
    counts = np.zeros((pixels.shape[-1], LEVELS), np.int64)
    together = max(1, AT_ONCE // pixels[0].nbytes)
    for start in range(0, len(members), together):
        part = pixels[members[start:start + together]]
        for channel, count in enumerate(counts):
            count += np.bincount(part[..., channel].reshape(-1), minlength=LEVELS)
    found = []
    for channel, many in enumerate(counts.tolist()):  # Python's whole numbers do not overflow
        size = (LEVELS - 1) * sum(many)
        first, second = (sum(level**power * each for level, each in enumerate(many)) for power in (1, 2))
        spread = sum(many) * second - first * first
        if not spread:
            raise BadInput(f"data.standardise: channel {channel} of the training images of {as_written(data)} is the "
                           "same everywhere, and has no deviation: leave it out, or give data.mean and data.deviation")
        found.append((first / size, math.sqrt(spread / size**2)))
    return Standard(*np.array(found, np.float32).T)


def standardised(x: np.ndarray, standard: Standard | None) -> np.ndarray:
    """Images (..., C) from 0 to 1, as a model reads them."""
    return x if standard is None else (x - standard.mean) / standard.deviation


def told(standard: Standard) -> dict[str, list[float]]:
    """What a manifest and an export.json say: {"mean", "deviation"}, lists of a number a channel."""
    return {name: x.tolist() for name, x in standard._asdict().items()}


def as_told(said: Mapping[str, Sequence[float]] | None) -> Standard | None:
    """The Standard of what `told` has made."""
    if not said:
        return None
    return Standard(np.array(said["mean"], np.float32), np.array(said["deviation"], np.float32))


def beside_weights(folder: Path, data: Data) -> str:
    """A line on weights whose preprocessor_config.json standardises otherwise than a [data] says, "" where it does not.
    Raises BadInput where that file is no JSON."""
    if not exists(folder / PROCESSOR):
        return ""
    said: dict[str, Any] = read_json(folder / PROCESSOR, dict, "take the directory that the library has saved")
    theirs = [said.get(key) for key in ("image_mean", "image_std")] if said.get("do_normalize", True) else [None, None]
    if None in theirs or theirs == [list(data.mean), list(data.deviation)]:
        return ""
    return (f"weights: were trained on pixels with data.mean = {shown(theirs[0], 80)} and data.deviation = "
            f"{shown(theirs[1], 80)} ({PROCESSOR}), and the recipe says otherwise")
