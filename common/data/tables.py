"""`csv:FILE`: a table with a header, comma-separated as RFC 4180 says, in UTF-8 with or without a byte order mark."""

import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from twinscale.common.data.cache import stamp
from twinscale.common.data.paths import is_file, read_utf8
from twinscale.common.data.pictures import Picture, read, stamped
from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.sources import Data, Source

csv.field_size_limit(sys.maxsize)  # a document is as long as it is


def path_of(argument: str) -> Path:
    """The table's path; BadInput where it is no file."""
    path = Path(os.path.expanduser(argument))
    if not is_file(path, "give the path of a file"):
        raise BadInput(f"{shown(path)} is a folder: give the path of a file")
    return path


def rows(path: Path, *columns: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Iterator of (place, the texts of `columns`) of each row; `place` names file and line.

    Raises BadInput where a column is missing or there twice, and where a row is broken or has more or fewer fields.
    """
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), strict=True)
    line = 1
    try:
        header = next(reader, [])
        for column in columns:
            if header.count(column) > 1:
                raise BadInput(f'{shown(path)}:1: the column "{shown(column)}" is there twice: rename one')
            if column not in header:
                hint = ", and separate columns by commas" if len(header) == 1 else ""
                raise BadInput(f'{shown(path)}:1: no column "{shown(column)}" among "{shown(", ".join(header))}": set '
                               f"data.field or data.label{hint}")
        places = [header.index(column) for column in columns]
        line = reader.line_num + 1
        for row in reader:
            place = f"{shown(path)}:{line}"
            line = reader.line_num + 1
            if not row:
                continue
            if len(row) != len(header):
                raise BadInput(f"{place}: {len(row)} fields, but the header has {len(header)}: put what has a comma or "
                               "a line's end in quotes")
            yield place, tuple(row[i] for i in places)
    except csv.Error as error:
        raise BadInput(f"{shown(path)}:{line}: is no CSV: {error}") from None


def documents(argument: str, field: str) -> Iterator[tuple[str, str]]:
    """Iterator of (name, text) of the column `field`."""
    path = path_of(argument)
    for place, (text,) in rows(path, field):
        yield f"{path.name}:{place.rpartition(':')[2]}", text


def labelled(data: Data, argument: str) -> list[Picture]:
    """[(place, path, label)] of the pictures that a table names, their paths relative to it."""
    path = path_of(argument)
    column = "path" if data.field == "text" else data.field
    found = []
    for place, (name, label) in rows(path, column, data.label):
        if not name or not label:
            raise BadInput(f'{place}: its {"label" if name else "path"} is empty: fill it in, or drop the row')
        picture = path.parent / os.path.expanduser(name)
        if "\0" in name or not is_file(picture, "correct the path", f"{place}: "):
            raise BadInput(f"{place}: {shown(name)} is no picture's file: correct the path")
        found.append((place, picture, label))
    return found


CSV = Source("either", lambda data, file: stamp([path_of(file)]), lambda data, file: documents(file, data.field),
             images=lambda data, file: read(data, labelled(data, file)),
             more=lambda data, file: stamped(data, labelled(data, file)), file_of=lambda name: name.rpartition(":")[0])
