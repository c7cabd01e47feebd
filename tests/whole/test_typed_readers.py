"""What is read back from a disk is read by the typed readers of `common/files/access.py` and `common/files/tensors.py`,
and nowhere else: whoever parses by himself ends in a traceback on the first file that is damaged."""

import ast

import numpy as np
import pytest

from twinscale.common import process
from twinscale.common.data.sources import read_images
from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import load_array
from twinscale.common.operations.known import known_deviations

ROOMS = ("common", "benchmarks", "tfscale", "jaxscale", "kerasjax", "swap")
PARSERS = {"json": {"load", "loads"}, "tomllib": {"load", "loads"}, "np": {"load", "loadtxt", "genfromtxt", "fromfile"},
           "numpy": {"load"}, "pickle": {"load", "loads"}, "safetensors": {"safe_open", "deserialize"}}
NAMES = {"safe_open", "deserialize", "load_file", "loads"}
ALLOWED = {  # (file, function): why it may
    ("common/files/access.py", "parse_toml"): "the typed reader itself",
    ("common/files/tensors.py", "_read"): "the reader of safetensors",
    ("common/files/tensors.py", "_header"): "its header, in which it looks for keys that are there twice",
    ("common/files/tensors.py", "load_array"): "the reader of .npy",
    ("common/files/tensors.py", "load_archive"): "the reader of .npz",
    ("common/export/predict.py", "is_answer"): "asks for the names alone, and whether there are any",
    ("common/export/predict.py", "array_of"): "a .npy or .npz of anybody, any error of which becomes one line there",
    ("common/foreign/checkpoints.py", "_of_npz"): "a .npz of anybody, any error of which becomes one line there",
    ("common/data/text_files.py", "record_of"): "a line of a corpus, of which fields are wanted; their types are seen",
    ("common/calls/worker.py", "answered"): "a pipe between processes of ours",
    ("benchmarks/workers.py", "value_of"): "a pipe between processes of ours",
    ("common/export/process.py", "ask"): "a pipe between processes of ours",
    ("benchmarks/peers/serve.py", "opened"): "a pipe between processes of ours",
    ("benchmarks/peers/serve.py", "serve"): "a pipe between processes of ours",
    ("benchmarks/preflight/peers.py", "answered"): "a pipe between processes of ours",
    ("benchmarks/timing/peers.py", "ask"): "a pipe between processes of ours",
    ("benchmarks/device_check/steps.py", "asked_of"): "a pipe between processes of ours",
    ("common/generation/both.py", "asked_of"): "a pipe between processes of ours",
    ("common/machine/doctor.py", "_devices"): "a pipe between processes of ours, any error of which becomes one line "
                                              "there",
    ("common/training/run.py", "what_differs"): "what this process has just written out itself",
    ("common/need.py", "requirements"): "our own pyproject.toml, where we run from our source",
    ("benchmarks/report/page.py", "ordered"): "what this process has just written out itself",
}


def parsers_in(file):
    """The functions of a file that call a parser."""
    for function in ast.walk(ast.parse(file.read_text())):
        for call in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(call, ast.Call) and (
                    isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
                    and call.func.attr in PARSERS.get(call.func.value.id, ())
                    or isinstance(call.func, ast.Name) and call.func.id in NAMES):
                yield function.name


def test_nothing_but_the_typed_readers_parses_what_is_read_back():
    found = {(file.relative_to(process.ROOT).as_posix(), name) for room in ROOMS
             for file in (process.ROOT / room).rglob("*.py") for name in parsers_in(file)}
    assert found == ALLOWED.keys(), found ^ ALLOWED.keys()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr': ", b"PK\x03\x04",
                                     b"\x93NUMPY\x01\x00\x10\x00{(((((((((((((((\n"])
def test_a_broken_array_is_one_line(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(BadInput, match="x.npy: not a whole .npy file: .*make it again"):
        load_array(tmp_path / "x.npy")


def test_objects_are_not_unpickled_and_archives_are_no_arrays(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "y.npz", x=np.zeros(2))
    for name, said in (("x.npy", "not a whole .npy"), ("y.npz", "an archive of arrays")):
        with pytest.raises(BadInput, match=said):
            load_array(tmp_path / name)


@pytest.mark.parametrize("names", ["{}", "[7]", '[["a"]]', "[" * 10_000, "\xff"])
def test_names_of_classes_that_are_none_have_the_cache_made_again(tmp_path, names):
    np.save(tmp_path / "images.npy", np.zeros((1, 2, 2, 1), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(1, np.int32))
    np.save(tmp_path / "classes.npy", 2)
    np.save(tmp_path / "held_out.npy", np.zeros(0, bool))
    (tmp_path / "names.json").write_text("[]")
    assert read_images(tmp_path)[2:] == (2, None, None)
    (tmp_path / "names.json").write_text(names, "latin-1")
    with pytest.raises((BadInput, ValueError)):  # upon which `cached` builds it again
        read_images(tmp_path)


def test_the_files_that_the_project_itself_brings_are_read():
    """A reader that refused its own list of deviations was seen by no quick test."""
    assert len(known_deviations()) > 10
