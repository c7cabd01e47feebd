"""Text without labels as rows of word pieces: nothing of it is lost, and both sides of the split are kept apart."""

import numpy as np
import pytest
import tokenizers

from twinscale.common.data import held_out_batches, open_dataset, training_batches
from twinscale.common.data.kept import keep, kept_in, open_kept
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe

TEXTS = [f"Document {i} says that " + f"the brown fox jumps over {i} lazy dogs. " * (i % 5 + 1)
         for i in range(40)]


@pytest.fixture
def recipe(corpus):
    """recipe(...): an encoder that predicts what is hidden of a folder of texts, with keys of [data]."""
    source = corpus(TEXTS)

    def make(model="masked", **data):
        data = {"source": source, "tokenizer": "wordpiece", "vocabulary": 300, "sequence": 16, "held_out": 0.2,
                "masked": 0.15} | data
        return Recipe.model_validate({"name": "t", "data": data, "train": {"global_batch": 8}, "model": {
            "family": "encoder", "layers": 1, "width": 8, "heads": 2, "vocabulary": 400, "positions": 16,
            "head": model}})

    return make


def read(dataset, part):
    """The text of each row of a part, without what stands around it."""
    model = tokenizers.Tokenizer.from_file(str(dataset.tokenizer))
    rows = getattr(dataset, part).take(np.arange(len(getattr(dataset, part))))
    assert np.array_equal(rows["weights"] > 0, (rows["ids"] > 3) | (rows["ids"] == 1))
    assert np.array_equal(rows["mask"] == 1, np.maximum.accumulate((rows["ids"] > 0)[:, ::-1], 1)[:, ::-1])
    return [model.decode(row.tolist()) for row in rows["ids"]]


def test_rows_hold_all_of_the_text_once_and_a_documents_rows_are_its_own(recipe):
    dataset = open_dataset(recipe())
    assert dataset.manifest["documents"] == {part: len({row.split(" says")[0] for row in read(dataset, part) if
                                                        row.startswith("Document")}) for part in ("train", "held_out")}
    for part in ("train", "held_out"):
        found = " ".join(read(dataset, part))
        assert found.count("Document") == dataset.manifest["documents"][part]
        assert all("Document" not in row[1:] for row in read(dataset, part))
    whole = "".join(" ".join(read(dataset, part)) for part in ("train", "held_out"))
    assert whole.count("fox") == sum(text.count("fox") for text in TEXTS)


def test_documents_follow_each_other_where_they_may(recipe):
    apart, across = open_dataset(recipe()), open_dataset(recipe(cross_documents=True))
    rows = across.train.take(np.arange(len(across.train)))
    first = tokenizers.Tokenizer.from_file(str(across.tokenizer)).encode("Document").ids[1]
    row, place = np.nonzero(rows["ids"] == first)
    assert rows["mask"][:-1].all() and (place > 1).any() and len(row) == across.manifest["documents"]["train"]
    assert all(rows["ids"][row, place - 1] == np.where(place > 1, 3, 2))  # behind [SEP], or [CLS] in a new row
    assert len(across.train) < len(apart.train)
    assert "".join(read(across, "train")).count("fox") == "".join(read(apart, "train")).count("fox")


