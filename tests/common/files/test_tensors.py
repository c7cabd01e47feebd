"""Safetensors files: equal bytes for equal tensors, exact values, and one line for whatever is none."""

import ast
import json
import math
import os
import struct
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from twinscale.common.calls.trials import furthest
from twinscale.common.errors import BadInput
from twinscale.common.files import tensors as tensors_module
from twinscale.common.files.tensors import difference, load_dtypes, load_tensors, save_tensors


def made(header, body=b""):
    """A file of a header, JSON or bytes, and a body."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def one(dtype, shape, size, name="a"):
    return made({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, bytes(size))


def entry(name, begin, end, dtype="F32", shape=1):
    return f'"{name}": {{"dtype": "{dtype}", "shape": [{shape}], "data_offsets": [{begin}, {end}]}}'


@pytest.fixture(params=["read", "mapped"])
def whichever(request, monkeypatch):
    """Both ways in which a file is opened, by its size."""
    monkeypatch.setattr(tensors_module, "LARGE", 1 << 40 if request.param == "read" else -1)


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path, whichever):
    rng = np.random.default_rng(0)
    tensors = {dtype: rng.integers(0, 2, (2, 3)).astype(dtype) for dtype in (
        "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
        "bool", "complex64")} | {"none": np.zeros((0, 4), np.float32)}
    save_tensors(tmp_path / "x", tensors)
    found = load_tensors(tmp_path / "x")
    assert found.keys() == tensors.keys()
    assert all((x.dtype, x.shape, x.tobytes()) == (tensors[name].dtype, tensors[name].shape, tensors[name].tobytes())
               for name, x in found.items())


def test_a_file_is_to_the_byte_what_the_library_writes_and_no_copy_of_its_tensors_is_made(tmp_path):
    """In every order of dtypes and names, with odd names and with none, of either byte order, strided or a scalar."""
    rng = np.random.default_rng(1)
    tensors = {f"{name}{dtype}": rng.integers(0, 2, (2, 3)).astype(dtype) for name in ("b", "a/\n\"é") for dtype in (
        "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
        "bool", "complex64")}
    plain = tensors | {"none": np.zeros((0, 4)), "one": np.asarray(3.0)}
    odd = plain | {"big": np.arange(3, dtype=">i4"), "strided": np.arange(12.0).reshape(3, 4).T[::2]}
    for given, same in ((plain, plain), (odd, {name: np.ascontiguousarray(x, x.dtype.newbyteorder("="))
                                              .reshape(x.shape) for name, x in odd.items()}), ({}, {})):
        for told in ({}, {"of": "a \"test\""}):
            save_tensors(tmp_path / "x", given, told)
            assert (tmp_path / "x").read_bytes() == safetensors.numpy.save(same, told or None)
    with pytest.raises(TypeError, match="tensor wide: complex128"):
        save_tensors(tmp_path / "y", {"wide": np.zeros(2, complex)})
    assert not (tmp_path / "y").exists() and len(list(tmp_path.iterdir())) == 1
    large = {"x": np.ones(1 << 22)}
    tracemalloc.start()
    save_tensors(tmp_path / "x", large)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < large["x"].nbytes / 8


def test_a_large_files_numbers_stay_in_it_until_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors_module, "LARGE", 1 << 20)
    save_tensors(tmp_path / "x", {"a": np.ones(1 << 22), "b": np.arange(3)})
    tracemalloc.start()
    found = load_tensors(tmp_path / "x")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20
    save_tensors(tmp_path / "x", {"a": np.zeros(1 << 22)})  # another file in its place
    assert found["a"].all() and found["b"].tolist() == [0, 1, 2]


def test_bfloat16_comes_as_the_float32_of_the_same_value(tmp_path, whichever):
    """Every finite and infinite bfloat16 there is, against its meaning by sign, exponent and fraction."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    (tmp_path / "x").write_bytes(made({"a": {"dtype": "BF16", "shape": [256, 256], "data_offsets": [0, 1 << 17]}},
                                      bits.tobytes()))
    found = load_tensors(tmp_path / "x")["a"]
    sign, exponent, fraction = np.where(bits >> 15, -1.0, 1.0), (bits >> 7 & 255).astype(int), bits & 127
    wanted = sign * np.where(exponent > 0, np.ldexp(1 + fraction / 128, exponent - 127), np.ldexp(fraction / 128, -126))
    finite = exponent < 255
    assert found.shape == (256, 256) and found.dtype == np.float32
    assert (found.ravel()[finite] == wanted[finite]).all() and not np.isfinite(found.ravel()[~finite]).any()


