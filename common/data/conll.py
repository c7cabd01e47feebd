"""`conll:PATH`: column files with a word a line and a tag of an entity in one of its columns, sentences parted by blank
lines, as the shared tasks of CoNLL have them; PATH is a file, or a folder with files to train on and to hold out.

Whatever way the files write entities, rows have IOB2: `B-` begins one, `I-` continues it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinscale.common.data.cache import stamp
from twinscale.common.data.parts import column_number, parts_of
from twinscale.common.data.paths import read_utf8
from twinscale.common.errors import BadInput, one_of
from twinscale.common.files.access import shown
from twinscale.common.sources import Data, Labelled, Source

TAG = re.compile(r"O|[BIES]-\S.*")
STARTS = {"IOB1": "BI", "IOB2": "B", "BIOES": "BS"}  # prefixes that may stand where an entity begins


@dataclass
class Sentence:
    """A sentence and its tags as written, and the line of each word."""

    path: Path
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def sentences(data: Data, path: Path) -> Iterator[Sentence]:
    """The sentences of a file; -DOCSTART- and comments are left out.

    Raises BadInput, with the line, where one has another number of columns than those before it, or a tag is none.
    """
    word = column_number(data.field, {"text": 0}, "data.field")
    tag = column_number(data.label, {"label": -1}, "data.label")
    current, width, first = Sentence(path), 0, 0
    for number, line in enumerate([*read_utf8(path).split("\n"), ""], 1):
        fields = line.split("\t") if "\t" in line.strip() else line.split()
        if not line.strip() or fields[0] == "-DOCSTART-":
            if current.words:
                yield current
                current = Sentence(path)
            continue
        if is_comment(data, line, fields, tag, current):
            continue
        place = f"{shown(path)}:{number}"
        width, first = width or len(fields), first or number
        if len(fields) != width:
            raise BadInput(f"{place}: {len(fields)} columns, but line {first} has {width}: a word and its tags stand "
                           "on a line, sentences are parted by blank ones")
        if not (-width <= word < width and -width <= tag < width) or word % width == tag % width:
            raise BadInput(f"{place}: {width} columns, and data.field and data.label want two of others: number them")
        found = fields[tag].strip()
        if not fields[word].strip() or not found or data.tags != "plain" and not TAG.fullmatch(found):
            raise BadInput(f'{place}: "{shown(found)}" is no tag of an entity: write O, or B-, I-, E-, S- and a type; '
                           'set data.label to the column of the tags, or data.tags = "plain" where each is a class'
                           if fields[word].strip() and found else f"{place}: a word or a tag is empty: fill it in")
        current.words.append(fields[word].strip())
        current.tags.append(found)
        current.lines.append(number)


def is_comment(data: Data, line: str, fields: Sequence[str], tag: int, current: Sentence) -> bool:
    """Whether a line is a comment, and not the word #: before a sentence, and where the tag would stand is none; of
    plain tags it has no tab."""
    if current.words or not line.startswith("#") or data.tags == "plain":
        return not current.words and line.startswith("#") and "\t" not in line.strip()
    return not -len(fields) <= tag < len(fields) or len(fields) < 2 or not TAG.fullmatch(fields[tag].strip())


def continues(tag: str, before: str) -> bool:
    """Whether a tag goes on with the entity of the tag before it, as seqeval reads them."""
    return tag[0] in "IE" and before[0] in "BI" and tag[1:] == before[1:]


def scheme_of(tags: Sequence[Sequence[str]]) -> str:
    """Which way of writing entities a file's tags are of: BIOES where any entity is marked at its end; IOB1 where `B-`
    only parts an entity from one of its type before it, and `I-` begins others; else IOB2."""
    if any(tag[0] in "ES" for row in tags for tag in row):
        return "BIOES"
    needless = free = 0
    for row in tags:
        for before, tag in zip(["O", *row], row, strict=False):
            same = before[0] != "O" and before[1:] == tag[1:]
            needless += tag[0] == "B" and not same
            free += tag[0] == "I" and not same
    return "IOB1" if free and not needless else "IOB2"


def in_iob2(tags: Sequence[str], scheme: str) -> tuple[list[str], list[int]]:
    """(the tags in IOB2, the numbers of those that continue nothing and so begin an entity, as seqeval has it)."""
    starts, made, repaired, before = one_of(STARTS, scheme, "data.tags"), [], [], "O"
    for number, tag in enumerate(tags):
        if tag == "O":
            made.append(tag)
        elif continues(tag, before):
            made.append(f"I{tag[1:]}")
        else:
            made.append(f"B{tag[1:]}")
            if tag[0] not in starts:
                repaired.append(number)
        before = tag
    return made, repaired


def labelled(data: Data, argument: str) -> Labelled:
    """The sentences of a file, or of the parts of a folder, with tags in IOB2.

    Raises BadInput where a file cannot be read, has no sentence, or has a line that is none.
    """
    files = parts_of(Path(os.path.expanduser(argument)))
    found, sides = [], []
    for part, path in files.items():
        own = list(sentences(data, path))
        if not own:
            raise BadInput(f"{shown(path)}: has no sentence: a word and its tag stand on a line")
        own = own[:data.max_documents or None]
        found += own
        sides += [part == "held_out"] * len(own)
    told: dict[str, Any] = {}
    tags = [sentence.tags for sentence in found]
    if data.tags != "plain":
        scheme = data.tags or scheme_of(tags)
        read = [in_iob2(row, scheme) for row in tags]
        tags, told = [row for row, _ in read], {"tags": scheme}
        odd = [f"{shown(sentence.path.name)}:{sentence.lines[i]}"
               for sentence, (_, repaired) in zip(found, read, strict=True) for i in repaired]
        if odd:
            told |= {"repaired": len(odd), "repaired_first": odd[0]}
    return Labelled([s.words for s in found], tags, [f"{shown(s.path)}:{s.lines[0]}" for s in found],
                    sides if "held_out" in files else None, data.tags != "plain", told)


CONLL = Source("labelled", lambda data, argument: stamp(parts_of(Path(os.path.expanduser(argument))).values()),
               labelled=labelled)
