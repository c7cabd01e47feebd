"""Text that lies in files: `stdlib`, `text:GLOB`, a document a file, and `jsonl:GLOB`, a document a line."""

import contextlib
import difflib
import itertools
import json
import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twinscale.common.data.cache import stamp
from twinscale.common.data.parts import in_parts, parts_of
from twinscale.common.data.paths import matching, read_utf8
from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.sources import Data, Labelled, Source

NEAR = 10_000  # names that a missing one is compared with
NO_SOURCE = {"site-packages", "dist-packages", "test", "tests", "idle_test"}

Documents = Iterator[tuple[str, str]]  # (name, text)


def matched(data: Data, pattern: str, ending: str) -> list[Path]:
    """The sorted paths of the files that a pattern means; BadInput where there is none."""
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(pattern):
        raise BadInput(f'data.source="{data.source}" is a folder: write "{data.source.rstrip("/")}/**/*.{ending}" for '
                       "the files in it")
    paths = sorted(map(Path, matching(pattern)))
    if not paths:
        raise BadInput(f'data.source="{data.source}" matches no file: {near(pattern)}')
    return paths


def near(pattern: str) -> str:
    """What one may have meant by a pattern that matches nothing."""
    folder, name = os.path.split(pattern)
    while folder and not os.path.isdir(folder) and not any(c in folder for c in "*?["):
        (folder, name), gone = os.path.split(folder), folder
        if folder == gone:
            break
    if not os.path.isdir(folder or "."):
        return "give the path, or a glob, of files that exist"
    guess = difflib.get_close_matches(name, itertools.islice(os.listdir(folder or "."), NEAR), n=1)
    if guess:
        return f'did you mean "{shown(os.path.join(folder, guess[0]))}"?'
    return "give the path, or a glob, of files that exist"


def python_files(root: str) -> Iterator[Path]:
    """The standard library's own modules: no tests, no installed packages."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NO_SOURCE]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def read_files(read: Callable[[Path, str, str], Documents], paths: Sequence[Path], field: str) -> Documents:
    """The documents that `read` finds in each path, named relative to the folder that all of them share."""
    root = os.path.commonpath([path.parent for path in paths])
    for path in paths:
        try:
            yield from read(path, path.relative_to(root).as_posix(), field)
        except OSError as error:
            raise BadInput(f"{shown(path)} cannot be read ({error.strerror}): narrow data.source") from None


def read_stdlib(path: Path, name: str, _: str) -> Documents:
    """A module as one document; one that is no UTF-8 (Python allows other encodings) is left out in silence."""
    with contextlib.suppress(UnicodeDecodeError):
        yield name, path.read_bytes().decode()


def read_text(path: Path, name: str, _: str) -> Documents:
    """A file as one document. Raises BadInput where it is no UTF-8."""
    yield name, read_utf8(path)


def read_jsonl(path: Path, name: str, field: str) -> Documents:
    """A document for each line that is not blank, the text under `field`, named "NAME:LINE", the first line 1. Raises
    BadInput for a line without it."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{name}:{number}", text_of(line, field, f"{shown(path)}:{number}")


def text_of(line: bytes, field: str, place: str, key: str = "data.field") -> str:
    """The text under `field` of one line of JSON; BadInput names the `place` and the recipe's `key`."""
    return record_of(line, field, place, key)[field]


def record_of(line: bytes, field: str, place: str, key: str = "data.field") -> dict[str, Any]:
    """One line of JSON, which has a text under `field`; BadInput names the `place` and the recipe's `key`."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place}: is no JSON in UTF-8 ({error}): write one JSON object a line") from None
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        if not isinstance(record, dict):
            have = f"it has {kind_of(record)}"
        elif field in record:
            have = f"it has {kind_of(record[field])} there"
        else:
            have = f"it has {shown(sorted(record))}"
        raise BadInput(f'{place}: has no text under {key}="{field}" ({have}): repair the line, or set {key}')
    try:
        record[field].encode()
    except UnicodeEncodeError as error:
        raise BadInput(f'{place}: character {error.start} of "{field}" is half a surrogate pair: repair it') from None
    return record


def labelled_lines(data: Data, argument: str) -> Labelled:
    """The texts and labels of the lines of all files that match, or of a folder's to train on and to hold out. Raises
    BadInput for a line without them."""
    return in_parts(data, lines_of(data, argument),
                    lambda paths: [row for path in paths for row in labelled_in(data, path)])


def lines_of(data: Data, argument: str) -> dict[str, list[Path]]:
    """{part: the files with its lines} of a pattern, or of a folder with a file for each part."""
    folder = Path(os.path.expanduser(argument))
    if not folder.is_dir():
        return {"train": matched(data, argument, "jsonl")}
    return {part: [path] for part, path in parts_of(folder, (".jsonl",)).items()}


def labelled_in(data: Data, path: Path) -> Iterator[tuple[str, ...]]:
    """(place, text, label), and of pairs the second text, of each line of a file that is not blank; numbers are labels
    as JSON writes them."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{shown(path)}:{number}"
            record = record_of(line, data.field, place)
            label = record.get(data.label)
            if not isinstance(label, str | int | float):
                raise BadInput(f'{place}: has no label under data.label="{data.label}" (but {kind_of(label)}): '
                               "repair the line, or set data.label")
            label = label if isinstance(label, str) else json.dumps(label)
            if label != label.encode(errors="replace").decode():
                raise BadInput(f'{place}: the label has half a surrogate pair: repair it')
            second = [text_of(line, data.field_2, place, "data.field_2")] if data.field_2 else []
            yield place, record[data.field], label, *second


def kind_of(value: Any) -> str:
    """The type of a value of JSON."""
    return "null" if value is None else type(value).__name__


def source(read: Callable[[Path, str, str], Documents], paths: Callable[[Data, str], Sequence[Path]],
           **more: Any) -> Source:
    """The Source of text that `read` finds in the files that `paths` gives."""
    return Source("text", lambda data, argument: stamp(paths(data, argument)),
                  lambda data, argument: read_files(read, paths(data, argument), data.field), **more)


STDLIB = source(read_stdlib, lambda data, argument: sorted(python_files(sysconfig.get_path("stdlib"))))
TEXT = source(read_text, lambda data, pattern: matched(data, pattern, "txt"))
JSONL = Source("text", lambda data, argument: stamp(itertools.chain(*lines_of(data, argument).values())),
               lambda data, argument: read_files(read_jsonl, matched(data, argument, "jsonl"), data.field),
               labelled=labelled_lines, file_of=lambda name: name.rpartition(":")[0])
