"""`csv:FILE`: a table, separated by commas as RFC 4180 says, or where its name ends in .tsv by tabs, in UTF-8 with or
without a byte order mark, with a header unless `data.header` says otherwise."""

import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from twinscale.common.data.cache import stamp
from twinscale.common.data.parts import column_number, in_parts, parts_of
from twinscale.common.data.paths import is_file, read_utf8
from twinscale.common.data.pictures import Picture, read, stamped
from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.sources import Data, Labelled, Source

TABLES = (".csv", ".tsv", ".tab")
csv.field_size_limit(sys.maxsize)  # a document is as long as it is


def path_of(argument: str) -> Path:
    """The table's path; BadInput where it is no file."""
    path = Path(os.path.expanduser(argument))
    if not is_file(path, "give the path of a file"):
        raise BadInput(f"{shown(path)} is a folder: give the path of a file")
    return path


def rows(data: Data, path: Path, *columns: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Iterator of (place, the texts of `columns`) of each row; `place` names file and line.

    Raises BadInput where a column is missing or there twice, and where a row is broken or has more or fewer fields.
    """
    tabs = path.suffix in (".tsv", ".tab")
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), strict=True, delimiter="\t" if tabs else ",",
                        quoting=csv.QUOTE_MINIMAL if data.quotes else csv.QUOTE_NONE)
    line, places, width = 1, [], 0
    try:
        if data.header:
            header = next(reader, [])
            places, width = [in_header(path, header, column, tabs) for column in columns], len(header)
            line = reader.line_num + 1
        for row in reader:
            place = f"{shown(path)}:{line}"
            line = reader.line_num + 1
            if not row:
                continue
            if not width:
                width = len(row)
                places = [by_number(place, column, width) for column in columns]
            if len(row) != width:
                raise BadInput(f"{place}: {len(row)} fields, but the {'header' if data.header else 'first row'} has "
                               f"{width}: " + ("set data.quotes = false where quotation marks are text" if tabs else
                                               "put what has a comma or a line's end in quotes"))
            yield place, tuple(row[i] for i in places)
    except csv.Error as error:
        raise BadInput(f"{shown(path)}:{line}: is no CSV: {error}"
                       + ("; set data.quotes = false where quotation marks are text" if data.quotes else "")) from None


def in_header(path: Path, header: Sequence[str], column: str, tabs: bool) -> int:
    """The index of a column by its name. Raises BadInput where it is missing or there twice."""
    if header.count(column) > 1:
        raise BadInput(f'{shown(path)}:1: the column "{shown(column)}" is there twice: rename one')
    if column not in header:
        hint = f", and separate columns by {'tabs' if tabs else 'commas'}" if len(header) == 1 else ""
        raise BadInput(f'{shown(path)}:1: no column "{shown(column)}" among "{shown(", ".join(header))}": set '
                       f"data.field or data.label{hint}; or data.header = false where the first line is a row")
    return header.index(column)


def by_number(place: str, column: str, width: int) -> int:
    """The index of a column of a table without a header: by its number, 1 the first and -1 the last. The text is in the
    first unless said, the label in the last. Raises BadInput where it has no such column."""
    index = column_number(column, {"text": 0, "path": 0, "label": width - 1}, "data.field or data.label")
    if not -width <= index < width:
        raise BadInput(f"{place}: {width} fields, and no column {shown(column)}: set data.field or data.label")
    return index % width


def documents(data: Data, argument: str) -> Iterator[tuple[str, str]]:
    """Iterator of (name, text) of the column `data.field`."""
    path = path_of(argument)
    for place, (text,) in rows(data, path, data.field):
        yield f"{path.name}:{place.rpartition(':')[2]}", text


def labelled_pictures(data: Data, argument: str) -> list[Picture]:
    """[(place, path, label)] of the pictures that a table names, their paths relative to it."""
    path = path_of(argument)
    column = "path" if data.field == "text" else data.field
    found = []
    for place, (name, label) in rows(data, path, column, data.label):
        if not name or not label:
            raise BadInput(f'{place}: its {"label" if name else "path"} is empty: fill it in, or drop the row')
        picture = path.parent / os.path.expanduser(name)
        if "\0" in name or not is_file(picture, "correct the path", f"{place}: "):
            raise BadInput(f"{place}: {shown(name)} is no picture's file: correct the path")
        found.append((place, picture, label))
    return found


def labelled(data: Data, argument: str) -> Labelled:
    """The texts and labels of a table, or of those of a folder that are to train on and to hold out.

    Raises BadInput where a text or a label is empty, and as `rows` does.
    """
    def read(path):
        return [(place, *row) for place, row in rows(data, path, data.field, data.label,
                                                                 *filter(None, [data.field_2]))]

    return in_parts(data, parts_of(Path(os.path.expanduser(argument)), TABLES), read)


def files_of(argument: str) -> list[Path]:
    """The table's path, or those of a folder's tables to train on and to hold out."""
    path = Path(os.path.expanduser(argument))
    return [*parts_of(path, TABLES).values()] if path.is_dir() else [path_of(argument)]


CSV = Source("either", lambda data, file: stamp(files_of(file)), documents,
             images=lambda data, file: read(data, labelled_pictures(data, file)), labelled=labelled,
             more=lambda data, file: stamped(data, labelled_pictures(data, file)),
             file_of=lambda name: name.rpartition(":")[0])
