"""Named tensors in a safetensors file: whole or absent, equal bytes for equal tensors."""

import json
import math
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from twinscale.common.errors import BadInput, first_line
from twinscale.common.files.access import check_regular, escaped, local, place, read_bytes, shown, write_bytes
from twinscale.common.numbers.formats import TINY

BFLOAT16 = "bfloat16"
DTYPES = {"BOOL": np.bool_, "C64": np.complex64, "F16": np.float16, "F32": np.float32, "F64": np.float64,
          "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
          "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}
LAYOUT = ("U64", "I64", "F64", "C64", "F32", "U32", "I32", "F16", "U16", "I16", "I8", "U8", "BOOL")  # order in a file
LARGE = 1 << 26  # bytes of a file that is mapped and not read


def difference(a: Any, b: Any, least: float = 0.0) -> float:
    """max |a - b| / max(max |b|, least) in float64: 0 of empty tensors; infinite where either is None or not finite, or
    the shapes differ."""
    if a is None or b is None:
        return math.inf
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all() and math.isfinite(least)):
        return math.inf
    return float(np.abs(a - b).max() / max(np.abs(b).max(), least, TINY["float64"])) if a.size else 0.0


def save_tensors(path: str | os.PathLike, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
                 ) -> None:
    """Writes {name: NumPy array}, sorted by name, and texts of `metadata`. bfloat16, which safetensors' NumPy side
    lacks, is written as the float32 of the same value; the file's metadata says so."""
    arrays = {name: np.asarray(tensors[name]) for name in sorted(tensors)}
    widened = {name: BFLOAT16 for name, x in arrays.items() if x.dtype.name == BFLOAT16}
    kept = {name: np.dtype(np.float32 if name in widened else x.dtype) for name, x in arrays.items()}
    dtypes = {name: dtype.newbyteorder("<") for name, dtype in kept.items()}
    write_bytes(path, _pieces(arrays, dtypes, {**widened, **(metadata or {})}))


