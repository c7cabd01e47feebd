"""Pictures with labels that lie in files: `folder:DIR`, a class a folder, and what `csv:FILE` names."""

import os
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.data.cache import stamp
from twinscale.common.data.parts import PARTS
from twinscale.common.data.paths import is_file, names
from twinscale.common.data.pixels import PICTURES, brought_to, read_pixels, with_channels
from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.files.output import counted
from twinscale.common.sources import Data, Source

LITTER = {"thumbs.db", "desktop.ini"}  # what file managers leave behind
MOST_BYTES = 1 << 36
MOST_CLASSES = 1 << 16

Picture = tuple[str, Path, str]  # its place in words, its path and its label


def in_folders(data: Data, argument: str) -> list[Picture]:
    """The pictures of each class's folder; in order the first of each class, the second of each, and so on."""
    root = os.path.expanduser(argument)
    start = f'data.source="{data.source}"'
    if not os.path.isdir(root):
        raise BadInput(f"{start}: there is no folder {shown(root)}: give one with a folder for each class in it")
    classes = []
    for label in names(root):
        path = os.path.join(root, label)
        if label.startswith(".") or not os.path.isdir(path):
            if label.lower().endswith(PICTURES) and not label.startswith("."):
                raise BadInput(f"{start}: {shown(path)} lies in no class's folder: move it into one")
            continue
        found = [os.path.join(path, name) for name in names(path)
                 if not name.startswith(".") and name.lower() not in LITTER]
        for file in found:
            if not is_file(file):
                raise BadInput(f"{start}: {shown(file)} is a folder in a class's folder: give the classes' own "
                               f'folder, such as "folder:{shown(path)}"')
            if not file.lower().endswith(PICTURES):
                raise BadInput(f"{start}: {shown(file)} is no {', '.join(PICTURES)}: convert it, or move it away")
        if not found:
            raise BadInput(f"{start}: the class's folder {shown(path)} is empty: fill it, or remove it")
        classes.append([(shown(file), Path(file), label) for file in found])
    return [one for one in chain(*zip_longest(*classes)) if one]


def parts_of(argument: str) -> dict[str, str]:
    """{"train": folder, and where there is one "held_out": folder} of a folder whose own folders are the parts of a
    data set, each with a folder for each class, such as train, val and test; {"train": argument} of any other. A class
    may be called train: then there are pictures in it.

    Raises BadInput where two are of one part.
    """
    root = os.path.expanduser(argument)
    found: dict[str, str] = {}
    for name in (name for name in names(root) if not name.startswith(".") and os.path.isdir(os.path.join(root, name))):
        part = next((part for part, known in PARTS.items() if name.lower() in known), None)
        if part is None:
            return {"train": argument}
        if part in found:
            raise BadInput(f"data.source: {shown(root)}: {shown(os.path.basename(found[part]))} and {shown(name)} are "
                           f'both the part "{part}": take one away')
        found[part] = os.path.join(root, name)
    inside = [name for name in names(found.get("train", "")) if not name.startswith(".")] if "train" in found else []
    if not any(os.path.isdir(os.path.join(found["train"], name)) for name in inside):
        return {"train": argument}
    return {part: found[part] for part in ("train", "held_out") if part in found}


def in_parts(data: Data, argument: str) -> tuple[list[Picture], np.ndarray | None]:
    """(pictures of all parts, which of them are held out; None where their content is to decide it). Raises BadInput
    where nothing trains a class that is held out, and as `in_folders` does."""
    found = {part: in_folders(data, folder) for part, folder in parts_of(argument).items()}
    known = {label for _, _, label in found["train"]}
    for place, _, label in found.get("held_out", ()):
        if label not in known:
            raise BadInput(f"{place}: is of the class {shown(label)}, of which there is nothing to train on: add some, "
                           "or take its folder away")
    sides = np.repeat([part == "held_out" for part in found], [len(one) for one in found.values()])
    return [one for own in found.values() for one in own], sides if len(found) > 1 else None


def read(data: Data, found: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray, int, list[str]]:
    """(uint8 NxHxWxC, labels N, classes, their names) of pictures [(place, path, label)], which are all to be of one
    size, or are brought to `data.size`; C is 1 where all of them are gray."""
    start = f'data.source="{data.source}"'
    known = {label for _, _, label in found}
    if len(known) < 2 or len(known) > MOST_CLASSES:
        raise BadInput(f"{start} has {len(known):,} classes in {len(found):,} pictures: take 2 to {MOST_CLASSES:,}")
    whole = all(label.isascii() and label.isdigit() and str(int(label[:18])) == label for label in known)
    order = sorted(known, key=int if whole else None)
    pictures, size = [], 0
    for place, path, _ in counted(found, len(found), "pictures are read"):
        pixels = read_pixels(path, place if place.endswith(shown(path)) else f"{place}: {shown(path)}")
        if data.size:
            pixels = brought_to(pixels, data.size)
        if pictures and pixels.shape[:2] != pictures[0].shape[:2]:
            raise BadInput(f"{place}: is {' x '.join(map(str, pixels.shape[:2]))} pixels, but {shown(found[0][1])} is "
                           f"{' x '.join(map(str, pictures[0].shape[:2]))}: make them one size, or set "
                           "data.size")
        size += pixels.nbytes
        if size > MOST_BYTES:
            raise BadInput(f"{start} has more than {MOST_BYTES >> 30} GiB of pixels: make the pictures smaller")
        pictures.append(pixels)
    channels = max(pixels.shape[-1] for pixels in pictures)
    images = np.empty((len(pictures), *pictures[0].shape[:2], channels), np.uint8)
    for image, pixels, (place, _, _) in zip(images, pictures, found, strict=True):
        image[...] = with_channels(pixels, channels, place)
    number = {label: i for i, label in enumerate(order)}
    return images, np.array([number[label] for _, _, label in found]), len(order), order


def stamped(data: Data, found: Iterable[Picture]) -> tuple[Any, ...]:
    """What tells whether pictures [(place, path, label)] have changed."""
    return data.field, data.label, stamp(path for _, path, _ in found), *([data.size] if data.size else [])


def of_folder(data: Data, folder: str) -> tuple[np.ndarray, np.ndarray, int, list[str], np.ndarray | None]:
    """What `read` gives of a folder's pictures, and which of them are held out."""
    found, held_out = in_parts(data, folder)
    return *read(data, found), held_out


FOLDER = Source("images", lambda data, argument: None, images=of_folder,
                more=lambda data, folder: stamped(data, in_parts(data, folder)[0]))
