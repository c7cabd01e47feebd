"""Scalars in TensorBoard's files of events, as TensorFlow, tensorboardX, PyTorch and JAX's clu write them.

A file is records: the length as 8 bytes, its checksum, the record, its checksum; a record is a protocol buffer. Source:
tensorflow/core/lib/io/record_writer.h. No more than one record is in memory, and a large one, such as a picture's, is
passed over.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.files.access import check_regular, shown

LARGEST = 1 << 20  # bytes of a record that may hold scalars
MASK = 0xa282ead8
# Of TensorFlow's DataType, those that a scalar is written as: {number: (dtype, its field in a TensorProto)}.
KINDS = {1: ("<f4", "float_val"), 2: ("<f8", "double_val"), 3: ("<i4", "int_val"), 9: ("<i8", "int64_val"),
         14: ("<u2", "half_val"), 19: ("<f2", "half_val")}
BFLOAT16, HALF = 14, 19


def event_files(path: Path) -> list[Path]:
    """The files of events in a directory, in the order in which they were begun; [] where it is none."""
    return sorted(path.glob("*tfevents*")) if path.is_dir() else []


def is_events(head: bytes) -> bool:
    """Whether a file that begins so is one of records: by the checksum of the first one's length."""
    return len(head) >= 12 and _sum(head[:8]) == struct.unpack("<I", head[8:12])[0]


def scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    """(tag, step, value) of a file of events, in its order; what a crash cut short at its end is left out. Raises
    BadInput, with the place, where a record is damaged."""
    from tensorboardX.proto.event_pb2 import Event

    for place, record in _records(path):
        try:
            event = Event.FromString(record)
        except Exception as error:  # of the protobuf library's own
            raise BadInput(f"{shown(path)}: byte {place}: not an event of TensorBoard ({type(error).__name__}); it is "
                           "damaged: take another copy") from None
        for value in event.summary.value:
            number = _scalar(value)
            if number is not None:
                yield value.tag, event.step, number


def _records(path) -> Iterator[tuple[int, bytes]]:
    check_regular(path)
    with path.open("rb") as file:
        while True:
            place = file.tell()
            head = file.read(12)
            if len(head) < 12:
                return
            if not is_events(head):
                raise BadInput(f"{shown(path)}: byte {place}: not a record of TensorBoard; the file is damaged: take "
                               "another copy")
            (length,) = struct.unpack("<Q", head[:8])
            if length > LARGEST:
                if not _passed(file, length + 4):
                    return
                continue
            record = file.read(length + 4)
            if len(record) < length + 4:
                return
            if _sum(record[:-4]) != struct.unpack("<I", record[-4:])[0]:
                raise BadInput(f"{shown(path)}: byte {place}: its checksum is another; the file is damaged: take "
                               "another copy")
            yield place, record[:-4]


def _passed(file: BinaryIO, count: int) -> bool:
    """Whether so many bytes of a file could be passed over."""
    end = file.seek(0, 1) + count
    if end > file.seek(0, 2):
        return False
    file.seek(end)
    return True


def _sum(data: bytes) -> int:
    """The checksum of a record: a CRC-32C, turned and moved, that it may stand in what is itself summed."""
    from tensorboardX.crc32c import crc32c

    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK) & 0xffffffff


def _scalar(value: Any) -> float | None:
    """The number of a summary's value, None where it is none: a picture, a histogram, a text."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind != "tensor" or value.tensor.dtype not in KINDS or any(side.size != 1 for side in
                                                                    value.tensor.tensor_shape.dim):
        return None
    dtype, field = KINDS[value.tensor.dtype]
    content = value.tensor.tensor_content
    if not content:
        held = getattr(value.tensor, field)
        if len(held) != 1:
            return None
        if value.tensor.dtype not in (BFLOAT16, HALF):
            return float(held[0])
        content = int(held[0]).to_bytes(4, "little")[:2]  # of halves the bits
    if len(content) != np.dtype(dtype).itemsize:
        return None
    number = np.frombuffer(content, dtype)
    if value.tensor.dtype == BFLOAT16:  # the upper half of a float32
        number = (number.astype(np.uint32) << 16).view(np.float32)
    return float(number[0])
