"""Checkpoints of anybody's, as {path: array}: .keras, .weights.h5 and .h5, safetensors, msgpack of Flax, npz, Orbax.

What a file is, its content says and not its name. Numbers are all that is read: no model is built, no class looked for
and nothing unpickled. Paths have "/" between their parts. In a file of Keras 3 a layer's tensors have numbers alone:
"encoder/query/0" is the first tensor of the layer that its own model calls encoder/query.
"""

import io
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common import process
from twinscale.common.errors import DID_IT, BadInput, TwinscaleError, error_of, first_line, need
from twinscale.common.files.access import check_regular, read_bytes, shown
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.foreign.orbax import is_orbax, read_orbax

KINDS = "fiu"  # of NumPy's dtypes, and bfloat16 besides
FREE, RATIO = 1 << 26, 50  # bytes that a file may always say it holds, and more than that in so many times its own
KERAS = "model.weights.h5"  # in a .keras
OPTIMIZER = "optimizer"  # what there is besides layers
KNOWN = ".keras, .weights.h5, safetensors, msgpack, npz and Orbax are read"
PICKLED = "a pickle, which runs code when it is read, so it is not; save it as safetensors or npz"
DEEP = 100  # tables within tables
PATIENCE, RATE = 60.0, 10e6  # seconds that a file may take, and bytes of it that are read in one more
# Of flax.serialization: its types of msgpack's extensions, and the key of an array in pieces.
ARRAY, COMPLEX, SCALAR = 1, 2, 3
PIECES = "__msgpack_chunked_array__"


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """{path: array} of a checkpoint, bfloat16 as float32; optimizers' tensors and counters too.

    Raises BadInput where a file is damaged, of another kind, a pickle, or says that it holds far more than it can;
    MissingEnvironment where the package that reads it is not there.
    """
    found = _read(path, _reader(path))
    if not found:
        raise BadInput(f"{shown(path)}: holds no tensor; {KNOWN}")
    return found


def _read(path, read):
    try:
        return read(path)
    except (MemoryError, TwinscaleError):
        raise
    except Exception as error:  # of damaged files the libraries raise what they like
        raise BadInput(f"{shown(path)}: not a whole checkpoint: {type(error).__name__}: "
                       f"{shown(first_line(error), 200)}; save it again") from None


def _reader(path) -> Callable[[Path], dict[str, np.ndarray]]:
    if path.is_dir():
        if is_orbax(path):
            return read_orbax
        raise BadInput(f"{shown(path)}: a directory, and not one of Orbax; {KNOWN}")
    check_regular(path)
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return lambda path: _aside(path, _of_h5)
    if head.startswith(b"PK"):
        return _of_zip
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return lambda path: {name.replace(".", "/"): x for name, x in load_tensors(path).items()}
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise BadInput(f"{shown(path)}: {PICKLED}")
    if head[:1] and (0x81 <= head[0] <= 0x8f or head[0] in (0xde, 0xdf)):  # a map of msgpack
        return _of_msgpack
    raise BadInput(f"{shown(path)}: {'is empty' if not head else 'not a checkpoint'}; {KNOWN}")


def check_size(path: Path, held: int, size: int) -> None:
    """Raises BadInput where tensors of `held` bytes are said to lie in `size` bytes, which fill no memory with it."""
    if held > FREE and held > RATIO * size:
        raise BadInput(f"{shown(path)}: says that it holds {held:,} bytes, in {size:,}; save it again")


# ---- HDF5

def _aside(path, read):
    """What a reader of HDF5 makes of a file, in a child: in a damaged one libhdf5 may look for an end for ever."""
    seconds = PATIENCE + path.stat().st_size / RATE
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "tensors.safetensors"
        try:
            done = process.run(process.helper(__name__, READERS[read], path, made), timeout=seconds, encoding="utf-8",
                               errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, env={**os.environ, **process.QUIET})
        except subprocess.TimeoutExpired:
            raise BadInput(f"{shown(path)}: not read within {seconds:.0f} s, many times what a whole one takes: it is "
                           "damaged; save it again") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["without a word"]
            raise error_of(done.returncode, said[-1])
        return load_tensors(made)


def main() -> int:
    """The child: READER FILE OUT; what a file holds comes to OUT, and what is wrong with it to stderr."""
    name, path, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    try:
        save_tensors(out, _read(path, next(read for read, word in READERS.items() if word == name)))
    except TwinscaleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return DID_IT


def _of_h5(path):
    return _h5(path, path, path.stat().st_size)


