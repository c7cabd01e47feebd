"""Files and directories: a path local or in a bucket; contents that are written whole or not at all, and that are
read only from regular files and only as what they should be; and text of others, shown so that no terminal obeys it.
"""

import codecs
import functools
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.common.errors import BadInput, MissingEnvironment

if TYPE_CHECKING:
    from pydantic import TypeAdapter

ODD = frozenset("[]*?\\")
HALF = re.compile(r"\.(?P<name>.+)\.[0-9]+\.tmp")  # what `write_bytes` calls a file until it is whole
LARGEST, LARGEST_TOML = 1 << 28, 1 << 20  # bytes of a file that is read as text or JSON, and as TOML
# A key of so many parts, none of ours has ten: Python's reader takes seconds for 20,000, and hours for a million.
MANY_DOTS = re.compile(r"""(?<![\w.-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""")
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": 'text in quotes, "..."',
    "tuple_type": "a list in brackets, [...]",
    "list_type": "a list in brackets, [...]",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table of keys",
    "date_type": "a day, 2026-01-31",
    "finite_number": "a finite number",
    "greater_than": "a value above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a value below {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length} entries",
    "string_pattern_mismatch": "text of the form {pattern}",
    "literal_error": "{expected}",
}


def place(path: str | os.PathLike) -> Path:
    """A pathlib path, or for `gs://` and its like one of etils.epath."""
    if "://" not in str(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


def at_home(path: str | os.PathLike, variable: str) -> Path:
    """A path whose ~ is the home directory. Raises MissingEnvironment, with the environment's `variable` that says
    another place, where nobody has one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise MissingEnvironment(f"{path}: there is no home directory here: set {variable} to a folder") from None


def local(path: str | os.PathLike) -> bool:
    """Whether a path is of this machine's file system, not of a bucket."""
    return isinstance(path, Path) and "://" not in str(path)


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link of this machine."""
    return local(path) and path.is_symlink()


def is_odd(path: str | os.PathLike) -> bool:
    """Whether a local path, made absolute, is one that TensorFlow or TensorStore read as another or not at all: they
    take brackets, stars and question marks for a pattern and a backslash for "/", and want UTF-8."""
    name = os.path.realpath(path) if local(path) else ""
    return not ODD.isdisjoint(name) or any("\ud800" <= c <= "\udfff" for c in name)


def no_follow(path: str, flags: int, mode: int = 0o666) -> int:
    """For `open(..., opener=no_follow)`: what a link points at is not written to."""
    return os.open(path, flags | os.O_NOFOLLOW, mode)


def files_below(path: Path) -> Iterator[Path]:
    """The files in a directory and in those in it, not in what links point at."""
    for entry in path.iterdir():
        if entry.is_dir() and not is_link(entry):
            yield from files_below(entry)
        else:
            yield entry


def remove(path: Path) -> None:
    """Removes a file or a directory, not what a link points at."""
    if path.is_dir() and not is_link(path):
        for entry in path.iterdir():
            remove(entry)
        path.rmdir()
    else:
        path.unlink()


# ---- written whole or not at all

def write_bytes(path: str | os.PathLike, content: bytes | Iterable[bytes | memoryview], mode: int = 0o666) -> None:
    """Replaces a file in one step: a reader, or a crash, finds the old content or the new. Makes its directory.
    `content`: whole, or piece by piece. `mode`: who may do what with it, but for what the process's umask takes
    away."""
    path, pieces = place(path), [content] if isinstance(content, bytes) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    if not local(path):  # object stores show an object only once it is whole
        path.write_bytes(b"".join(pieces))
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=functools.partial(no_follow, mode=mode)) as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno:
            error.filename = str(path)  # which writing itself does not say
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """`write_bytes` of text as UTF-8; what of a file's name is none is written as an escape."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | os.PathLike, value: Any) -> None:
    """`write_bytes` of JSON; arrays' scalars become numbers, and NaN and infinities null."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """`value` in JSON's own types: no NaN, no infinity, no NumPy scalar, no path, and of a file's name that is not
    UTF-8 an escaped form, since few readers take JSON with half a character in it."""
    if hasattr(value, "keys"):  # a dict, or a result
        return {plain(str(key)): plain(value[key]) for key in value.keys()}  # noqa: SIM118
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    return str(value).encode(errors="backslashreplace").decode()


# ---- shown

def escaped(text: str) -> str:
    """Text in which control and bidirectional characters, line ends among them, and lone surrogates are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def escaped_lines(text: Any) -> str:
    """Text whose lines are `escaped` each, for a terminal or a log; their ends stay."""
    return "\n".join(map(escaped, str(text).split("\n")))


def shown(value: Any, most: int = 1000) -> str:
    """Text of others (a file's name, a value in a file) for a line on a terminal or in a log: `escaped`, and no more
    than the first `most` characters of it."""
    try:
        text = str(value)
    except ValueError:  # Python's own bound on the digits of an integer
        text = f"an integer of {value.bit_length()} bits"
    return escaped(text if len(text) <= most else text[:most - 3] + "...")


def quoted(value: Any, most: int = 60) -> str:
    """A value of a file as the file has it: text in quotes, tables and lists by their names."""
    if isinstance(value, dict | list | tuple):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return shown(json.dumps(value[:most], ensure_ascii=False) + "..." * (len(value) > most), 8 * most)
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else (
        shown(value, most))


def dotted(place: Sequence[str | int]) -> str:
    """The tuple of keys as one would write it, `data.augment[0]`, safe on a terminal."""
    text = "".join(f"[{key}]" if isinstance(key, int) else "." + json.dumps(key[:60])[1:-1] for key in place)
    return escaped(text.removeprefix("."))  # of what JSON leaves as it is


# ---- read back

def exists(path: str | os.PathLike) -> bool:
    """Whether there is anything at a path; at one that no file can have there is nothing."""
    try:
        return place(path).exists()
    except (OSError, ValueError):
        return False


def check_regular(path: str | os.PathLike) -> None:
    """Raises BadInput unless a path is a regular file, or a link to one: from a pipe or a device reading may never
    return."""
    path = place(path)
    try:
        if local(path) and not stat.S_ISREG(found := path.stat().st_mode):
            what = "a directory" if stat.S_ISDIR(found) else "a pipe, a socket or a device"
            raise BadInput(f"{shown(path)}: {what}, but a file is wanted")
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be read: {error.strerror or 'no such file'}") from None
    except ValueError:  # a name with a NUL
        raise BadInput(f"{shown(path)}: no name of a file") from None


def read_bytes(path: str | os.PathLike, most: int | None = LARGEST) -> bytes:
    """A file's content; raises BadInput unless it is a regular file (or a link to one) of at most `most` bytes that can
    be read."""
    path = place(path)
    check_regular(path)
    try:
        with path.open("rb") as file:
            content = file.read() if most is None else file.read(most + 1)
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be read: {error.strerror or error}") from None
    if most is not None and len(content) > most:
        raise BadInput(f"{shown(path)}: larger than {most:,} bytes, which is the most that is read")
    return content


def read_text(path: str | os.PathLike, most: int | None = LARGEST) -> str:
    """A file's content as text, without a byte order mark; raises BadInput where `read_bytes` does, or with the place
    of the first byte that is not UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_json(path: str | os.PathLike, kind: Any, fix: str = "") -> Any:
    """A JSON file's content as the pydantic-checkable type `kind`, such as a strict `TypedDict`.

    Args:
      path: the file.
      kind: what its content has to be.
      fix: what the person at the terminal may do where it is not.
    Raises BadInput, one line with the file, the key in it, the value and the fix.
    """
    return checked(path, read_bytes(path), kind, fix)


def read_json_lines(path: str | os.PathLike, kind: Any, fix: str = "") -> list:
    """The lines of a JSON-lines file, each as `kind`; what follows the last line's end, which a crash cut short, is
    left out. Raises BadInput as `read_json` does, with the line's number."""
    lines = read_bytes(path).removeprefix(codecs.BOM_UTF8).split(b"\n")[:-1]
    return [checked(path, line, kind, fix, f"line {number}") for number, line in enumerate(lines, 1)]


def read_toml(path: str | os.PathLike, kind: Any, fix: str = "") -> Any:
    """A TOML file's content as `kind`; raises BadInput as `read_json` does."""
    text = read_text(path, LARGEST_TOML)
    try:
        values = parse_toml(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(path)}: {toml_problem(error)}{_then(fix)}") from None
    return checked(path, values, kind, fix)


def parse_toml(text: str) -> dict[str, Any]:
    """The values in TOML text; raises ValueError or RecursionError, which `toml_problem` puts into words."""
    if MANY_DOTS.search(text):
        raise RecursionError
    return tomllib.loads(text)


def toml_problem(error: Exception) -> str:
    """What is wrong with TOML text, by what `parse_toml` has raised."""
    if isinstance(error, RecursionError):
        return "brackets or keys nested too deeply"
    if not isinstance(error, tomllib.TOMLDecodeError):  # Python's own bound on the digits of an integer
        return "holds an integer of thousands of digits"
    twice = " (is the key or table there twice?)" * str(error).startswith(("Cannot overwrite", "Cannot declare"))
    return f"not TOML: {shown(error)}{twice}"


def checked(where: Any, content: Any, kind: Any, fix: str = "", within: str = "") -> Any:
    """JSON as bytes, or a value already read, as the type `kind`; raises BadInput that names `where` it is from, the
    place `within`, the key and the fix."""
    from pydantic import ValidationError

    try:
        if not isinstance(content, bytes):
            return adapter(kind).validate_python(content)
        return adapter(kind).validate_json(content.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        problem = _problem(error.errors(include_url=False)[0], content)
    except RecursionError:
        problem = "is nested too deeply"
    inside = within + (" " if problem.startswith("is ") else ": ") if within else ""
    raise BadInput(f"{shown(where)}: {inside}{problem}{_then(fix)}") from None


@functools.cache
def adapter(kind: Any) -> "TypeAdapter":
    """pydantic's TypeAdapter of a type, made once."""
    from pydantic import TypeAdapter  # takes a while, and --help needs none

    return TypeAdapter(kind)


def _problem(error, content):
    """One of pydantic's errors in words: the key, its value, and what was expected."""
    kind, place = error["type"], dotted(error["loc"])
    if kind == "json_invalid":
        return f"is not JSON: {error['ctx']['error']}" if content.strip() else "is empty"
    if kind == "missing":
        return f"{place}: missing"
    said = f"{place} = {quoted(error['input'])}: " if place else ""
    if kind == "value_error":
        return f"{said}{error['ctx']['error']}"
    return f"{said}expected {expected(error)}"


def expected(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says was expected, in words."""
    if error["type"] not in EXPECTED:
        return escaped(error["msg"]).removeprefix("Input should be ")
    context = {name: f"{x:g}" if isinstance(x, float) else x for name, x in error.get("ctx", {}).items()}
    return EXPECTED[error["type"]].format(**context)


def _then(fix):
    return f"; {fix}" if fix else ""
