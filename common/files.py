"""Files and directories: a path local or in a bucket; contents that are written whole or not at all, and that are read
only from regular files and only as what they should be; and text of others, shown so that no terminal obeys it.
"""

import json
import math
import os
import re
import stat
import tomllib
from pathlib import Path

from common.errors import BadInput

LARGEST = 1 << 28  # bytes of a file that is read as text, JSON or TOML
ODD = frozenset("[]*?\\")
HALF = re.compile(r"\.(?P<name>.+)\.[0-9]+\.tmp")  # what `write_bytes` calls a file until it is whole


def place(path):
    """A pathlib path, or for `gs://` and its like one of etils.epath."""
    if "://" not in str(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


def local(path):
    return isinstance(path, Path) and "://" not in str(path)


def is_link(path):
    return local(path) and path.is_symlink()


def is_odd(path):
    """Whether a local path, made absolute, is one that TensorFlow or TensorStore read as another or not at all: they
    take brackets, stars and question marks for a pattern and a backslash for "/", and want UTF-8."""
    name = os.path.realpath(path) if local(path) else ""
    return not ODD.isdisjoint(name) or any("\ud800" <= c <= "\udfff" for c in name)


def no_follow(path, flags):
    """For `open(..., opener=no_follow)`: what a link points at is not written to."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def files_below(path):
    """The files in a directory and in those in it, not in what links point at."""
    for entry in path.iterdir():
        if entry.is_dir() and not is_link(entry):
            yield from files_below(entry)
        else:
            yield entry


def remove(path):
    """Removes a file or a directory, not what a link points at."""
    if path.is_dir() and not is_link(path):
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
        with open(temporary, "wb", opener=no_follow) as file:
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
    """`write_bytes` of text as UTF-8; what of a file's name is none is written as an escape."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path, value):
    """`write_bytes` of JSON; arrays' scalars become numbers, and NaN and infinities null."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value):
    """`value` in JSON's own types: no NaN, no infinity, no NumPy scalar, no path, no half of a surrogate pair."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    return str(value).encode(errors="backslashreplace").decode()


# ---- read back

def shown(value, most=200):
    """Text of others (a file's name, a value in a file) for a terminal or a log: one line, of at most `most`
    characters; control and bidirectional characters and lone surrogates are escaped."""
    text = str(value)
    text = text if len(text) <= most else text[:most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def read_bytes(path, most=LARGEST):
    """A file's content; raises BadInput unless it is a regular file (or a link to one) of at most `most` bytes that can
    be read."""
    path = place(path)
    try:
        if local(path):
            found = path.stat()  # of a pipe or a device the opening alone would wait
            if not stat.S_ISREG(found.st_mode):
                what = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
                raise BadInput(f"{shown(path)}: {what}, but a file is wanted")
            if found.st_size > most:
                raise BadInput(f"{shown(path)}: {found.st_size:,} bytes, but at most {most:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be read: {error.strerror or 'no such file'}") from None
    except ValueError:  # a name with a NUL
        raise BadInput(f"{shown(path)}: no name of a file") from None


def read_text(path, most=LARGEST):
    """A file's content as text, without a byte order mark; raises BadInput where `read_bytes` does, or with the place
    of the first byte that is not UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)}: not UTF-8 at byte {error.start}") from None


def read_json(path, kind, fix=""):
    """A JSON file's content as the pydantic-checkable type `kind`, such as a strict `TypedDict`.

    Args:
      path: the file.
      kind: what its content has to be.
      fix: what the person at the terminal may do where it is not.
    Raises BadInput, one line with the file, the key in it, the value and the fix.
    """
    return checked(path, read_text(path), kind, fix)


def read_json_lines(path, kind, fix=""):
    """The lines of a JSON-lines file, each as `kind`; what follows the last line's end, which a crash cut short, is
    left out. Raises BadInput as `read_json` does, with the line's number."""
    return [checked(f"{path}: line {number}", line, kind, fix)
            for number, line in enumerate(read_text(path).split("\n")[:-1], 1)]


def read_toml(path, kind, fix=""):
    """A TOML file's content as `kind`; raises BadInput as `read_json` does."""
    try:
        values = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(path)}: not TOML: {shown(error)}{_then(fix)}") from None
    return checked(path, values, kind, fix)


def checked(where, content, kind, fix=""):
    """JSON text, or a value already read, as the type `kind`; raises BadInput that names `where`, the key, the fix."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_json(content) if isinstance(content, str) else adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = shown(".".join(map(str, first["loc"])))
        value = "" if isinstance(first["input"], dict | list) or key == "" else f" = {shown(first['input'], 60)}"
        place_in = f'key "{key}"{value}: ' if key else ""
        raise BadInput(f"{shown(where)}: {place_in}{shown(first['msg'])}{_then(fix)}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(where)}: {shown(error)}{_then(fix)}") from None


def _then(fix):
    return f"; {fix}" if fix else ""
