"""The worst examples: in the order of the larger loss of both sides, as a person sees them."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks.examples import joined, picture, worst
from twinscale.common.data import word_pieces

TEXTS = ["good <script>alert(1)</script>", "bad day", "good good"]


class HeldOut:
    """Rows of arrays by number."""

    def __init__(self, **arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays["labels"])

    def take(self, rows):
        return {name: x[rows] for name, x in self.arrays.items()}


def predicted(best, loss):
    loss = np.array(loss, np.float32)
    return {"best": np.array(best, np.int32), "share": np.full(loss.shape, 0.5, np.float32), "loss": loss}


@pytest.fixture(scope="module")
def pieces():
    return word_pieces.opened(word_pieces.learnt(TEXTS * 3, 200), "here")


@pytest.fixture
def texts(pieces, tmp_path):
    """The dataset of TEXTS, padded to 40 pieces."""
    rows = [[*pieces.before, *ids, *pieces.after] for ids in pieces.of_texts(TEXTS)]
    ids, mask = np.full((3, 40), pieces.pad, np.int32), np.zeros((3, 40), np.int32)
    for i, row in enumerate(rows):
        ids[i, :len(row)], mask[i, :len(row)] = row, 1
    (tmp_path / "t.json").write_bytes(pieces.content)
    held_out = HeldOut(ids=ids, mask=mask, labels=np.array([0, 1, 0]), weights=np.ones(3))
    return SimpleNamespace(kind="arrays", tokenizer=tmp_path / "t.json", held_out=held_out)


def test_the_order_is_that_of_the_larger_loss_and_a_text_is_what_the_model_reads(texts):
    found = worst(texts, {"keras": predicted([0, 0, 0], [0.1, 2.0, 0.2]), "jax": predicted([0, 1, 1], [3.0, 0.1, 0.2])},
                  ["ok", "not ok"], most=2)
    assert [one["row"] for one in found] == [0, 1]
    assert found[1]["label"] == "not ok" and found[1]["predicted"] == {"keras": "ok", "jax": "not ok"}
    assert found[1]["text"] == "bad day" and found[0]["loss"] == {"keras": pytest.approx(0.1), "jax": 3.0}
    assert found[0]["text"].replace(" ", "") == TEXTS[0].replace(" ", "")  # as it is: pages escape it


def test_a_loss_that_is_not_finite_is_the_worst(texts):
    found = worst(texts, {"jax": predicted([0, 1, 0], [0.1, np.nan, 9.0])}, [], most=1)
    assert found[0]["row"] == 1 and found[0]["label"] == "1"


def test_words_have_the_tags_of_their_first_pieces(pieces, tmp_path):
    sentence = [["good", "badgood", "day"]]
    words = pieces.of_words(sentence)[0]
    assert len(words[1]) > 1
    ids = np.array([[*pieces.before, *(i for word in words for i in word), *pieces.after, pieces.pad]], np.int32)
    starts = np.cumsum([len(pieces.before), *map(len, words[:-1])])
    labels, weights = np.zeros(ids.shape, np.int32), np.zeros(ids.shape)
    labels[0, starts[0]], weights[0, starts] = 1, 1
    (tmp_path / "t.json").write_bytes(pieces.content)
    mask = np.ones_like(ids)
    mask[0, -1] = 0
    dataset = SimpleNamespace(kind="arrays", tokenizer=tmp_path / "t.json",
                              held_out=HeldOut(ids=ids, mask=mask, labels=labels, weights=weights))
    losses = np.full(ids.shape, 50.0)
    losses[0, starts] = [3.0, 0.0, 0.0]
    found, = worst(dataset, {"keras": predicted(np.zeros(ids.shape), losses)}, ["O", "B-LOC", "I-LOC"])
    assert found["loss"]["keras"] == pytest.approx(1.0)  # of words alone
    assert [word["word"] for word in found["words"]] == sentence[0]
    assert [word["label"] for word in found["words"]] == ["B-LOC", "O", "O"]
    assert all(word["keras"] == "O" for word in found["words"]) and len(found["words"]) == 3


def test_an_image_is_a_small_png_of_the_same_pixels():
    from PIL import Image

    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = picture(pixels.astype(np.float32) / np.float32(255))
    again = Image.open(io.BytesIO(base64.b64decode(found["image"])))
    assert (np.asarray(again) == pixels).all() and found["size"] == [2, 2]
    large = picture(np.zeros((300, 200, 1), np.float32))
    assert max(Image.open(io.BytesIO(base64.b64decode(large["image"]))).size) <= 96
    assert picture(np.zeros((4, 4, 2), np.float32)) == {}


def test_predictions_of_other_rows_and_of_packed_text_show_nothing(texts):
    assert worst(texts, {"jax": predicted([0], [1.0])}, []) == [] == worst(texts, {}, [])
    assert worst(SimpleNamespace(**vars(texts) | {"kind": "text"}), {"jax": predicted([0] * 3, [1.0] * 3)}, []) == []


def test_pieces_are_joined_to_words():
    assert joined(["play", "##ing", "now"]) == "playing now"
