"""Labelled text as arrays: `ids`, `mask` and `types` int32 (rows, sequence) of word pieces; of a label a row, `labels`
(rows,), and of a tag a word, `labels` and `weights` (rows, sequence), where the first piece of a word has its tag and
weight 1, and all others have neither.

What is made is cached, with what is to be said of it: how many rows were cut, and what of them.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twinscale.common.data.cache import cached, key, stamp
from twinscale.common.data.quality.verdicts import chosen_by, of_rows, remark
from twinscale.common.data.rewriting import rewritten
from twinscale.common.data.sources import fingerprint
from twinscale.common.data.split import side
from twinscale.common.data.word_pieces import WordPieces, learnt, of_file, opened, path_of
from twinscale.common.errors import BadInput
from twinscale.common.files.access import read_json, shown
from twinscale.common.files.tensors import load_array
from twinscale.common.registry import portable
from twinscale.common.sources import Data, Labelled, as_written, own_values
from twinscale.common.sources import opened as source_of_data

if TYPE_CHECKING:
    from twinscale.common.objectives import Objective

ARRAYS = ("ids", "mask", "types", "labels", "weights")
READ = ("field", "field_2", "label", "header", "quotes", "labels", "tags", "vocabulary", "sequence", "held_out",
        "max_documents")
LONGEST = 80  # characters of a label
TOLD, TOKENIZER = "told.json", "tokenizer.json"


class Given(NamedTuple):
    """What a source of arrays gives."""

    arrays: Mapping[str, np.ndarray]
    held_out: np.ndarray | None = None  # bool (rows,); None where a row's content decides it
    told: Mapping[str, Any] = {}  # what else a manifest says, such as "labels", their names
    tokenizer: Path | None = None


def pieces_of(data: Data, objective: "Objective", kept: bytes | None = None) -> Given:
    """The Given of a source of labelled text, by the tokenizer whose file's content (bytes) is `kept`, else by the
    recipe's own.

    Raises BadInput where the source cannot be read, a label is missing or none of the known ones, or no row is left.
    """
    path = None if kept else path_of(data)
    by = opened_key(kept) if kept else stamp([path]) if path else version("tokenizers")
    parts = (portable(data.source), fingerprint(data), by, bool(objective.judged), *own_values(data),
             data.model_dump(mode="json", include=set(READ)), *filter(None, [portable(data.rewrite)]),
             *chosen_by(data))

    def build(folder):
        found, held_out, told, content = made(data, objective, kept or (of_file(path) if path else None))
        for name, x in found.items():
            np.save(folder / f"{name}.npy", x)
        np.save(folder / "held_out.npy", held_out)
        (folder / TOKENIZER).write_bytes(content)
        (folder / TOLD).write_text(json.dumps(told))

    return cached(f"pieces-{key(1, *parts)}", build, read_folder)


def opened_key(content: bytes) -> str:
    """What a tokenizer's content is known by: its own SHA-256."""
    import hashlib

    return hashlib.sha256(content).hexdigest()


def read_folder(folder: Path) -> Given:
    """The Given of a folder that `pieces_of` has filled; ValueError where it is none."""
    found = {name: np.asarray(load_array(folder / f"{name}.npy")) for name in ARRAYS}
    held_out = np.asarray(load_array(folder / "held_out.npy"))
    if held_out.dtype != bool or {len(x) for x in found.values()} != {len(held_out)}:
        raise ValueError(f"it holds {held_out.dtype} {held_out.shape} of {[len(x) for x in found.values()]} rows")
    return Given(found, held_out, read_json(folder / TOLD, dict[str, Any]), folder / TOKENIZER)


def made(data: Data, objective: "Objective", content: bytes | None
         ) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any], bytes]:
    """(arrays, which rows are held out, what is told of them, the tokenizer's content) of a source, anew."""
    source, argument = source_of_data(data)
    found: Labelled = source.labelled(data, argument)
    if not len(found.texts):
        raise BadInput(f"{as_written(data)}: has no row: give texts with labels")
    if data.field_2 and found.seconds is None:
        raise BadInput(f'data.field_2="{shown(data.field_2)}": {as_written(data)} has one text a row: leave it out')
    texts = as_texts(found)
    held_out = sides_of(data, found, texts)
    found, held_out, chosen, learnable = of_rows(data, found, texts, held_out)
    before = len(found.texts)
    found, held_out, written = rewritten(data, found, held_out)
    texts = as_texts(found)
    content = content or learnt([*learnable, *texts[before:]], data.vocabulary)
    pieces = opened(content, f"data.tokenizer: {data.tokenizer}")
    tagged = not isinstance(found.texts[0], str)
    special = sum(map(len, pieces.pair[:3] if found.seconds else (pieces.before, pieces.after)))
    if data.sequence < special + 1 + bool(found.seconds):
        raise BadInput(f"data.sequence={data.sequence}: leaves no room beside {special} special pieces: take more")
    names, known = values_of(data, objective, found, tagged)
    told = dict(found.told) | ({"labels": names} if names else {})
    told["tokenizer"] = {"kind": "pieces", "vocabulary": pieces.vocabulary, "sha256": opened_key(content)}
    lay = tags_laid if tagged else pairs_laid if found.seconds else texts_laid
    arrays, cut = lay(pieces, found, known, data.sequence)
    shared = {text for text, out in zip(texts, held_out, strict=True) if out} & {
        text for text, out in zip(texts, held_out, strict=True) if not out}
    told |= chosen | written | cut | ({"shared": len(shared)} if shared else {}) | unseen(names, known, held_out)
    return arrays, held_out, told, content


