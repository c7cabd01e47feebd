"""A text source tokenised once: a stream of ids for each split, memory-mapped from shards of bounded size.

A stream is the documents of the split in the source's order, each followed by the end id.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from typing_extensions import TypedDict

from twinscale.common.data.cache import cache_dir, cached, key, opened
from twinscale.common.data.quality.verdicts import chosen_by, documents, in_full, told_of
from twinscale.common.data.sources import file_of, fingerprint
from twinscale.common.data.split import SPLITS, check_sides, side
from twinscale.common.data.tokenizers import Tokenizer, kept_bpe, open_tokenizer
from twinscale.common.errors import BadInput
from twinscale.common.files.access import read_json, shown
from twinscale.common.files.kinds import STRICT, Count, Sha256
from twinscale.common.files.output import counted
from twinscale.common.files.tensors import load_array
from twinscale.common.registry import portable
from twinscale.common.sources import Data, as_written, own_values

__all__ = ["Tokens", "cache_dir", "open_shards"]

SHARD_BYTES = 64 << 20
FILES = "files.txt"


class Shard(TypedDict):
    """`file` lies beside the manifest; `sha256` (hex) is of the ids' bytes, which the file has after its header."""

    __pydantic_config__ = STRICT
    file: str
    tokens: Count
    sha256: Sha256


class Split(TypedDict):
    """`longest`: tokens of its longest document, without the end; `sha256` (hex): of its documents, whatever tokenizer
    has read them."""

    __pydantic_config__ = STRICT
    longest: Count
    sha256: Sha256
    shards: list[Shard]


class Made(TypedDict):
    """The tokenizer: its `Tokenizer.hash`, which a changed vocabulary or merge changes."""

    __pydantic_config__ = STRICT
    sha256: Sha256


class Manifest(TypedDict):
    """What is read of a manifest."""

    __pydantic_config__ = STRICT
    dtype: str
    tokenizer: Made
    train: Split
    held_out: Split
    learnt_from: NotRequired[Sha256]


