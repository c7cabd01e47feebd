"""A text source tokenised once: a stream of ids for each split, memory-mapped from shards of bounded size.

A stream is the documents of the split in the source's order, each followed by the end id.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from typing_extensions import TypedDict

from common.data.cache import cache_dir, cached, key
from common.data.sources import documents, fingerprint
from common.data.split import SPLITS, check_sides, side
from common.data.tokenizers import open_tokenizer
from common.errors import BadInput
from common.files import checked, read_text, shown
from common.kinds import STRICT, Count, Sha256
from common.output import counted

__all__ = ["Tokens", "cache_dir", "open_shards"]

SHARD_BYTES = 64 << 20


class Shard(TypedDict):
    __pydantic_config__ = STRICT
    file: str
    tokens: Count
    sha256: Sha256


class Split(TypedDict):
    __pydantic_config__ = STRICT
    longest: Count
    sha256: Sha256
    shards: list[Shard]


class Manifest(TypedDict):
    """What is read of a manifest."""

    __pydantic_config__ = STRICT
    dtype: str
    train: Split
    held_out: Split


@dataclass(frozen=True)
class Tokens:
    """The stream of one split; every shard but the last has the first one's length."""

    shards: tuple  # of uint16 or uint32 arrays, shape (tokens,)

    def __len__(self):
        return sum(map(len, self.shards))

    def gather(self, offsets):
        """The tokens at `offsets` (int64, any shape, each below len), in the shards' dtype."""
        if len(self.shards) == 1:
            return self.shards[0][offsets]
        number, inner = np.divmod(offsets, len(self.shards[0]))
        tokens = np.empty(offsets.shape, self.shards[0].dtype)
        for i in np.unique(number):
            tokens[number == i] = self.shards[i][inner[number == i]]
        return tokens


def open_shards(data):
    """(manifest, tokenizer, {split: Tokens}) of a text source, tokenised now unless the cache has it.

    Raises BadInput for a source that cannot be read, holds no text, or leaves a split empty.
    """
    library = version("tokenizers") if data.tokenizer == "bpe" else None
    parts = data.source, data.field, data.tokenizer, data.vocabulary, data.held_out, data.max_documents, SHARD_BYTES
    manifest, tokens = cached(f"tokens-{key(1, parts, library, fingerprint(data))}", lambda aside: build(data, aside),
                              read_folder)
    return manifest, tokenizer_of(data, manifest), tokens


def read_folder(folder):
    """(manifest, {split: Tokens}) of a folder that `build` has filled; ValueError or BadInput where it is none."""
    file = folder / "manifest.json"
    checked(file, text := read_text(file), Manifest)
    manifest = json.loads(text)
    return manifest, {split: Tokens(tuple(
        read_shard(folder, shard, manifest["dtype"]) for shard in manifest[split]["shards"])) for split in SPLITS}


def read_shard(folder, shard, dtype):
    """The ids of a shard, memory-mapped, once they are as many as the manifest says."""
    name = shard["file"]
    if name != os.path.basename(name):
        raise ValueError(f"{shown(name)} lies in another folder")
    ids = np.asarray(np.load(folder / name, mmap_mode="r"))
    if ids.shape != (shard["tokens"],) or ids.dtype.name != dtype:
        raise ValueError(f"{shown(name)} holds {ids.dtype} {ids.shape}, not {dtype} ({shard['tokens']},)")
    return ids


def tokenizer_of(data, manifest):
    return open_tokenizer(data, manifest["train"]["sha256"], lambda: texts(data, "train"))


def texts(data, split):
    """The texts of one split."""
    return (text for _, text in documents(data) if side(text.encode(), data.held_out) == split)


def build(data, folder):
    """Writes the shards of both splits and `manifest.json` into `folder`."""
    manifest = survey(data)
    tokenizer = tokenizer_of(data, manifest)
    dtype = np.min_scalar_type(tokenizer.vocabulary - 1)
    manifest["tokenizer"] = {"kind": data.tokenizer, "vocabulary": tokenizer.vocabulary, "sha256": tokenizer.hash}
    manifest["dtype"] = dtype.name
    for split in SPLITS:
        encoded = (tokenizer.encode(text) for text in texts(data, split))
        encoded = counted(encoded, manifest[split]["documents"], "documents are tokenised")
        manifest[split] |= write(folder, split, encoded, tokenizer.end, dtype)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def survey(data):
    """Counts and hashes of the documents: SHA-256 over a line `name sha256` for each, of all and of each split."""
    whole, hashes = hashlib.sha256(), {split: hashlib.sha256() for split in SPLITS}
    counts = {split: {"documents": 0, "bytes": 0} for split in SPLITS}
    for name, text in documents(data):
        content = text.encode()
        split = side(content, data.held_out)
        line = f"{name} {hashlib.sha256(content).hexdigest()}\n".encode(errors="surrogateescape")
        whole.update(line)
        hashes[split].update(line)
        counts[split]["documents"] += 1
        counts[split]["bytes"] += len(content)
    documents_of = {split: counts[split]["documents"] for split in SPLITS}
    if not any(documents_of.values()):
        raise BadInput(f'data.source="{data.source}" holds no text: every document is empty')
    check_sides(data, documents_of, "documents")
    return {"source": data.source, "sha256": whole.hexdigest()} | {
        split: counts[split] | {"sha256": hashes[split].hexdigest()} for split in SPLITS}


def write(folder, split, encoded, end, dtype):
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
