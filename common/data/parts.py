"""The parts of a data set that its files are: what to train on, what to hold out, and what is left for a test."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinscale.common.data.paths import is_file
from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.sources import Data, Labelled

PARTS = {"train": ("train",), "held_out": ("valid", "validation", "dev", "testa", "val"), "test": ("test", "testb")}


def parts_of(path: Path, endings: Sequence[str] = ()) -> dict[str, Path]:
    """{"train": file, and where there is one "held_out": file} of a folder, by the words of the files' names, such as
    train.txt and valid.txt or eng.train and eng.testa; {"train": path} of a file. `endings`: of names, "" any.

    Raises BadInput where a folder has no file to train on, or two of a part.
    """
    if is_file(path, "give the path of a file or a folder", "data.source: "):
        return {"train": path}
    found, names = all_parts(path, endings)
    if "train" not in found:
        raise BadInput(f"data.source: {shown(path)} is a folder: give the path of a file, or name those in it train, "
                       f"valid and test: there {'is' if len(names) == 1 else 'are'} "
                       f"{shown(', '.join(names[:8])) or 'none'}")
    return {part: found[part] for part in ("train", "held_out") if part in found}


def file_for_test(path: Path) -> Path:
    """The file for a test in a folder. Raises BadInput where there is none."""
    if is_file(path, "give the path of a folder", "data.source: "):
        raise BadInput(f"--on test: data.source is the file {shown(path)}: give the path of one for a test")
    found, names = all_parts(path, ())
    if "test" not in found:
        raise BadInput(f"--on test: {shown(path)} has no file for a test: name one {', '.join(PARTS['test'])}, or give "
                       f"its path: there {'is' if len(names) == 1 else 'are'} {shown(', '.join(names[:8])) or 'none'}")
    return found["test"]


def all_parts(path: Path, endings: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """({part: file} of PARTS, the names) of a folder. Raises BadInput where two files are of a part."""
    found: dict[str, Path] = {}
    names = sorted(name for name in os.listdir(path) if name.endswith(tuple(endings) or "") and name[0] != ".")
    for name in names:
        words = re.split(r"[^a-z]+", name.lower())
        part = next((part for part, known in PARTS.items() if set(known) & set(words)), None)
        if part in found:
            raise BadInput(f"data.source: {shown(path)}: {shown(found[part].name)} and {shown(name)} are both the part "
                           f'"{part}": take one away, or give a file')
        if part and is_file(path / name, "take it away", "data.source: "):
            found[part] = path / name
    return found, names


def column_number(text: str, unset: Mapping[str, int], key: str) -> int:
    """The index of the column that a key names by its number, 1 the first and -1 the last, or of a text that stands for
    one where nothing is said. Raises BadInput where it is none."""
    if text in unset:
        return unset[text]
    if not re.fullmatch(r"-?[1-9][0-9]{0,5}", text):
        raise BadInput(f'{key}="{shown(text)}": of columns without names, write a number: 1 is the first, -1 the last')
    number = int(text)
    return number - 1 if number > 0 else number


def in_parts(data: Data, files: Mapping[str, Any], read: Callable[[Any], list[tuple[str, ...]]]) -> Labelled:
    """The Labelled of what `read` finds in the file, or files, of each part, as (place, text, label), or of pairs
    (place, text, label, second text). Raises BadInput where a text or a label is empty."""
    found, sides = [], []
    for part, path in files.items():
        own = list(read(path))[:data.max_documents or None]
        for place, text, label, *second in own:
            if not all(map(str.strip, (text, label, *second))):
                empty = "text" if not text.strip() else "second text" if label.strip() else "label"
                raise BadInput(f"{place}: its {empty} is empty: fill it in, or drop the row")
        found += own
        sides += [part == "held_out"] * len(own)
    places, texts, labels, *seconds = zip(*found, strict=True) if found else ((), (), ())
    return Labelled(texts, [label.strip() for label in labels], places, sides if "held_out" in files else None,
                    seconds=next(iter(seconds), None))
