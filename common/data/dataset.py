"""One door to the data of a recipe: examples by number, to train on and held out, and a manifest of what they are."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from twinscale.common.data.arrays import Rows, given, row_bytes, sha256_of, with_labels
from twinscale.common.data.class_weights import weighted
from twinscale.common.data.masking import Drawn
from twinscale.common.data.packing import Packed
from twinscale.common.data.shards import open_shards
from twinscale.common.data.sources import images, kind
from twinscale.common.data.split import SPLITS, check_sides, side
from twinscale.common.data.standard import Standard, standard_of, told
from twinscale.common.data.word_pieces import opened as pieces_in
from twinscale.common.errors import BadInput, one_of
from twinscale.common.families import family_of
from twinscale.common.files.access import read_bytes
from twinscale.common.objectives import described
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import portable, short
from twinscale.common.sources import Data, as_written, holds_for, opened


class Examples(Protocol):
    """The examples of one split, by number."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays (B, ...) of the examples `indices` (integers, shape (B,))."""


@dataclass(frozen=True)
class Dataset:
    """All examples of a recipe's data, and what they are."""

    kind: str  # "text", "images" or "arrays"
    classes: int  # entries of the vocabulary, or classes of images or arrays; 0 of arrays whose labels are none
    example_shape: tuple  # (T,) or (H, W, C); of arrays (name, shape of a row, dtype) of each, labels and weights too
    train: Examples
    held_out: Examples
    token_bytes: np.ndarray | None  # int32 (classes,): bytes of text that each id stands for; None for images
    manifest: dict[str, Any]  # JSON-able: source, counts and hashes
    tokenizer: Path | None = None  # the file that describes the tokenizer, where it has one
    files: Path | None = None  # a line "DIGEST NAME" for each file of a source of text
    drawn: Drawn | None = None  # of word pieces, what shared bits change
    standard: Standard | None = None  # of images, what a model's are standardised by; `take` gives them from 0 to 1


def open_dataset(recipe: Recipe, tokenizer: bytes | None = None) -> Dataset:
    """The Dataset of a `common.recipe.schema.Recipe`; a first reading of text is tokenised into the cache, by the
    `tokenizer` whose file's content (bytes) is given, else by the recipe's own.

    Raises BadInput, with one line, for data that is missing, broken, of the wrong kind for the model or too small.
    """
    data, batch = recipe.data, recipe.train.global_batch
    wanted = family_of(recipe.model).reads
    if not holds_for(opened(data)[0], wanted, data.unlabelled):
        raise BadInput(f'{as_written(data)} holds {kind(data)}, but '
                       f'model.family="{short(recipe.model.family)}" reads {wanted}: change one of them')
    dataset = one_of({"text": lambda: open_text(data, tokenizer), "images": lambda: open_images(data),
                      "arrays": lambda: open_arrays(recipe, tokenizer)}, wanted, "reads")()
    if len(dataset.train) < batch:
        raise BadInput(f"train.global_batch={batch} is more than the {len(dataset.train)} training examples of "
                       f'{as_written(data)}: lower it, or give more data')
    for split in SPLITS:
        dataset.manifest[split]["examples"] = len(getattr(dataset, split))
    return weighted(recipe, dataset)


def open_text(data: Data, kept: bytes | None = None) -> Dataset:
    """A Dataset of packed tokens, by the tokenizer that is `kept` (bytes) or the recipe's own."""
    manifest, tokenizer, tokens, files = open_shards(data, kept)
    longest = max(manifest[split]["longest"] for split in SPLITS)
    if data.sequence > longest and not data.cross_documents:
        raise BadInput(f"data.sequence={data.sequence} is longer than the longest document of "
                       f'{as_written(data)}: take at most {longest} tokens')
    train, held_out = (Packed(tokens[split], data.sequence, tokenizer.end, data.cross_documents, split == "held_out")
                       for split in SPLITS)
    return Dataset("text", tokenizer.vocabulary, (data.sequence,), train, held_out, tokenizer.token_bytes, manifest,
                   tokenizer.file, files)


