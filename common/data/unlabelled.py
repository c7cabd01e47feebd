"""Text without labels as rows of word pieces, of which a part is hidden to be predicted: `ids`, `mask` and `types`
int32 (rows, sequence), `labels` the ids, and `weights` 1 where a piece may be hidden.

A document's pieces fill one row after another, and its last row is padded; with `data.cross_documents` documents follow
each other in a row, [SEP] between them. With `data.next_sentence` a row is two halves that follow each other, and
`labels` and `weights` are (rows,). What is made is cached; what is hidden or swapped is decided in each step anew.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.data.cache import cached, key, stamp
from twinscale.common.data.labelled import Given, opened_key
from twinscale.common.data.quality.verdicts import chosen_by, documents, in_full, told_of
from twinscale.common.data.sources import fingerprint
from twinscale.common.data.split import SPLITS, check_sides, side
from twinscale.common.data.tokenizers import pieces as parts_of
from twinscale.common.data.word_pieces import WordPieces, learnt, of_file, opened, path_of
from twinscale.common.errors import BadInput
from twinscale.common.files.access import read_json
from twinscale.common.files.tensors import load_array
from twinscale.common.registry import portable
from twinscale.common.sources import Data, own_values

READ = ("field", "header", "quotes", "vocabulary", "sequence", "cross_documents", "held_out", "max_documents",
        "next_sentence")
TOGETHER = 256  # documents that are tokenised at a time
TOLD, TOKENIZER = "told.json", "tokenizer.json"


def rows_of(data: Data, kept: bytes | None = None) -> Given:
    """The Given of a source of text, by the tokenizer whose file's content (bytes) is `kept`, else by the recipe's own.

    Raises BadInput where the source cannot be read, a side of the split is empty, or the tokenizer has no mask.
    """
    path = None if kept else path_of(data)
    by = opened_key(kept) if kept else stamp([path]) if path else version("tokenizers")
    parts = (portable(data.source), fingerprint(data), by, *own_values(data),
             data.model_dump(mode="json", include=set(READ)), *chosen_by(data))

    def build(folder):
        content = kept or (of_file(path) if path else None) or learnt(
            [text for text, out in sided(in_full(data)) if not out], data.vocabulary)
        found, told = made(data, opened(content, f"data.tokenizer: {data.tokenizer}"))
        for name, x in found.items():
            np.save(folder / f"{name}.npy", x)
        (folder / TOKENIZER).write_bytes(content)
        (folder / TOLD).write_text(json.dumps(told | told_of(data)))

    return cached(f"unlabelled-{key(1, *parts)}", build, read_folder)


def read_folder(folder: Path) -> Given:
    """The Given of a folder that `rows_of` has filled; ValueError where it is none."""
    ids, special, types, held_out = (np.asarray(load_array(folder / f"{name}.npy"))
                                     for name in ("ids", "special", "types", "held_out"))
    if ids.ndim != 2 or held_out.shape != ids.shape[:1] or special.shape != ids.shape or held_out.dtype != bool:
        raise ValueError(f"it holds ids {ids.shape}, special {special.shape} and held_out {held_out.shape}")
    mask = (special < 2).astype(np.int32)
    found, told = {"ids": ids, "mask": mask, "types": types}, read_json(folder / TOLD, dict[str, Any])
    found |= {"labels": ids, "weights": (special == 0).astype(np.float32)} if "labels" not in told else {
        "labels": np.zeros(len(ids), np.int32), "weights": np.ones(len(ids), np.float32)}
    return Given(found, held_out, told, folder / TOKENIZER)


def sided(data: Data) -> Iterator[tuple[str, bool]]:
    """(text, whether it is held out) of each document."""
    return ((text, side(text.encode(), data.held_out) == "held_out") for _, text in documents(data))


def made(data: Data, pieces: WordPieces) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """({"ids", "types", "held_out", "special": uint8 (rows, sequence), 0 of a text's piece, 1 of one around it, 2 of
    padding}, what is told of them)."""
    special = sum(map(len, pieces.pair[:3] if data.next_sentence else (pieces.before, pieces.after)))
    room = (pieces.halves(data.sequence)[0] * 2) if data.next_sentence else data.sequence - special
    if room < 1:
        raise BadInput(f"data.sequence={data.sequence}: leaves no room beside {special} special pieces: take more")
    if pieces.mask < 0 and not data.next_sentence:
        raise BadInput(f"data.tokenizer: {data.tokenizer}: has no piece [MASK] or <mask>, which data.masked shows: "
                       'take another, or set "wordpiece"')
    rows: dict[bool, list[np.ndarray]] = {False: [], True: []}
    across, shortest = data.cross_documents and not data.next_sentence, room // 2 if data.next_sentence else 0
    counts, content = dict.fromkeys(SPLITS, 0), hashlib.sha256()
    left: dict[bool, np.ndarray] = {out: np.empty(0, np.int32) for out in rows}
    for ids, text, out in encoded(data, pieces):
        counts[SPLITS[out]] += 1
        content.update(hashlib.sha256(text.encode()).digest())
        if across and len(left[out]):
            ids = np.concatenate([left[out], np.array(pieces.after[:1], np.int32), ids])
        whole = len(ids) // room * room if across else len(ids)
        rows[out] += [ids[i:i + room] for i in range(0, whole, room) if len(ids[i:i + room]) > shortest]
        left[out] = ids[whole:] if across else ids[:0]
    check_sides(data, counts, "documents")
    for out, rest in left.items():
        rows[out] += [rest] if len(rest) else []
    told = {"tokenizer": {"kind": "pieces", "vocabulary": pieces.vocabulary, "sha256": opened_key(pieces.content)},
            "documents": counts, "pieces": {SPLITS[out]: sum(map(len, found)) for out, found in rows.items()},
            "text_sha256": content.hexdigest()} | ({"labels": ["next", "another"]} if data.next_sentence else {})
    held_out = np.repeat([False, True], [len(found) for found in rows.values()])
    lay = laid_in_halves if data.next_sentence else laid
    return lay(pieces, [*rows[False], *rows[True]], data.sequence) | {"held_out": held_out}, told


def encoded(data: Data, pieces: WordPieces) -> Iterator[tuple[np.ndarray, str, bool]]:
    """(ids int32, text, whether it is held out) of each document that has a piece."""
    for some in batched(sided(data)):
        parts = [parts_of(text) for text, _ in some]
        found = iter(pieces.model.encode_batch([part for own in parts for part in own], add_special_tokens=False))
        for (text, out), own in zip(some, parts, strict=True):
            ids = [np.array(next(found).ids, np.int32) for _ in own]
            if sum(map(len, ids)):
                yield np.concatenate(ids), text, out


def batched(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Lists of TOGETHER items, and the last of fewer."""
    items = iter(items)
    while some := list(itertools.islice(items, TOGETHER)):
        yield some