def _of_keras(path):
    with zipfile.ZipFile(path) as archive:
        return _h5(path, io.BytesIO(archive.read(KERAS)), archive.getinfo(KERAS).file_size)


def _h5(path, file, size):
    need("h5py", why="the checkpoint is of HDF5")
    import h5py

    with h5py.File(file, "r") as opened:
        top = _inner(opened, "model_weights") or opened  # of a whole model in Keras 2's form
        datasets = list(_datasets(path, top, "", "vars" in top))
        check_size(path, sum(math.prod(data.shape) * data.dtype.itemsize for _, data in datasets), size)
        return {name: np.asarray(data[()]) for name, data in datasets}


def _datasets(path, group, above, of_keras, depth=0) -> Iterator[tuple[str, Any]]:
    """(path, dataset of numbers) below a group; what lies elsewhere than in the file is refused."""
    import h5py

    if depth > DEEP:
        raise BadInput(f"{shown(path)}: {shown(above, 100)}: nested too deeply")
    for key in group:
        entry = _inner(group, key)
        if entry is None:
            raise BadInput(f"{shown(path)}: {shown(key)}: a link, which may lead elsewhere; save it again")
        if isinstance(entry, h5py.Group):
            below = f"{above}/{_own(key, entry, of_keras)}".strip("/")
            yield from _datasets(path, entry, below, of_keras and key != OPTIMIZER, depth + 1)
        elif entry.dtype.kind in KINDS and entry.shape is not None:
            if entry.is_virtual or entry.external:
                raise BadInput(f"{shown(path)}: {shown(key)}: lies in another file; save it again")
            yield f"{above}/{key}".strip("/"), entry


def _own(key, entry, of_keras):
    """What a group adds to a path. In a file of Keras 3 a layer is a group with another in it, `vars`, that says its
    name, and other groups are lists of layers, which add nothing; in one of Keras 2 a layer's name is there twice."""
    if "weight_names" in entry.attrs:
        return ""
    if not of_keras or key == OPTIMIZER:
        return key
    layer = _inner(entry, "vars")
    return layer.attrs.get("name", key) if layer is not None else ""


def _inner(group, key):
    """What a group holds under a key, None where that is nothing or a link: it may lead to another file."""
    import h5py

    return group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None


# ---- zip

def _of_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = {entry.filename: entry for entry in archive.infolist()}
        size = path.stat().st_size
        check_size(path, sum(entry.file_size for entry in names.values()), size)
        if KERAS in names:
            return _aside(path, _of_keras)
        if any(name.endswith(("data.pkl", ".pickle")) for name in names):
            raise BadInput(f"{shown(path)}: {PICKLED}")
        if not all(name.endswith(".npy") for name in names):
            raise BadInput(f"{shown(path)}: an archive that is neither a .keras nor an .npz; {KNOWN}")
    return _of_npz(path)


def _of_npz(path):
    with np.load(path, allow_pickle=False) as held:
        found = {name.replace(".", "/"): held[name] for name in held.files}
    return {name: x for name, x in found.items() if x.dtype.kind in KINDS}


# ---- msgpack

def _of_msgpack(path):
    need("msgpack", why="the checkpoint is of msgpack")
    import msgpack

    tree = msgpack.unpackb(read_bytes(path, most=None), ext_hook=_extension, raw=False, strict_map_key=False)
    return dict(_leaves(path, tree, ""))


def _extension(code, data):
    """What flax.serialization makes of its extensions; others are nothing."""
    import msgpack

    if code not in (ARRAY, SCALAR):
        return None
    shape, dtype, content = msgpack.unpackb(data, raw=True)
    kind = dtype.decode() if isinstance(dtype, bytes) else str(dtype)
    if kind == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    x = np.frombuffer(content, np.dtype(kind)).reshape(shape)
    return x if x.dtype.kind in KINDS else None


def _leaves(path, tree, above, depth=0) -> Iterator[tuple[str, np.ndarray]]:
    if depth > DEEP:
        raise BadInput(f"{shown(path)}: {shown(above, 100)}: nested too deeply")
    if isinstance(tree, Mapping) and PIECES in tree:
        shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
        pieces = [tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]
        yield above, np.concatenate([piece.ravel() for piece in pieces]).reshape(shape)
    elif isinstance(tree, Mapping | list):
        for key, below in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _leaves(path, below, f"{above}/{key}".strip("/"), depth + 1)
    elif isinstance(tree, np.ndarray | int | float) and not isinstance(tree, bool):
        yield above, np.asarray(tree)


READERS = {_of_h5: "h5", _of_keras: "keras"}

if __name__ == "__main__":
    sys.exit(main())