@dataclass(frozen=True)
class Images:
    """The images that are numbered `members` (int64) in the source."""

    images: np.ndarray  # uint8 NxHxWxC
    labels: np.ndarray  # int32 (N,)
    members: np.ndarray

    def __len__(self) -> int:
        return len(self.members)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """inputs float32 in [0, 1] (B, H, W, C), labels int32 (B,) and weights float32 (B,) of ones."""
        member = self.members[indices]
        inputs = self.images[member].astype(np.float32) / np.float32(255)
        return {"inputs": inputs, "labels": self.labels[member], "weights": np.ones(len(member), np.float32)}


def open_images(data: Data) -> Dataset:
    """A Dataset of labelled images."""
    pixels, labels, classes, names, held_out = images(data)
    sides = np.array([side(image.tobytes(), data.held_out) for image in pixels]) if held_out is None else np.where(
        held_out, "held_out", "train")
    parts = {split: Images(pixels, labels, np.flatnonzero(sides == split)) for split in SPLITS}
    check_sides(data, {split: len(part) for split, part in parts.items()}, "images")
    content = hashlib.sha256(np.ascontiguousarray(pixels))  # type: ignore[arg-type]  # it is a buffer
    content.update(np.ascontiguousarray(labels))  # type: ignore[arg-type]  # so is this
    if held_out is not None:
        content.update(held_out.tobytes())
    manifest = {"source": portable(data.source), "sha256": content.hexdigest(), "classes": classes}
    if names:
        manifest["labels"] = names
    manifest |= {split: {"bytes": pixels[0].nbytes * len(part)} for split, part in parts.items()}
    if standard := standard_of(data, pixels, parts["train"].members):
        manifest["standardise"] = told(standard)
    return Dataset("images", classes, pixels.shape[1:], parts["train"], parts["held_out"], None, manifest,
                   standard=standard)


def open_arrays(recipe: Recipe, kept: bytes | None = None) -> Dataset:
    """A Dataset of rows of named arrays, with labels for the objective, which the model's family can read; of labelled
    text by the tokenizer that is `kept` (bytes) or the recipe's own."""
    data, objective, check = recipe.data, described(recipe), family_of(recipe.model).check
    source = given(data, objective, kept)
    found, classes = with_labels(source.arrays, objective, as_written(data))
    if check:
        check(recipe.model, found, objective, as_written(data))
    names = source.told.get("labels", [])
    sides = np.array([side(row_bytes(found, row), data.held_out) for row in range(len(found["labels"]))]
                     if source.held_out is None else np.where(source.held_out, "held_out", "train"))
    parts = {split: Rows(found, np.flatnonzero(sides == split)) for split in SPLITS}
    check_sides(data, {split: len(part) for split, part in parts.items()}, "rows")
    shapes = tuple((name, x.shape[1:], x.dtype.name) for name, x in sorted(found.items()))
    size = sum(x[:1].nbytes for x in found.values())
    split_of = {} if source.held_out is None else {"held_out": source.held_out}
    classes = len(names) or classes
    manifest = {"source": portable(data.source), "sha256": sha256_of(found | split_of), "classes": classes,
                "arrays": {name: f"{dtype} {list(shape)}" for name, shape, dtype in shapes}, **source.told,
                **{split: {"bytes": size * len(part)} for split, part in parts.items()}}
    if "labels" in source.arrays and not objective.labels:
        manifest["unread"] = ["labels"]
    return Dataset("arrays", classes, shapes, parts["train"], parts["held_out"], None, manifest, source.tokenizer,
                   drawn=drawn_of(data, source.tokenizer))


def drawn_of(data: Data, tokenizer: Path | None) -> Drawn | None:
    """What shared bits change of rows of a tokenizer's pieces; None where nothing is to be. Raises BadInput where rows
    have no pieces, or the tokenizer none that hides another."""
    if not (data.unlabelled or data.augment):
        return None
    if tokenizer is None:
        raise BadInput(f"data.augment: {as_written(data)} has no text of word pieces: leave it out")
    pieces = pieces_in(read_bytes(tokenizer), "data.tokenizer")
    table = pieces.table()
    if "span-mask" in data.augment and table.mask < 0:
        raise BadInput(f"data.tokenizer: {data.tokenizer}: has no piece [MASK] or <mask>, which span-mask shows: take "
                       "another, or leave it out of data.augment")
    return Drawn(table, data, pieces.halves(data.sequence)[1])