def sides_of(data: Data, found: Labelled, texts: Sequence[str]) -> np.ndarray:
    """Which rows are held out, bool (rows,): as the source says, else by what their `texts` are."""
    return np.array([side(text.encode(), data.held_out) == "held_out" for text in texts]
                    if found.held_out is None else found.held_out, bool)


def as_texts(found: Labelled) -> list[str]:
    """The text of each row, words parted by spaces and the texts of a pair by a line's end."""
    texts = [text if isinstance(text, str) else " ".join(text) for text in found.texts]
    return [*map("\n".join, zip(texts, found.seconds, strict=True))] if found.seconds else texts


# ---- labels

def values_of(data: Data, objective: "Objective", found: Labelled, tagged: bool
              ) -> tuple[list[str], list[Any]]:
    """(names of the classes, none of numbers; of each row its label, int or float, or those of its words)."""
    if objective.judged:
        if tagged:
            raise BadInput(f'{as_written(data)}: has tags, which are classes: objective "{objective.title}" reads '
                           'numbers: set objective.name = "cross-entropy"')
        return [], [number(label, place) for label, place in zip(found.labels, found.places, strict=True)]
    names = names_of(data, found, tagged)
    if odd := [name for name in names if len(name) > LONGEST or not name.isprintable() or names.count(name) > 1]:
        raise BadInput(f'{as_written(data)}: the label "{shown(odd[0], 60)}" ' + (
            "is there twice: name it once in data.labels" if names.count(odd[0]) > 1 else
            f"is no name, a line of {LONGEST} characters at most: set data.label to the column of classes"))
    index = {name: i for i, name in enumerate(names)}
    rows = found.labels if tagged else [[label] for label in found.labels]
    for row, place in zip(rows, found.places, strict=True):
        for label in row:
            if label not in index:
                near = ", ".join(data.labels[:8])
                raise BadInput(f'{place}: "{shown(label)}" is none of data.labels: correct it, or add it to '
                               f"{shown(near)}")
    known = [[index[label] for label in row] for row in rows]
    return names, known if tagged else [row[0] for row in known]


def names_of(data: Data, found: Labelled, tagged: bool) -> list[str]:
    """The names of the classes, in order: `data.labels`, or those that are found, whole numbers by their size. Of
    entities O comes first, then B- and I- of each type, whatever of them is found."""
    labels = {label for row in found.labels for label in row} if tagged else set(found.labels)
    if found.entities:
        types = data.labels or sorted({label[2:] for label in labels if label != "O"})
        if not types:
            raise BadInput(f"{as_written(data)}: has no entity, but O alone: set data.label to the column of the tags")
        return ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]
    if data.labels:
        return list(data.labels)
    whole = all(label.removeprefix("-").isdecimal() for label in labels)
    names = sorted(labels, key=int) if whole else sorted(labels)
    if len(names) < 2 or not tagged and len(names) == len(found.labels) > 2:
        raise BadInput(f'{as_written(data)}: data.label="{shown(data.label)}": '
                       + (f'one label, "{shown(names[0])}", in all {len(found.labels):,} rows' if len(names) < 2 else
                          f"as many labels as rows, {len(names):,}")
                       + ': set data.label to the column of classes, or for numbers objective.name = "squared-error"')
    return names


def number(label: str, place: str) -> float:
    """A label as a number. Raises BadInput where it is none."""
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f'{place}: "{shown(label)}" is no number, which the objective reads: correct it, or set '
                       'objective.name = "cross-entropy" for classes')
    return value


def unseen(names: Sequence[str], known: Sequence[Any], held_out: np.ndarray) -> dict[str, list[str]]:
    """{"unseen": names that held-out rows have and no other}, where there are any."""
    if not names:
        return {}
    sides: tuple[set, set] = (set(), set())
    for label, out in zip(known, held_out, strict=True):
        sides[int(out)].update(label if isinstance(label, list) else [label])
    only = sorted(sides[True] - sides[False])
    return {"unseen": [names[i] for i in only]} if only else {}


# ---- rows

def laid(pieces: WordPieces, rows: Iterable[Sequence[int]], length: int) -> dict[str, np.ndarray]:
    """{"ids", "mask", "types"}: int32 (rows, length) of the ids of each row, cut to fit, with what stands around."""
    before, after, room = pieces.before, pieces.after, length - len(pieces.before) - len(pieces.after)
    whole = [[*before, *row[:room], *after] for row in rows]
    ids, mask = np.full((len(whole), length), pieces.pad, np.int32), np.zeros((len(whole), length), np.int32)
    for number, row in enumerate(whole):
        ids[number, :len(row)], mask[number, :len(row)] = row, 1
    return {"ids": ids, "mask": mask, "types": np.zeros_like(ids)}