def laid(pieces: WordPieces, rows: list[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """{"ids", "special", "types"} of rows that fit, with what stands around each."""
    before, after = len(pieces.before), len(pieces.after)
    ids, special = np.full((len(rows), length), pieces.pad, np.int32), np.full((len(rows), length), 2, np.uint8)
    ids[:, :before], special[:, :before] = pieces.before, 1
    for number, row in enumerate(rows):
        end = before + len(row)
        ids[number, before:end], special[number, before:end] = row, 0
        ids[number, end:end + after], special[number, end:end + after] = pieces.after, 1
    special[(special == 0) & np.isin(ids, pieces.after)] = 1  # between documents: no text is encoded to such
    return {"ids": ids, "special": special, "types": np.zeros_like(ids)}


def laid_in_halves(pieces: WordPieces, rows: list[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """`laid` of rows that are longer than a half, each as two texts of which the first is a whole half."""
    before, between, after, kind = pieces.pair
    half, second = pieces.halves(length)
    ids, special = np.full((len(rows), length), pieces.pad, np.int32), np.full((len(rows), length), 2, np.uint8)
    types = np.zeros_like(ids)
    for number, row in enumerate(rows):
        whole = [*before, *row[:half], *between, *row[half:], *after]
        ids[number, :len(whole)], special[number, :len(whole)], types[number, second:len(whole)] = whole, 0, kind
    return {"ids": ids, "special": special, "types": types}
