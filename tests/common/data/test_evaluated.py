"""Rows for a test: the file for it, or any of the same kind, by the tokenizer and the labels of the training."""

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.evaluated import evaluated_on, labels_of
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe

TRAIN = "EU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n\nParis B-LOC\nwins O\n\n"
TEST = "Paris B-LOC\n\nEU B-ORG\nrejects O\nPeter B-PER\n\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    found = tmp_path / "ner"
    found.mkdir()
    (found / "train.txt").write_text(TRAIN * 3)
    (found / "valid.txt").write_text(TRAIN)
    (found / "test.txt").write_text(TEST)
    return found


def recipe_of(source, **data):
    return Recipe.model_validate({
        "name": "ner", "data": {"source": source, "tokenizer": "wordpiece", "vocabulary": 300, "sequence": 16, **data},
        "train": {"global_batch": 2, "metrics": ["entities"]},
        "model": {"family": "encoder", "layers": 1, "width": 8, "heads": 2, "vocabulary": 300, "positions": 16,
                  "head": "tokens"}})


def test_rows_for_a_test_have_the_labels_and_the_pieces_of_the_training(folder):
    recipe = recipe_of(f"conll:{folder}")
    dataset = open_dataset(recipe)
    tested = evaluated_on(recipe, dataset, "test")
    assert len(tested.held_out) == 2 and len(dataset.held_out) == 3 and tested.manifest == dataset.manifest
    names = dataset.manifest["labels"]
    rows = tested.held_out.take(np.arange(2))
    assert [[names[i] for i, w in zip(own, weights, strict=True) if w] for own, weights in zip(
        rows["labels"], rows["weights"], strict=True)] == [["B-LOC"], ["B-ORG", "O", "B-PER"]]
    same = evaluated_on(recipe, dataset, str(folder / "valid.txt")).held_out.take(np.arange(3))
    for name, x in dataset.held_out.take(np.arange(3)).items():
        assert (same[name] == x).all(), name
    assert evaluated_on(recipe, dataset, "held_out") is dataset


def test_what_cannot_be_evaluated_on_is_said(folder):
    recipe = recipe_of(f"conll:{folder}")
    dataset = open_dataset(recipe)
    (folder / "odd.txt").write_text("Bonn B-CITY\n\n")
    with pytest.raises(BadInput, match="odd.txt:1: \"B-CITY\" is none of data.labels"):
        evaluated_on(recipe, dataset, str(folder / "odd.txt"))
    with pytest.raises(BadInput, match="nothing.txt"):
        evaluated_on(recipe, dataset, str(folder / "nothing.txt"))
    (folder / "test.txt").unlink()
    with pytest.raises(BadInput, match="--on test: .* has no file for a test: name one test"):
        evaluated_on(recipe, dataset, "test")
    digits = Recipe.model_validate({"name": "d", "data": {"source": "digits"}, "model": {"family": "mlp"}})
    with pytest.raises(BadInput, match='--on test: data.source="digits" has no files in parts'):
        evaluated_on(digits, open_dataset(digits), "test")


def test_entities_are_told_by_their_types():
    assert labels_of(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], True) == ["LOC", "PER"]
    assert labels_of(["O", "B-LOC", "I-LOC"], False) == ["O", "B-LOC", "I-LOC"] and labels_of(["no", "yes"], True) == [
        "no", "yes"]


def test_rules_of_quality_are_of_what_is_trained_on_and_leave_a_test_whole(folder):
    (folder / "train.txt").write_text(TRAIN + TEST * 2 + "Rome B-LOC\n\n")
    (folder / "test.txt").write_text(TEST * 2)
    recipe = recipe_of(f"conll:{folder}", vocabulary=300, quality=["exact"], subset={"documents": 2})
    dataset = open_dataset(recipe)
    assert dataset.manifest["quality"]["removed"]["exact_of_held_out"]["documents"] == 3
    assert len(evaluated_on(recipe, dataset, "test").held_out) == 4
