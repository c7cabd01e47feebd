"""Files and directories: a path local or in a bucket, and contents that are whole or absent."""

import json
import math
import os
from pathlib import Path


def place(path):
    """A pathlib path, or for `gs://` and its like one of etils.epath."""
    if "://" not in str(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


def local(path):
    return isinstance(path, Path) and "://" not in str(path)


def files_below(path):
    """The files in a directory and in those in it."""
    for entry in path.iterdir():
        if entry.is_dir():
            yield from files_below(entry)
        else:
            yield entry


def remove(path):
    """Removes a file or a directory, not what a link points at."""
    if path.is_dir() and not (local(path) and path.is_symlink()):
        for entry in path.iterdir():
            remove(entry)
        path.rmdir()
    else:
        path.unlink()


# ---- written whole or not at all

def write_bytes(path, content):
    """Replaces a file in one step: a reader, or a crash, finds the old content or the new. Makes its directory."""
    path = place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not local(path):  # object stores show an object only once it is whole
        path.write_bytes(content)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno:
            error.filename = str(path)  # which writing itself does not say
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """`write_bytes` of text as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path, value):
    """`write_bytes` of JSON; arrays' scalars become numbers, and NaN and infinities null."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value):
    """`value` in JSON's own types: no NaN, no infinity, no NumPy scalar, no path."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