def _pieces(arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, np.dtype], metadata: Mapping[str, str]
            ) -> "Iterator[bytes | memoryview]":
    """A safetensors file (its documentation, section "Format") of arrays as their `dtypes`, its header first and then
    tensor by tensor: the library holds a second and a third copy of all of them while it writes, which a large model's
    machine may not have."""
    kinds = {np.dtype(dtype).newbyteorder("<"): kind for kind, dtype in DTYPES.items()}
    for name, dtype in dtypes.items():
        if dtype not in kinds:
            raise TypeError(f"tensor {name}: {dtype} is not of a safetensors file")
    order = sorted(arrays, key=lambda name: (LAYOUT.index(kinds[dtypes[name]]), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].size * dtypes[name].itemsize
        header[name] = {"dtype": kinds[dtypes[name]], "shape": list(arrays[name].shape),
                        "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        yield np.asarray(arrays[name], dtypes[name], order="C").reshape(-1).view(np.uint8).data


def load_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """{name: NumPy array} of a safetensors file; bfloat16, which NumPy lacks, comes as float32, which holds each of its
    values. Raises BadInput where the file is missing or torn, or has numbers of fewer bits than NumPy knows."""
    return {name: _array(path, name, entry) for name, entry in _read(path)[0]}


def load_dtypes(path: str | os.PathLike) -> dict[str, str]:
    """{name: dtype} of the tensors of a safetensors file as they were before they were saved, such as "bfloat16";
    raises BadInput where the file is missing or torn."""
    (entries, widened), names = _read(path), {kind: np.dtype(dtype).name for kind, dtype in DTYPES.items()}
    return {name: widened.get(name) or (names | {"BF16": BFLOAT16}).get(entry["dtype"], entry["dtype"])
            for name, entry in entries}


def load_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The texts that a safetensors file has besides its tensors; raises BadInput where it is missing or torn."""
    return {name: value for name, value in _read(path)[1].items() if isinstance(value, str)}


def _read(path):
    """(entries of a safetensors file, its metadata). The numbers of a large file stay there until they are asked for:
    a comparison has a dozen states open at once."""
    path = place(path)
    check_regular(path)
    try:
        if local(path) and path.stat().st_size > LARGE:
            with path.open("rb") as file, safe_open(path, "numpy"):  # which checks it
                content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            header, begin = _header(content)
            entries = [(name, {**entry, "data": content[slice(*(begin + at for at in entry["data_offsets"]))]})
                       for name, entry in header.items() if name != "__metadata__"]
        else:
            content = read_bytes(path, most=None)
            entries = deserialize(content)
            header, _ = _header(content)
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError) as error:
        raise BadInput(f"{shown(path)}: not a whole safetensors file: {shown(error)}; make it again") from None
    return entries, header.get("__metadata__") or {}


def _header(content):
    """(a safetensors file's header, the byte at which its numbers begin); raises ValueError where it has a key
    twice."""
    begin = 8 + int.from_bytes(content[:8], "little")
    return json.loads(bytes(content[8:begin]), object_pairs_hook=_once), begin


def _once(pairs):
    """The dict of an object of JSON; raises ValueError where it has a key twice, and so two meanings."""
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice} is there twice")
    return found


def _array(path, name, entry):
    dtype, data = entry["dtype"], entry["data"]
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
    if dtype not in DTYPES:
        raise BadInput(f"{shown(path)}: tensor {shown(name)}: its numbers are {dtype}, which are not read here; save "
                       "them as F32")
    try:
        return np.frombuffer(data, DTYPES[dtype]).reshape(entry["shape"])
    except ValueError as error:  # of an empty array with an endless side
        raise BadInput(f"{shown(path)}: tensor {shown(name)}: {shown(error)}; make the file again") from None


def load_array(path: str | os.PathLike) -> np.ndarray:
    """The array of a .npy file, memory-mapped; nothing is unpickled. Raises BadInput where it is none."""
    check_regular(path)
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # of a header NumPy raises whatever its tokeniser, zipfile or ast do
        raise BadInput(f"{shown(path)}: not a whole .npy file: {shown(first_line(error))}; make it again") from None
    if not isinstance(x, np.ndarray):
        raise BadInput(f"{shown(path)}: an archive of arrays, but one array is wanted")
    return np.asarray(x)


def load_archive(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """{key: array} of a .npz file; nothing is unpickled. Raises BadInput where it is none, or holds objects."""
    check_regular(path)
    key = ""
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise BadInput(f"{shown(path)}: one array, but an archive of arrays is wanted: save it by np.savez")
        found = {}
        with archive:
            for key in archive.files:
                found[key] = np.asarray(archive[key])
        return found
    except (MemoryError, BadInput):
        raise
    except Exception as error:  # as above
        if key and "pickle" in str(error):
            raise BadInput(f"{shown(path)}: {shown(key)}: holds Python objects, which are not loaded: save numbers or "
                           "bools") from None
        of = f"{shown(key)}: " if key else ""
        raise BadInput(f"{shown(path)}: {of}not a whole .npz file: {shown(first_line(error))}; make it again") from None


def check_tensors(tensors: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises BadInput unless `tensors` have the names and shapes of `wanted`, {name: anything with a shape}."""
    missing, surplus = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or surplus:
        first = f"{missing[0]} is missing" if missing else f"{escaped(surplus[0])} belongs to no tensor here"
        raise BadInput(f"tensors: {first} ({len(missing)} missing, {len(surplus)} surplus): they are of another model, "
                       "optimizer or optimizer.ema")
    for name, x in sorted(tensors.items()):
        if tuple(x.shape) != tuple(wanted[name].shape):
            raise BadInput(f"tensor {name}: has shape {tuple(x.shape)}, but {tuple(wanted[name].shape)} is wanted")


def named_arrays(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """{"GROUP/NAME": NumPy array} of {group: {name: tensor}}."""
    return {f"{group}/{name}": np.asarray(x) for group, tensors in groups.items() for name, x in tensors.items()}
