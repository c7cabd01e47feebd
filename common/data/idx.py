"""`idx:DIR`: images and labels in the files of MNIST (LeCun, Cortes and Burges), plain or compressed by gzip: those to
train on, and those of t10k or test, which are held out. A labels.txt there, a line a class, names the classes.

    train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  t10k-images-idx3-ubyte.gz  t10k-labels-idx1-ubyte.gz
"""

import math
import os
import re
import zlib
from pathlib import Path

import numpy as np

from twinscale.common.data.cache import stamp
from twinscale.common.data.paths import names, read_utf8
from twinscale.common.errors import BadInput
from twinscale.common.files.access import read_bytes, shown
from twinscale.common.sources import Data, Source

NAME = re.compile(r"(?:.*-)?(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx[13]-ubyte(?:\.gz)?")
NAMES = "labels.txt"
MOST_BYTES = 1 << 34  # of a file, unpacked


def parts(argument: str) -> dict[str, dict[str, Path]]:
    """{"train": {"images": file, "labels": file}, "held_out": the same} of a folder; of a folder without files to hold
    out, "train" alone. Raises BadInput, with what makes a set of ours, where it has no files to train on."""
    root = Path(os.path.expanduser(argument))
    start = f'data.source="idx:{shown(argument)}"'
    found: dict[str, dict[str, Path]] = {}
    for name in names(str(root)):
        if match := NAME.fullmatch(name):
            own = found.setdefault("train" if match["part"] == "train" else "held_out", {})
            if match["what"] in own:
                raise BadInput(f"{start}: {shown(own[match['what']].name)} and {shown(name)} are of one part: take one "
                               "away")
            own[match["what"]] = root / name
    if "train" not in found:
        raise BadInput(f"{start}: has no train-images-idx3-ubyte and train-labels-idx1-ubyte, or these with .gz: give "
                       "their folder; `twinscale data fetch fashion-mnist` makes such a one")
    for own in found.values():
        if len(own) == 1:
            (what, path), = own.items()
            lacks = "labels" if what == "images" else "images"
            raise BadInput(f"{start}: {shown(path.name)} has no {lacks} beside it: add their file, or take it away")
    return dict(sorted(found.items(), reverse=True))  # what is trained on first


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array of `axes` axes in a file. Raises BadInput where it is cut short, longer, or of another kind.

    The format: two zero bytes, the type (8: a byte without a sign), the number of axes, their sizes as 4 bytes each,
    the first byte the highest, and the values, the last axis the fastest.
    """
    content = read_bytes(path, MOST_BYTES)
    if content.startswith(b"\x1f\x8b"):
        content = gunzipped(path, content)
    head = 4 + 4 * axes
    if len(content) < head or content[:3] != b"\0\0\x08" or content[3] != axes:
        raise BadInput(f"{shown(path)}: is no idx file of bytes with {axes} axes: give one of MNIST's format")
    shape = tuple(int.from_bytes(content[4 + 4 * i:8 + 4 * i]) for i in range(axes))
    if len(content) - head != math.prod(shape):
        raise BadInput(f"{shown(path)}: says it holds {' x '.join(map(str, shape))} values, and holds "
                       f"{len(content) - head:,}: fetch it again")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def gunzipped(path: Path, content: bytes) -> bytes:
    """What gzip has packed, MOST_BYTES of it at most."""
    try:
        opened = zlib.decompressobj(wbits=31)
        found = opened.decompress(content, MOST_BYTES)
        if not opened.eof:
            raise BadInput(f"{shown(path)}: " + ("is cut short: fetch it again" if len(found) < MOST_BYTES else
                                                 f"holds more than {MOST_BYTES >> 30} GiB: make it smaller"))
    except zlib.error as error:
        raise BadInput(f"{shown(path)}: cannot be unpacked ({error}): fetch it again") from None
    return found


def images(data: Data, argument: str) -> tuple[np.ndarray, np.ndarray, int, list[str] | None, np.ndarray | None]:
    """(uint8 NxHxWx1, labels, classes, their names, which are held out); all by `data.held_out` where no part is."""
    found = parts(argument)
    pixels, labels = [], []
    for own in found.values():
        pixels.append(read_idx(own["images"], 3))
        labels.append(read_idx(own["labels"], 1))
        if len(pixels[-1]) != len(labels[-1]) or pixels[-1].shape[1:] != pixels[0].shape[1:]:
            raise BadInput(f"{shown(own['images'])}: {pixels[-1].shape} with {len(labels[-1]):,} labels: as many "
                           "labels as images, of one size, are wanted")
    called = class_names(own["labels"].parent / NAMES)
    known = np.concatenate(labels)
    sides = np.repeat([part == "held_out" for part in found], [len(x) for x in labels])
    classes = max(int(known.max(initial=0)) + 1, len(called or ()))
    if called and classes > len(called):
        raise BadInput(f"{shown(own['labels'].parent / NAMES)}: names {len(called)} classes, and labels go to "
                       f"{classes - 1}: give a line for each")
    return np.concatenate(pixels)[..., None], known, classes, called, sides if len(found) > 1 else None


def class_names(path: Path) -> list[str] | None:
    """The lines of a file of names; None where there is no file."""
    if not path.is_file():
        return None
    found = [line.strip() for line in read_utf8(path).splitlines() if line.strip()]
    if len(set(found)) != len(found) or not found:
        raise BadInput(f"{shown(path)}: names a class twice, or none: give a line for each class")
    return found


def files(argument: str) -> list[Path]:
    """All files that a folder's images are read from."""
    found = [path for own in parts(argument).values() for path in own.values()]
    names_file = found[0].parent / NAMES
    return [*found, *([names_file] if names_file.is_file() else [])]


IDX = Source("images", lambda data, folder: stamp(files(folder)), images=images)
