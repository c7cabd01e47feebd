"""What may be done to an input that is in order: each generator yields (what was done, the content afterwards)."""

import json
import struct
import zlib

HUGE = 10**400  # a whole number that no float holds
CONTROL = "\x1b[31m\x1b]0;owned\x07"  # colours a terminal, names its window and rings its bell
BIDI = "abc\u202e\u2066gpj.exe\u2069"  # is read in another order than it is written
SURROGATE = "half \ud800 a pair"


def bytes_damaged(content):
    """Of any text file that is read whole: what no reader of it may take."""
    middle = len(content) // 2
    yield "emptied", b""
    yield "cut in half", content[:middle]
    yield "a NUL within", content[:middle] + b"\x00" + content[middle:]
    yield "a high byte within", content[:middle] + b"\xff" + content[middle:]
    yield "as UTF-16", content.decode().encode("utf-16")
    yield "zeroed", bytes(len(content))
    yield "followed by garbage", content + b"} garbage {"


def json_shapes():
    """JSON that is no object, or nested deeper than any reader goes."""
    for name, text in (("null", "null"), ("a list", "[]"), ("a number", "7"), ("text", '"text"'), ("NaN", "NaN"),
                       ("an empty object", "{}")):
        yield f"only {name}", text.encode()
    yield "100,000 brackets deep", b"[" * 100_000 + b"]" * 100_000
    yield "objects 50,000 deep", b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    yield "a whole number of 10,000 digits", b'{"schema_version": ' + b"1" * 10_000 + b"}"


def of_other_types(value):
    """(name, JSON text) of what a value of this type is not."""
    number, text = ("true", "-1", "1e999", "NaN", str(HUGE)), ("null", "7", "[]", "{}")
    if isinstance(value, bool):
        yield from ((name, name) for name in ("null", "1", '"true"', "[]"))
    elif isinstance(value, int | float):
        yield from ((name[:12], name) for name in (*number, "null", '"7"', "[]", "{}"))
    elif isinstance(value, str):
        yield from ((name, name) for name in text)
    elif isinstance(value, list):
        yield from ((name, name) for name in ("null", "7", '"text"', "[[]]", '{"a": 1}'))
    elif isinstance(value, dict):
        yield from ((name, name) for name in ("null", "7", '"text"', "[]", "[1]"))


def json_damaged(content, places, most=None):
    """Of a JSON object: each key of `places` (tuples) missing, and in turn of every other type.

    Args:
      content: bytes. places: where; a step that is a number is of a list. most: wrong types that are tried at a place.
    """
    for place in places:
        value = json.loads(content)
        parent, key = value, place[-1]
        for step in place[:-1]:
            parent = parent[step]
        said, old = ".".join(map(str, place)), parent[key]
        if isinstance(parent, dict):
            del parent[key]
            yield f"without {said}", json.dumps(value).encode()
            parent[key] = old
        for name, text in list(of_other_types(old))[:most]:
            parent[key] = "\u0001here\u0001"
            yield f"{said} is {name}", json.dumps(value).replace('"\\u0001here\\u0001"', text).encode()


def with_value(content, place, text):
    """JSON with another JSON text at a place."""
    value = json.loads(content)
    parent = value
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = "\u0001here\u0001"
    return json.dumps(value).replace('"\\u0001here\\u0001"', text).encode()


# ---- tensors

def safetensors(tensors, extra=b""):
    """A safetensors file of {name: (dtype, shape, bytes, or None for zeros, or (start, end) that lies)}."""
    header, data = {}, b""
    sizes = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I32": 4, "I64": 8, "U8": 1,
             "BOOL": 1}
    for name, (dtype, shape, content) in tensors.items():
        if isinstance(content, tuple):
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": list(content)}
            continue
        count = sizes.get(dtype, 4)
        for size in shape:
            count *= size
        content = bytes(count) if content is None else content
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data + extra


def safetensors_damaged(content):
    """Of a safetensors file in order."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    first = next(name for name in header if name != "__metadata__")

    def again(header):
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length:]

    yield "emptied", b""
    yield "cut in half", content[:len(content) // 2]
    yield "a header of 2^63 bytes", struct.pack("<Q", 1 << 63) + content[8:]
    yield "a header of 90 MB that is not there", struct.pack("<Q", 90_000_000) + content[8:]
    yield "a header that is no JSON", content[:8] + b"\xff" * length + content[8 + length:]
    yield "offsets past the end", again(header | {first: header[first] | {"data_offsets": [0, 1 << 50]}})
    yield "a shape of 2^60", again(header | {first: header[first] | {"shape": [1 << 60]}})
    yield "a negative shape", again(header | {first: header[first] | {"shape": [-1]}})
    yield "an unknown dtype", again(header | {first: header[first] | {"dtype": "F3"}})
    yield "a name with control characters", again(
        {CONTROL if name == first else name: said for name, said in header.items()})
    yield "no tensors", struct.pack("<Q", 2) + b"{}"
    yield "a pickle", b"\x80\x04K\x01." + content[5:]


# ---- images

def png(width, height, bits, colour, rows, extra=b""):
    """A PNG file of its rows' bytes (without filter bytes); `extra` are chunks before the image's."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\x00" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
