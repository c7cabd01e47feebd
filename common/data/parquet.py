"""`parquet:GLOB`: columns of Apache Parquet with a text and a label a row, of all files that match, or of a folder with
a file for each part. pyarrow reads them."""

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twinscale.common.data.cache import stamp
from twinscale.common.data.parts import in_parts, parts_of
from twinscale.common.data.text_files import Documents, matched
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import shown
from twinscale.common.sources import Data, Labelled, Source

TOGETHER = 4096  # rows that are read at a time


def files_of(data: Data, argument: str) -> dict[str, list[Path]]:
    """{part: the files with its rows} of a pattern, or of a folder with a file for each part."""
    folder = Path(os.path.expanduser(argument))
    if not folder.is_dir():
        return {"train": matched(data, argument, "parquet")}
    return {part: [path] for part, path in parts_of(folder, (".parquet",)).items()}


def rows(path: Path, *columns: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Iterator of (place, the values of `columns`) of each row; a place is "FILE, row N", the first row 1.

    Raises BadInput where the file is none of Parquet or has no such column, MissingEnvironment without pyarrow.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingEnvironment("data.source: a parquet source needs the package pyarrow: install it, as "
                                 "`pip install twinscale[parquet]` does") from None
    number = 0
    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if names.count(column) != 1:
                    raise BadInput(f'{shown(path)}: {names.count(column) or "no"} columns "{shown(column)}" among '
                                   f'"{shown(", ".join(names))}": set data.field or data.label')
            for some in file.iter_batches(TOGETHER, columns=list(columns)):
                for values in zip(*(some.column(column).to_pylist() for column in columns), strict=True):
                    number += 1
                    yield f"{shown(path)}, row {number}", values
    except (ArrowException, OSError) as error:
        raise BadInput(f"{shown(path)}: cannot be read as Parquet behind row {number} "
                       f"({shown(str(error).splitlines()[0], 120)}): write it again") from None


def text_of(value: Any, place: str, key: str, column: str) -> str:
    """A value that is a text; BadInput where it is none."""
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise BadInput(f'{place}: has no text under {key}="{shown(column)}" (but {kind}): repair the row, or set {key}')
    return value


def label_of(value: Any, place: str, column: str) -> str:
    """A label, which may be a text, a truth or a number, as JSON writes it. Raises BadInput where it is none."""
    if not isinstance(value, str | int | float):
        kind = "null" if value is None else type(value).__name__
        raise BadInput(f'{place}: has no label under data.label="{shown(column)}" (but {kind}): repair the row, or set '
                       "data.label")
    return value if isinstance(value, str) else json.dumps(value)


def documents(data: Data, argument: str) -> Documents:
    """Iterator of (name, text) of the column `data.field`."""
    for path in matched(data, argument, "parquet"):
        for place, (value,) in rows(path, data.field):
            yield f"{path.name}:{place.rpartition(' ')[2]}", text_of(value, place, "data.field", data.field)


def labelled(data: Data, argument: str) -> Labelled:
    """The texts, or pairs of texts, and labels of all rows. Raises BadInput for a row without them."""
    def read(paths: Iterable[Path]) -> list[tuple[str, ...]]:
        asked = [data.field, data.label, *filter(None, [data.field_2])]
        return [(place, text_of(text, place, "data.field", data.field), label_of(label, place, data.label),
                 *(text_of(x, place, "data.field_2", data.field_2) for x in second))
                for path in paths for place, (text, label, *second) in rows(path, *asked)]

    return in_parts(data, files_of(data, argument), read)


PARQUET = Source("text", lambda data, argument: stamp(itertools.chain(*files_of(data, argument).values())), documents,
                 labelled=labelled, file_of=lambda name: name.rpartition(":")[0])
