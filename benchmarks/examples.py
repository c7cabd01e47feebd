"""The held-out examples that either side is furthest off on, as a person sees them: text, words with tags, an image."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data.pixels import png_of
from twinscale.common.data.word_pieces import WordPieces, opened

if TYPE_CHECKING:
    from twinscale.common.data import Dataset

WORST = 12  # examples
CHARACTERS, SIDE = 600, 96  # of a text that is shown, pixels of an image


def worst(dataset: "Dataset", predictions: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str],
          most: int = WORST) -> list[dict[str, Any]]:
    """Up to `most` held-out rows in the order of the larger of both sides' losses, which of a row of words is their
    mean.

    Args:
      predictions: {side: what `common.training.predictions` reads}, of the whole held-out set.
      names: of the classes.
    Returns: of each {"row", "loss": {side: nats}}, what is seen of it: "text", "image" (base64 of a PNG) and its
      "size", or "words"; of an example with one label "label", "predicted" {side: name} and "share" {side: its
      probability}, of "words" each {"word", "label", and "SIDE": what that side predicts}.
    """
    rows = len(dataset.held_out)
    if dataset.kind == "text" or not predictions or any(len(found["loss"]) != rows for found in predictions.values()):
        return []
    weights = dataset.held_out.take(np.arange(rows))["weights"] if next(iter(predictions.values()))["loss"].ndim > 1 \
        else np.ones(rows)
    losses = {side: mean_loss(found["loss"].astype(np.float64), weights) for side, found in predictions.items()}
    largest = np.max([np.nan_to_num(x, nan=np.inf) for x in losses.values()], axis=0)
    pieces = pieces_of(dataset)
    return [{"row": int(row), "loss": {side: float(x[row]) for side, x in losses.items()}}
            | seen(dataset, int(row), pieces, predictions, names)
            for row in np.argsort(-largest, kind="stable")[:most]]


def mean_loss(losses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The loss of each row (rows,): of rows of several labels (rows, length) the mean of those that weigh something."""
    if losses.ndim == 1:
        return losses
    return np.where(weights > 0, losses * weights, 0.0).sum(-1) / np.maximum(weights.sum(-1), 1e-300)


def pieces_of(dataset: "Dataset") -> WordPieces | None:
    """The tokenizer of labelled text; None of other data."""
    if dataset.kind != "arrays" or dataset.tokenizer is None:
        return None
    return opened(dataset.tokenizer.read_bytes(), "tokenizer")


def seen(dataset: "Dataset", row: int, pieces: WordPieces | None, predictions: Mapping[str, Any],
         names: Sequence[str]) -> dict[str, Any]:
    """What is seen of a row, its label and what each side predicts."""
    one = {name: x[0] for name, x in dataset.held_out.take(np.array([row])).items()}
    if one["labels"].ndim:
        return {"words": words_of(one, row, pieces, predictions, names)} if pieces else {}
    found: dict[str, Any] = {
        "label": named(names, one["labels"]),
        "predicted": {side: named(names, x["best"][row]) for side, x in predictions.items()},
        "share": {side: float(x["share"][row]) for side, x in predictions.items()}}
    if dataset.kind == "images":
        return found | picture(one["inputs"])
    return found | ({"text": text_of(pieces, one["ids"], one["mask"])} if pieces and "ids" in one else {})


def named(names: Sequence[str], index: Any) -> str:
    """A class by its name, or by its number where it has none."""
    return str(names[int(index)]) if int(index) < len(names) else str(int(index))


def picture(inputs: np.ndarray) -> dict[str, Any]:
    """{"image", "size"} of inputs (H, W, C) from 0 to 1; of one with many pixels every second or so."""
    every = -(-max(inputs.shape[:2]) // SIDE)
    pixels = np.rint(255 * np.clip(inputs[::every, ::every], 0, 1)).astype(np.uint8)
    if pixels.shape[-1] not in (1, 3):
        return {}
    return {"image": base64.b64encode(png_of(pixels)).decode(), "size": [*map(int, inputs.shape[:2])]}


# ---- text

def text_of(pieces: WordPieces, ids: np.ndarray, mask: np.ndarray) -> str:
    """The text of a row of word pieces, as the model reads it, without what stands around it."""
    return joined([pieces.model.id_to_token(int(i)) or "" for i in inner(pieces, ids, mask)])[:CHARACTERS]


def inner(pieces: WordPieces, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The ids of a row without padding and what stands around."""
    return ids[:int(mask.sum())][len(pieces.before):int(mask.sum()) - len(pieces.after)]


def joined(tokens: Sequence[str]) -> str:
    """Pieces as text: those with ## go on with the word before them."""
    return "".join(token[2:] if token.startswith("##") else f" {token}" for token in tokens).strip()


def words_of(one: Mapping[str, np.ndarray], row: int, pieces: WordPieces, predictions: Mapping[str, Any],
             names: Sequence[str]) -> list[dict[str, str]]:
    """The words of a row: a word begins where a tag weighs something, and has the pieces up to the next."""
    end = int(one["mask"].sum()) - len(pieces.after)
    starts = [i for i in np.flatnonzero(one["weights"] > 0) if i < end]
    found = []
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        tokens = [pieces.model.id_to_token(int(i)) or "" for i in one["ids"][start:stop]]
        found.append({"word": joined(tokens).replace(" ", ""), "label": named(names, one["labels"][start])}
                     | {side: named(names, x["best"][row, start]) for side, x in predictions.items()})
    return found
