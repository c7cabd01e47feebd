"""Shapes that are known from the recipe alone, against a batch that was made."""

import math

import pytest

from twinscale.common.data import open_dataset, training_batches
from twinscale.common.data.shapes import batch_bytes, batch_shapes, data_shape
from twinscale.common.recipe.schema import Recipe


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "texts").mkdir()
    for i in range(40):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"document {i} of some words " * 20)
    return f"text:{tmp_path}/texts/*.txt"


@pytest.mark.parametrize("family, data, model", [
    ("decoder", {"sequence": 16}, {"layers": 1, "width": 16, "heads": 2, "dropout": 0.1}),
    ("decoder", {"sequence": 16, "cross_documents": True}, {"layers": 1, "width": 16, "heads": 2}),
    ("decoder", {"sequence": 16, "tokenizer": "bpe", "vocabulary": 300}, {"layers": 1, "width": 16, "heads": 2}),
    ("mlp", {"source": "digits", "augment": ["shift"]}, {}), ("convnet", {"source": "mnist5k"}, {"dropout": 0.1})])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_batch_is_as_the_recipe_says(corpus, family, data, model, precision):
    recipe = Recipe.model_validate({
        "name": "tiny", "data": {"source": corpus, "held_out": 0.2, **data}, "model": {"family": family, **model},
        "train": {"global_batch": 4, "precision": precision}})
    dataset = open_dataset(recipe)
    assert data_shape(recipe) == (dataset.classes, tuple(dataset.example_shape))
    batch = next(training_batches(dataset, recipe, 0, 1))[1]
    assert batch_shapes(recipe, dataset.example_shape) == {
        name: (array.shape, array.dtype.name) for name, array in batch.items()}
    assert batch_bytes(recipe, dataset.example_shape) == sum(
        math.prod(array.shape) * array.itemsize for array in batch.values())