@dataclass(frozen=True)
class Tokens:
    """The stream of one split; every shard but the last has the first one's length."""

    shards: tuple[np.ndarray, ...]  # of uint16 or uint32 arrays, shape (tokens,)

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def gather(self, offsets: np.ndarray) -> np.ndarray:
        """The tokens at `offsets` (int64, any shape, each below len), in the shards' dtype."""
        if len(self.shards) == 1:
            return self.shards[0][offsets]
        number, inner = np.divmod(offsets, len(self.shards[0]))
        tokens = np.empty(offsets.shape, self.shards[0].dtype)
        for i in np.unique(number):
            tokens[number == i] = self.shards[i][inner[number == i]]
        return tokens


    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The `length` tokens from each of `starts` (int64, (B,)) on, (B, length) in the shards' dtype; the last token
        again where the stream has ended."""
        number, inner = np.divmod(starts, len(self.shards[0]))
        lengths = np.array([len(shard) for shard in self.shards])
        whole = inner + length <= lengths[number]
        found = np.empty((len(starts), length), self.shards[0].dtype)
        for i in np.unique(number[whole]):  # rows are copied as they lie, and not looked up token by token
            here = whole & (number == i)
            found[here] = sliding_window_view(self.shards[i], length)[inner[here]]
        across = ~whole
        if across.any():
            found[across] = self.gather(np.minimum(starts[across, None] + np.arange(length), len(self) - 1))
        return found


def open_shards(data: Data, kept: bytes | None = None) -> tuple[dict[str, Any], Tokenizer, dict[str, Tokens], Path]:
    """(manifest, tokenizer, {split: Tokens}, the file of its files' digests) of a text source, tokenised now unless the
    cache has it; by the tokenizer whose file's content is `kept` (bytes), else by one trained on the source.

    Raises BadInput for a source that cannot be read, holds no text, or leaves a split empty.
    """
    library = version("tokenizers") if data.tokenizer == "bpe" else None
    parts = (portable(data.source), data.field, data.tokenizer, data.vocabulary, data.held_out, data.max_documents,
             SHARD_BYTES, *own_values(data), *chosen_by(data))
    seen, by = fingerprint(data), hashlib.sha256(kept).hexdigest() if kept else library
    if kept and tokenizer_in(cache_dir() / named(parts, library, seen)) == by:
        by = library
    manifest, tokens, files = cached(named(parts, by, seen), lambda aside: build(data, aside, kept), read_folder)
    return manifest, tokenizer_of(data, manifest, kept), tokens, files


def named(parts: tuple, by: str | None, seen: Any) -> str:
    """The cache's folder of what a tokenizer, `by` its library or its file's SHA-256, has made of a source."""
    return f"tokens-{key(2, parts, by, seen)}"


def tokenizer_in(folder: Path) -> str | None:
    """The SHA-256 of the tokenizer that made a folder of the cache, None where it is not whole."""
    found, wrong = opened(folder, read_folder)
    return None if wrong else found[0]["tokenizer"]["sha256"]


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tokens], Path]:
    """(manifest, {split: Tokens}, path of the files' digests) of a folder that `build` has filled; ValueError or
    BadInput where it is none."""
    manifest = read_json(folder / "manifest.json", Manifest)
    return manifest, {split: Tokens(tuple(read_shard(folder, shard, manifest["dtype"])
                                          for shard in manifest[split]["shards"])) for split in SPLITS}, folder / FILES


def read_shard(folder: Path, shard: Shard, dtype: str) -> np.ndarray:
    """The ids of a shard, memory-mapped, once they are as many as the manifest says."""
    name = shard["file"]
    if name != os.path.basename(name):
        raise ValueError(f"{shown(name)} lies in another folder")
    ids = load_array(folder / name)
    if ids.shape != (shard["tokens"],) or ids.dtype.name != dtype:
        raise ValueError(f"{shown(name)} holds {ids.dtype} {ids.shape}, not {dtype} ({shard['tokens']},)")
    return ids


def tokenizer_of(data: Data, manifest: Mapping[str, Any], kept: bytes | None = None) -> Tokenizer:
    """The one whose file's content is `kept`, else the recipe's own, which is learnt from the train split alone, unless
    the cache has one of that split's hash; of a subset, from all that it is one of."""
    return kept_bpe(kept, data.vocabulary) if kept else open_tokenizer(
        data, manifest.get("learnt_from", manifest["train"]["sha256"]), lambda: texts(in_full(data), "train"))


def texts(data: Data, split: str) -> Iterator[str]:
    """The texts of one split."""
    return (text for _, text in documents(data) if side(text.encode(), data.held_out) == split)


def build(data: Data, folder: Path, kept: bytes | None = None) -> None:
    """Writes the shards of both splits, `manifest.json` and the digests of the source's files into `folder`."""
    manifest, files = survey(data)
    manifest |= told_of(data)
    if data != in_full(data) and data.tokenizer == "bpe":
        manifest["learnt_from"] = survey(in_full(data))[0]["train"]["sha256"]
    tokenizer = tokenizer_of(data, manifest, kept)
    lines = [f"{digest.hexdigest()[:16]} {name}\n" for name, digest in sorted(files.items())]
    (folder / FILES).write_text("".join(lines), "utf-8", "surrogateescape")
    dtype = np.min_scalar_type(tokenizer.vocabulary - 1)
    manifest["tokenizer"] = {"kind": data.tokenizer, "vocabulary": tokenizer.vocabulary, "sha256": tokenizer.hash}
    manifest["dtype"] = dtype.name
    for split in SPLITS:
        encoded = (tokenizer.encode(text) for text in texts(data, split))
        encoded = counted(encoded, manifest[split]["documents"], "documents are tokenised")
        manifest[split] |= write(folder, split, encoded, tokenizer.end, dtype)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def survey(data: Data) -> tuple[dict[str, Any], "dict[str, hashlib._Hash]"]:
    """Counts and hashes of the documents, SHA-256 over a line `name sha256` for each, of all and of each split; and
    {name: the same of the documents in it} of each file."""
    whole, hashes = hashlib.sha256(), {split: hashlib.sha256() for split in SPLITS}
    counts, files = {split: {"documents": 0, "bytes": 0} for split in SPLITS}, {}
    for name, text in documents(data):
        content = text.encode()
        split = side(content, data.held_out)
        line = f"{name} {hashlib.sha256(content).hexdigest()}\n".encode(errors="surrogateescape")
        whole.update(line)
        hashes[split].update(line)
        files.setdefault(file_of(data, name), hashlib.sha256()).update(line)
        counts[split]["documents"] += 1
        counts[split]["bytes"] += len(content)
    documents_of = {split: counts[split]["documents"] for split in SPLITS}
    if not any(documents_of.values()):
        raise BadInput(f'{as_written(data)} holds no text: every document is empty')
    check_sides(data, documents_of, "documents")
    return {"source": portable(data.source), "sha256": whole.hexdigest()} | {
        split: counts[split] | {"sha256": hashes[split].hexdigest()} for split in SPLITS}, files


def write(folder: Path, split: str, encoded: Iterable[np.ndarray], end: int, dtype: np.dtype) -> dict[str, Any]:
    """Writes the stream of `encoded` documents (arrays of ids) as shards; returns their entries of the manifest."""
    buffer, filled, longest, shards = np.empty(SHARD_BYTES // dtype.itemsize, dtype), 0, 0, []

    def flush():
        name = f"{split}-{len(shards):05}.npy"
        np.save(folder / name, buffer[:filled])
        shards.append({"file": name, "tokens": filled, "sha256": hashlib.sha256(buffer[:filled]).hexdigest()})

    for ids in encoded:
        longest = max(longest, len(ids))
        ids = np.append(ids, end).astype(dtype)
        while len(ids):
            taken = ids[: len(buffer) - filled]
            buffer[filled : filled + len(taken)] = taken
            filled, ids = filled + len(taken), ids[len(taken) :]
            if filled == len(buffer):
                flush()
                filled = 0
    if filled:
        flush()
    return {"tokens": sum(shard["tokens"] for shard in shards), "longest": longest, "shards": shards}