def test_bfloat16_is_saved_as_the_float32_of_the_same_value_and_known_as_what_it_was(tmp_path, whichever):
    wide = np.array([[1.0, -2.5, 3.0e38], [2.0**-130, 0.0, np.inf]], np.float32)
    narrow = wide.astype(ml_dtypes.bfloat16)
    save_tensors(tmp_path / "x", {"narrow": narrow, "wide": wide, "scalar": narrow[0, 1]})
    found = load_tensors(tmp_path / "x")
    assert found["narrow"].dtype == np.float32 and found["scalar"] == -2.5
    assert (found["narrow"] == narrow.astype(np.float32)).all() and (found["narrow"] != wide).any()
    assert load_dtypes(tmp_path / "x") == {"narrow": "bfloat16", "wide": "float32", "scalar": "bfloat16"}
    (tmp_path / "y").write_bytes(one("BF16", [2], 4))  # as others save them
    assert load_dtypes(tmp_path / "y") == {"a": "bfloat16"}


WRONG = {
    "empty": (b"", "header too small"),
    "no header": (b"\0" * 7, "header too small"),
    "endless header": (struct.pack("<Q", 1 << 62) + b"{}", "header too large"),
    "header past the end": (struct.pack("<Q", 100) + b"{}", "not a whole"),
    "no JSON": (made(b"{"), "not a whole"),
    "deep": (made(b'{"a":' + b"[" * 10**5), "recursion limit"),
    "a high byte": (made(b'{"\xff": 1}'), "UTF-8"),
    "a list": (made([]), "not a whole"),
    "cut": (one("F32", [4], 16)[:-1], "not a whole"),
    "longer": (one("F32", [4], 16) + b"x", "not fully covered"),
    "too many bytes": (one("F32", [4], 20), "not a whole"),
    "endless shape": (one("F32", [1 << 40, 1 << 40], 4), "overflow"),
    "endless and empty": (one("F32", [0, 1 << 62], 0), "x: "),
    "negative": (one("F32", [-1], 4), "not a whole"),
    "overlap": (made(f"{{{entry('a', 0, 4)}, {entry('b', 0, 4)}}}".encode(), bytes(4)), "invalid offset"),
    "gap": (made(f"{{{entry('a', 4, 8)}}}".encode(), bytes(8)), "invalid offset"),
    "twice": (made(f"{{{entry('a', 0, 4)}, {entry('a', 0, 4, 'I32')}}}".encode(), bytes(4)), "a is there twice"),
    "F8": (one("F8_E4M3", [4], 4), "tensor a: its numbers are F8_E4M3, which are not read here; save them as F32"),
    "F8 too": (one("F8_E5M2", [4], 4, "\x1b[2J"), "tensor \\x1b[2J: its numbers are F8_E5M2"),
    "F4": (one("F4", [4], 2), "its numbers are F4"),
    "none": (one("X7", [4], 2), "not a whole")}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_no_whole_file_is_one_line_with_its_name_and_a_fix(tmp_path, how, whichever):
    content, words = WRONG[how]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load_tensors(tmp_path / "x")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/x: ") and words in said and "; " in said and said.isprintable()


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, whichever):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", "/dev/zero"):
        with pytest.raises(BadInput, match="but a file is wanted|No such file"):
            load_tensors(path)


# ---- how far two are apart

def test_a_difference_is_the_largest_one_of_the_largest_value():
    a, b = np.array([1, 2, 3], np.float32), np.array([1, 2, 4], np.float32)
    assert difference(a, b) == 0.25 and difference(b, a) == 1 / 3 and difference(a, a) == 0
    assert difference(a, b, 8.0) == 0.125 and difference(a, b, 2.0) == 0.25  # of no less than `least`
    assert difference(np.zeros(0), np.zeros(0)) == 0 == difference(np.zeros(2), np.zeros(2))
    third, near = np.array([1], np.float32) / np.float32(3), np.array([1 / 3])
    assert difference(third, near) == abs(float(third[0]) - 1 / 3) / (1 / 3)  # in float64, whatever comes in
    assert furthest({"a": a, "b": b}, {"a": b, "b": a}) == 1 / 3


@pytest.mark.parametrize("b", [None, np.zeros(2), np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, np.inf])])
def test_what_cannot_be_compared_is_infinitely_far(b):
    a = np.array([1.0, 2.0, 3.0])
    assert difference(a, b) == difference(b, a) == difference(a, a, math.inf) == math.inf


def test_nobody_has_a_difference_of_their_own():
    """No other function of two arrays divides the largest difference by the largest value."""
    root, own = Path(__file__).parents[3], []
    for path in (p for folder in ("benchmarks", "common", "tfscale", "jaxscale", "kerasjax", "swap")
                 for p in (root / folder).rglob("*.py") if "np.abs(" in p.read_text()):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                above, below = ast.unparse(node.left), ast.unparse(node.right)
                if above.startswith("np.abs(") and " - " in above and below.startswith("max("):
                    own.append(str(path.relative_to(root)))
    assert own == ["common/files/tensors.py"]