def test_batches_are_hidden_anew_in_each_step_and_held_out_ones_never(recipe):
    asked = recipe()
    dataset = open_dataset(asked)
    rows = len(dataset.train)
    steps = [batch for _, batch, _ in training_batches(dataset, asked, 0, 2 * (rows // 8 + 1))]
    assert all((batch["weights"] > 0).any(1).all() and batch["labels"].shape == (8, 16) for batch in steps)
    assert 0.1 < sum(batch["weights"].sum() for batch in steps) / sum(batch["mask"].sum() - 16 for batch in steps) < 0.2
    small, large = ([{name: np.concatenate([batch[name] for batch in held_out_batches(dataset, size)])[
        :len(dataset.held_out)] for name in ("ids", "labels", "weights")}] for size in (4, 8))
    assert all(np.array_equal(small[0][name], large[0][name]) for name in small[0])
    other = open_dataset(asked.with_values(seed=5))
    assert np.array_equal(next(held_out_batches(other, 4))["ids"], next(held_out_batches(dataset, 4))["ids"])


def test_a_run_keeps_its_tokenizer_and_goes_on_with_it(recipe, tmp_path):
    dataset = open_dataset(recipe())
    (tmp_path / "data").mkdir()
    keep(tmp_path, dataset)
    again = open_kept(recipe(), kept_in(tmp_path, dataset.manifest))
    assert again.manifest["sha256"] == dataset.manifest["sha256"]
    assert again.manifest["tokenizer"] == dataset.manifest["tokenizer"]


@pytest.mark.parametrize("change, said", [
    ({"sequence": 2}, "data.sequence=2: leaves no room beside 2 special pieces"),
    ({"tokenizer": "bpe"}, 'data.tokenizer="bpe" is for text that is packed'),
    ({"masked": 0.0}, 'does not read: it reads arrays; to train on text without labels, set data.masked'),
    ({"source": "digits"}, "holds images, and no text, which data.masked=0.15 is of"),
    ({"model": "sequence"}, 'model.head = "sequence" wants .*: a label for each row'),
    ({"next_sentence": True}, "data.masked=0.15 and data.next_sentence both make the labels"),
    ({"held_out": 1e-9}, "leaves the held_out split of .* empty")])
def test_what_cannot_be_is_said_in_a_line(recipe, change, said):
    with pytest.raises((BadInput, ValueError), match=said):
        open_dataset(recipe(**change))


def test_a_tokenizer_without_a_mask_is_refused(recipe, tmp_path):
    letters = sorted({c for text in TEXTS for c in text if c != " "})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters]))
    with pytest.raises(BadInput, match=r"has no piece \[MASK\] or <mask>, which data.masked shows"):
        open_dataset(recipe(tokenizer=str(tmp_path / "vocab.txt")))


def test_second_halves_follow_the_first_or_are_another_rows(recipe):
    asked = recipe("next-sentence", masked=0.0, next_sentence=True, sequence=15)
    dataset = open_dataset(asked)
    whole = dataset.train.take(np.arange(len(dataset.train)))
    assert not whole["labels"].any() and whole["labels"].shape == (len(dataset.train),)
    assert (whole["ids"][:, 7] == 3).all() and whole["types"][:, 8].all() and not whole["types"][:, :8].any()
    seconds = {tuple(row[8:]) for row in whole["ids"]}
    follows = {tuple(row) for row in whole["ids"]}
    labels = []
    for _, batch, _ in training_batches(dataset, asked, 0, 40):
        for row, mask, types, label in zip(*(batch[name] for name in ("ids", "mask", "types", "labels")), strict=True):
            assert tuple(row[8:]) in seconds and (mask == 1).tolist() == (row > 0).tolist()
            assert (tuple(row) in follows) or label == 1
            assert np.array_equal(types == 1, (np.arange(15) > 7) & (mask == 1))
            labels.append(label)
    assert 0.4 < np.mean(labels) < 0.6
    held_out = [np.concatenate([batch["labels"] for batch in held_out_batches(dataset, size)])[:len(dataset.held_out)]
                for size in (3, 8)]
    assert np.array_equal(*held_out) and 0 < held_out[0].mean() < 1
    assert dataset.manifest["labels"] == ["next", "another"]


def test_a_subset_has_the_pieces_and_the_held_out_rows_of_all(recipe):
    whole, small = open_dataset(recipe()), open_dataset(recipe(subset={"documents": 9}, quality=["exact"]))
    assert small.manifest["documents"] == {**whole.manifest["documents"], "train": 9}
    assert small.manifest["tokenizer"] == whole.manifest["tokenizer"]
    assert read(small, "held_out") == read(whole, "held_out") and set(read(small, "train")) < set(read(whole, "train"))
    assert small.manifest["quality"]["subset"]["documents"] == 9 and "quality" not in whole.manifest
