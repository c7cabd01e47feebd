"""First weights from a directory of the Hugging Face library's."""

import json

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.export import hugging_face
from twinscale.common.export.formats import Shape
from twinscale.common.families.encoder import Encoder
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.weights import said, taken
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe.file import dumps, given
from twinscale.common.recipe.schema import Recipe

SHAPE = (("ids", (6,), "int32"),)
SMALL = {"layers": 2, "width": 8, "heads": 2, "hidden": 12, "vocabulary": 30, "positions": 9, "types": 2}
TEXT = """name = "x"
[data]
source = "random"
[model]
family = "encoder"
weights = "bert"
"""


def encoder(**values):
    return Encoder(family="encoder", **values)


@pytest.fixture
def folder(tmp_path):
    """A directory as the library saves one, of a model with a head for tokens."""
    m = encoder(**SMALL)
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "random"}, "model": m.model_dump()})
    first = initial_values(parameters(m, 3, SHAPE), 7, "float32")
    hugging_face.write(recipe, Shape(3, SHAPE), first, tmp_path / "bert")
    return tmp_path / "bert"


def changed(folder, **tensors):
    """Rewrites tensors of a directory, without those that are None."""
    held = load_tensors(folder / "model.safetensors") | {name.replace("__", "."): x for name, x in tensors.items()}
    save_tensors(folder / "model.safetensors", {name: x for name, x in held.items() if x is not None})


def test_a_recipe_says_the_directory_alone_and_begins_with_its_tensors(folder):
    (folder.parent / "recipe.toml").write_text(TEXT)
    recipe = given(folder.parent / "recipe.toml")
    m = recipe.model
    assert {key: getattr(m, key) for key in SMALL} == SMALL and "model.safetensors#sha256=" in m.weights
    first = initial_values(parameters(m, 3, SHAPE), 0, "float32")
    held = load_tensors(folder / "model.safetensors")
    assert np.array_equal(first["block_1.attention.query.kernel"].T,
                          held["bert.encoder.layer.1.attention.self.query.weight"])
    twin = initial_values(parameters(m, 3, SHAPE), 0, "float32", 2.0**-10)["embedding.embedding"]
    assert 0 < np.abs(twin / first["embedding.embedding"] - 1).max() < 1.01 * 2.0**-10
    assert said(m, parameters(m, 3, SHAPE)) == f"weights: 39 of 39 tensors are those of {folder}/model.safetensors"
    (folder.parent / "again.toml").write_text(dumps(recipe))
    assert given(folder.parent / "again.toml").hash == recipe.hash


def test_another_content_is_another_meaning_wherever_it_lies_and_none_is_that_of_before(folder, tmp_path):
    (tmp_path / "recipe.toml").write_text(TEXT)
    before = given(tmp_path / "recipe.toml")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    folder.rename(moved / "bert")
    (moved / "recipe.toml").write_text(TEXT)
    assert given(moved / "recipe.toml").meaning == before.meaning
    changed(moved / "bert", classifier__bias=np.ones(3, np.float32))
    assert given(moved / "recipe.toml").meaning != before.meaning
    with pytest.raises(BadInput, match="no such file: give a directory with model.safetensors"):
        taken(before.model, parameters(encoder(**SMALL), 3, SHAPE))
    plain = Recipe.model_validate({"name": "x", "model": {"family": "decoder"}})
    assert "weights" not in plain.model_dump(exclude=plain.later)["model"]


def test_who_writes_no_weights_has_none_in_whatever_folder_the_recipe_lies(tmp_path):
    """An empty path is none, and not the recipe's folder."""
    (tmp_path / "recipe.toml").write_text(dumps(Recipe.model_validate({"name": "x", "model": {"family": "decoder"}})))
    assert given(tmp_path / "recipe.toml").model.weights == ""


def test_heads_start_fresh_and_what_is_left_is_listed(folder):
    m = encoder(weights=str(folder), head="sequence")
    tree = parameters(m, 4, SHAPE)
    found = taken(m, tree)
    assert found.fresh == ("pooler.kernel", "pooler.bias", "head.kernel", "head.bias")
    assert found.left == ("classifier.bias", "classifier.weight")  # of three classes, not of four
    assert said(m, tree).endswith("fresh ones are pooler.kernel, pooler.bias, head.kernel, head.bias; "
                                  "in the file alone are classifier.bias, classifier.weight")
    assert initial_values(tree, 0, "float32")["head.kernel"].any()


def test_old_names_and_models_without_a_prefix_are_read(folder):
    held = load_tensors(folder / "model.safetensors")
    save_tensors(folder / "model.safetensors", {
        name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"): x for name, x in held.items()})
    m = encoder(weights=str(folder))
    assert len(taken(m, parameters(m, 3, SHAPE)).values) == len(held)


@pytest.mark.parametrize(("tensors", "words"), [
    ({"bert__encoder__layer__0__output__dense__weight": None}, "block_0.feedforward.down.kernel is missing"),
    ({"bert__encoder__layer__2__output__dense__weight": np.ones((8, 12), np.float32)},
     "bert.encoder.layer.2.output.dense.weight is left"),
    ({"bert__encoder__layer__1__output__dense__weight": np.ones((8, 16), np.float32)},
     r"bert.encoder.layer.1.output.dense.weight \[8, 16\], not \[8, 12\]"),
    ({"bert__embeddings__LayerNorm__bias": np.full(8, np.nan, np.float32)}, "holds what are no finite floats")])
def test_weights_of_another_architecture_are_refused_by_their_tensors(folder, tensors, words):
    changed(folder, **tensors)
    m = encoder(weights=str(folder))
    with pytest.raises(BadInput, match=words):
        parameters(m, 3, SHAPE)


def test_options_that_are_not_those_of_the_file_are_refused_by_the_key(folder):
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(ValueError, match="model.heads=4, but config.json of model.weights says 2: leave it out"):
        encoder(weights=str(folder), heads=4)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(BadInput, match='model_type = gpt2: model.family = "encoder" takes bert, roberta, distilbert'):
        encoder(weights=str(folder))
    (folder / "config.json").write_text(json.dumps({key: x for key, x in config.items() if key != "hidden_size"}))
    with pytest.raises(BadInput, match="config.json: lacks or does not know 'hidden_size'"):
        encoder(weights=str(folder))


def test_a_decoders_directory_is_read_too(tmp_path):
    small = {"family": "decoder", "layers": 1, "width": 8, "heads": 2, "norm": "rms", "positions": "rotary",
             "activation": "swiglu", "bias": False, "kv_heads": 1, "hidden": 12, "tied": False}
    recipe = Recipe.model_validate({"name": "x", "data": {"sequence": 6}, "model": small})
    first = initial_values(parameters(recipe.model, 20, (6,)), 7, "float32")
    hugging_face.write(recipe, Shape(20, (6,)), first, tmp_path)
    begun = Recipe.model_validate({"name": "x", "model": {"family": "decoder", "weights": str(tmp_path)}})
    again = initial_values(parameters(begun.model, 20, (6,)), 0, "float32")
    assert {name: x.tobytes() for name, x in again.items()} == {name: x.tobytes() for name, x in first.items()}
    with pytest.raises(BadInput, match=r"model.embed_tokens.weight \[20, 8\], not \[21, 8\]"):
        parameters(begun.model, 21, (6,))
