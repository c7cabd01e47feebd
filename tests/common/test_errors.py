"""What any error is called: its kind, its words and its exit code."""

import errno
import os

import pytest

from twinscale.common import cli
from twinscale.common.errors import CannotSave, MissingEnvironment, known


def raising(error):
    def body(*_, **__):
        raise error
    return body


@pytest.mark.parametrize("error, code, words", [
    (MemoryError(), 4, "memory has ended"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes\nstack"), 4, "memory has ended"),
    (ImportError("libfoo.so: cannot open shared object file", name="numpy.core"), 4, "numpy.core cannot be imported"),
    (RuntimeError("Unable to initialize backend 'cuda': no GPU\nmore"), 4, "unset JAX_PLATFORMS"),
    (OSError(28, "No space left on device", "f"), 74, "f: No space left on device"),
    (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), 4, "set TMPDIR to one that can"),
    (KeyError("x"), 1, "internal error: KeyError: 'x'"),
    (ValueError("first\nsecond"), 1, "TWINSCALE_TRACEBACK=1"),
])
def test_what_libraries_raise_is_one_line_and_its_code(monkeypatch, capsys, error, code, words):
    monkeypatch.setattr(cli, "app", raising(error))
    assert cli.main([]) == code
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and "Traceback" not in said


@pytest.mark.parametrize("said, kind", [
    ("RESOURCE_EXHAUSTED: Error writing: Failed to write 3677 bytes: No space left on device [os_error_code='28']",
     CannotSave),  # TensorStore
    ("/x/step-5.tempstate17; No space left on device [Op:SaveV2]", CannotSave),  # TensorFlow
    ("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", MissingEnvironment)])
def test_a_resource_that_is_exhausted_is_the_disk_where_the_library_says_so(said, kind):
    error = known(RuntimeError(said))
    assert type(error) is kind and ("make room, then run the same" in str(error)) == (kind is CannotSave)


@pytest.mark.parametrize("code, words", [(errno.ENOSPC, "make room"), (errno.EROFS, "that can be written"),
                                         (errno.EFBIG, "ulimit -f")])
def test_what_keeps_a_file_from_being_written_comes_with_what_helps(code, words):
    said = str(known(OSError(code, os.strerror(code), "out/run.json")))
    assert said.startswith(f"out/run.json: {os.strerror(code)}: ") and words in said
