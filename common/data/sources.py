"""What data comes from: `data.source` -> documents of text, or images with labels."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from twinscale.common.data.cache import cached, key
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import read_json
from twinscale.common.files.tensors import load_array
from twinscale.common.registry import portable, short
from twinscale.common.sources import Data, as_written, opened, own_values


def kind(data: Data) -> str:
    """"text", "images" or "either": what `data.source` holds."""
    return opened(data)[0].holds


def documents(data: Data) -> Iterator[tuple[str, str]]:
    """Iterator of (name, text) over the documents of a text source, in a fixed order; empty ones are left out.

    Raises BadInput where a file is missing, is no UTF-8, or has a line that is no JSON object with the field.
    """
    source, argument = opened(data)
    if source.documents is None:
        raise BadInput(f"{as_written(data)} holds no text")
    found = source.documents(data, argument)
    return itertools.islice(((name, text) for name, text in found if text), data.max_documents or None)


def file_of(data: Data, name: str) -> str:
    """The file that a document of that name came from; of a source that is no files, the document itself."""
    return opened(data)[0].file_of(name)


def fingerprint(data: Data) -> Any:
    """What tells, in milliseconds, whether a source has changed since it was last read (JSON-able)."""
    source, argument = opened(data)
    return source.fingerprint(data, argument)


Read = tuple[np.ndarray, np.ndarray, int, list[str] | None, np.ndarray | None]


def images(data: Data) -> Read:
    """(images uint8 NxHxWxC, labels int32 N, classes int, their names or None, bool N of which are held out or None) of
    an image source, memory-mapped from the cache.

    Raises BadInput where a label is no integer or out of range, MissingEnvironment where a package is missing.
    """
    source, argument = opened(data)
    if source.images is None:
        raise BadInput(f"{as_written(data)} holds no images")
    parts = portable(data.source), fingerprint(data), *source.more(data, argument), *own_values(data)

    def build(folder):
        pixels, labels, classes, names, held_out, *_ = *source.images(data, argument), None, None
        lengths = {len(one) for one in (pixels, labels, held_out) if one is not None}
        if pixels.ndim != 4 or pixels.dtype != np.uint8 or len(lengths) > 1:
            raise BadInput(f"{as_written(data)}: its images are {pixels.dtype} {pixels.shape} with {len(labels)} "
                           "labels: uint8 (N, H, W, C) with N labels are wanted")
        (folder / "names.json").write_text(json.dumps([names]))
        np.save(folder / "held_out.npy", np.zeros(0, bool) if held_out is None else np.asarray(held_out, bool))
        np.save(folder / "images.npy", pixels)
        np.save(folder / "labels.npy", checked(labels, classes, short(data.source)))
        np.save(folder / "classes.npy", classes)

    try:
        pixels, labels, classes, names, held_out = cached(f"images-{key(2, *parts)}", build, read_images)
    except ImportError as error:
        raise MissingEnvironment(f"{as_written(data)} needs the package {error.name}: install it") from None
    if held_out is None or not data.max_documents:
        some: Any = slice(data.max_documents or None)
    else:  # of each part
        some = np.sort(np.concatenate([np.flatnonzero(held_out == part)[:data.max_documents] for part in (0, 1)]))
    return pixels[some], labels[some], classes, names, None if held_out is None else held_out[some]


def read_images(folder: Path) -> Read:
    """What `images` gives, of a folder that it has filled; ValueError where it is none."""
    pixels, labels, classes = (load_array(folder / f"{name}.npy") for name in ("images", "labels", "classes"))
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or labels.shape != pixels.shape[:1] or classes.ndim:
        raise ValueError(f"it holds {pixels.dtype} {pixels.shape} with labels {labels.shape}")
    checked(labels, classes, folder)
    names = next(iter(read_json(folder / "names.json", list[list[str] | None])), None)
    if names is not None and len(names) != classes:
        raise ValueError(f"it holds {len(names)} names for {classes} classes")
    held_out = load_array(folder / "held_out.npy")
    if held_out.dtype != bool or len(held_out) not in (0, len(labels)):
        raise ValueError(f"it holds {held_out.dtype} {held_out.shape} for {len(labels)} labels")
    return pixels, labels, int(classes), names, np.asarray(held_out) if len(held_out) else None


def checked(labels: ArrayLike, classes: int | np.ndarray, source: str | Path) -> np.ndarray:
    """`labels` as int32, after a check that each is an integer in [0, classes)."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise BadInput(f'data.source="{source}" has labels of type {labels.dtype}: labels are whole numbers from 0')
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise BadInput(f'data.source="{source}": example {wrong[0]} has the label {labels[wrong[0]]}, outside '
                       f"0..{classes - 1}: drop or relabel the {len(wrong)} examples like it")
    return labels.astype(np.int32)