def texts_laid(pieces: WordPieces, found: Labelled, known: Sequence[Any], length: int
               ) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """(arrays of a text and a label a row, how many rows were cut)."""
    rows, room = pieces.of_texts(found.texts), length - len(pieces.before) - len(pieces.after)
    labels = np.array(known, np.int32 if isinstance(known[0], int) else np.float32)
    arrays = laid(pieces, rows, length) | {"labels": labels, "weights": np.ones(len(rows), np.float32)}
    return arrays, counted(rows_cut=sum(len(row) > room for row in rows), longest=longest(pieces, rows))


def pairs_laid(pieces: WordPieces, found: Labelled, known: Sequence[Any], length: int
               ) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """(arrays of two texts and a label a row, how many rows were cut): the longer text is cut first, and the second of
    two that are as long (Devlin et al. 2019)."""
    before, between, after, kind = pieces.pair
    around = len(before) + len(between) + len(after)
    room, pairs = length - around, [*zip(pieces.of_texts(found.texts), pieces.of_texts(found.seconds or ()),
                                         strict=True)]
    ids, mask = np.full((len(pairs), length), pieces.pad, np.int32), np.zeros((len(pairs), length), np.int32)
    types = np.zeros_like(ids)
    for number, (first, second) in enumerate(pairs):
        first = first[:max(room - room // 2, room - len(second))]
        ahead = [*before, *first, *between]
        row = [*ahead, *second[:room - len(first)], *after]
        ids[number, :len(row)], mask[number, :len(row)], types[number, len(ahead):len(row)] = row, 1, kind
    labels = np.array(known, np.int32 if isinstance(known[0], int) else np.float32)
    sizes = [len(first) + len(second) for first, second in pairs]
    arrays = {"ids": ids, "mask": mask, "types": types, "labels": labels, "weights": np.ones(len(pairs), np.float32)}
    return arrays, counted(rows_cut=sum(size > room for size in sizes), longest=max(sizes) + around)


def tags_laid(pieces: WordPieces, found: Labelled, known: Sequence[Sequence[int]], length: int
              ) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """(arrays of words and a tag of each, how many rows were cut, and words and entities of them)."""
    words, start = pieces.of_words(found.texts), len(pieces.before)
    room = length - start - len(pieces.after)
    labels, weights = np.zeros((len(words), length), np.int32), np.zeros((len(words), length), np.float32)
    rows, words_cut, entities_cut = [], 0, 0
    for number, (row, tags, named) in enumerate(zip(words, known, found.labels, strict=True)):
        firsts = np.cumsum([0, *map(len, row[:-1])])
        fits = int((firsts < room).sum())
        labels[number, start + firsts[:fits]], weights[number, start + firsts[:fits]] = tags[:fits], 1
        words_cut += len(row) - fits
        if found.entities and fits < len(row):  # those that begin in what is cut, and one that goes on into it
            entities_cut += sum(tag[0] == "B" for tag in named[fits:]) + (named[fits][0] == "I")
        rows.append([i for word in row for i in word])
    arrays = laid(pieces, rows, length) | {"labels": labels, "weights": weights}
    return arrays, counted(rows_cut=sum(len(row) > room for row in rows), words_cut=words_cut,
                           entities_cut=entities_cut, longest=longest(pieces, rows))


def longest(pieces: WordPieces, rows: Iterable[Sequence[int]]) -> int:
    """Pieces of the longest row, with those around it: no less a `data.sequence` cuts none."""
    return max(map(len, rows)) + len(pieces.before) + len(pieces.after)


def counted(**counts: int) -> dict[str, int]:
    """The counts that are not 0."""
    return {name: int(count) for name, count in counts.items() if count}


# ---- what is said of it

def remarks(manifest: Mapping[str, Any]) -> list[str]:
    """Lines on what of labelled text was removed, cut, repaired or stands on both sides, by its manifest."""
    said, own = remark(manifest), {name: manifest.get(name, 0) for name in ("rows_cut", "words_cut", "entities_cut")}
    if own["rows_cut"]:
        lost = " and ".join(f"{own[name]:,} {what}" for name, what in (
            ("words_cut", "words"), ("entities_cut", "entities")) if own[name])
        said.append(f"{own['rows_cut']:,} rows are longer than data.sequence, and cut{f', {lost} of them' * bool(lost)}"
                    f": data.sequence={manifest['longest']} cuts none")
    if manifest.get("repaired"):
        said.append(f"{manifest['repaired']:,} tags continue no entity ({manifest['repaired_first']} is the first): "
                    "each begins one, as seqeval reads them")
    if "rewritten" in manifest:
        said.append(f"data.rewrite has added {manifest['rewritten']:,} texts to train on"
                    + (f", and left {manifest['unchanged']:,} as they were" if manifest.get("unchanged") else ""))
    if manifest.get("shared"):
        said.append(f"{manifest['shared']:,} held-out texts are among those to train on too")
    if manifest.get("unseen"):
        said.append(f"held-out texts alone have the label {shown(', '.join(manifest['unseen'][:8]))}: none trains it")
    return said
