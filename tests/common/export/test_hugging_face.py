"""A model as a directory of the library's."""

import json
import re

import pytest
from safetensors import numpy as safetensors

from twinscale.common.errors import BadInput
from twinscale.common.export import check as export_check
from twinscale.common.export import hugging_face
from twinscale.common.export.formats import Model, Shape
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.weights import is_saved, load_weights
from twinscale.common.recipe.schema import Recipe

GPT2 = {"layers": 2, "width": 16, "heads": 4}
LLAMA = {**GPT2, "kv_heads": 2, "norm": "rms", "positions": "rotary", "activation": "swiglu", "bias": False}


def recipe_of(family="decoder", precision="float32", **model):
    source = "stdlib" if family == "decoder" else "digits"
    return Recipe.model_validate({"name": "x", "data": {"source": source, "sequence": 8}, "train": {
        "precision": precision}, "model": {"family": family, **(GPT2 if family == "decoder" else {}), **model}})


def model_of(recipe, classes=20, example_shape=(8,)):
    tree = parameters(recipe.model, classes, example_shape)
    return Model(recipe, Shape(classes, example_shape), initial_values(tree, 0, "float32"))


@pytest.mark.parametrize("model, name", [
    (GPT2, "gpt2"), ({"activation": "gelu_tanh", "tied": False}, "gpt2"), (LLAMA, "llama"),
    ({**LLAMA, "bias": True, "tied": False}, "llama")])
def test_a_layout_holds_every_tensor_bit_for_bit(tmp_path, model, name):
    made = model_of(recipe_of(**model))
    assert hugging_face.write(made.recipe, made.shape, made.tensors, tmp_path)["layout"] == name
    stored = safetensors.load_file(tmp_path / "model.safetensors")
    assert sum(x.size for x in stored.values()) == sum(x.size for x in made.tensors.values())
    assert export_check.equal(hugging_face.read(made.recipe.model, tmp_path), made.tensors)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["model_type"] == name and said["vocab_size"] == 20
    assert said["tie_word_embeddings"] == ("lm_head.weight" not in stored)


@pytest.mark.parametrize("family, model, said", [
    ("mlp", {}, "no layout is known for a mlp"), ("decoder", {"bias": False}, "gpt2, .* has no model.bias=False"),
    ("decoder", {"kv_heads": 2}, "gpt2, .* has no model.kv_heads=2"),
    ("decoder", {**LLAMA, "activation": "gelu"}, "llama, .* has no model.activation='gelu'")])
def test_what_has_no_layout_says_why_and_keeps_its_names(tmp_path, family, model, said):
    made = model_of(recipe_of(family, **model), example_shape=(8,) if family == "decoder" else (4, 4, 1))
    more = hugging_face.write(made.recipe, made.shape, made.tensors, tmp_path)
    assert more["layout"] is None and re.search(said, more["note"])
    assert not (tmp_path / "config.json").exists()
    assert safetensors.load_file(tmp_path / "model.safetensors").keys() == made.tensors.keys()


def test_what_is_larger_than_a_file_may_be_goes_into_several_and_comes_back(tmp_path, monkeypatch):
    made = model_of(recipe_of(**GPT2))
    monkeypatch.setattr(hugging_face, "MOST", 4000)
    hugging_face.save(made.recipe, made.tensors, tmp_path / "out")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").glob("model-*.safetensors")}
    assert set(index["weight_map"].values()) == sizes.keys() and len(sizes) > 3 and max(sizes.values()) < 6000
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in made.tensors.values())
    assert not (tmp_path / "out/model.safetensors").exists() and is_saved(tmp_path / "out")
    assert export_check.equal(hugging_face.read(made.recipe.model, tmp_path / "out"), made.tensors)
    begun = Recipe.model_validate({"name": "x", "model": {"family": "decoder", "weights": str(tmp_path / "out")}})
    again = initial_values(parameters(begun.model, 20, (8,)), 0, "float32")
    assert export_check.equal(again, made.tensors)
    name = sorted(sizes)[1]
    (tmp_path / "out" / name).unlink()
    with pytest.raises(BadInput, match="has another content"):
        parameters(begun.model, 21, (8,))
    with pytest.raises(BadInput, match=name):
        load_weights(tmp_path / "out")


@pytest.mark.parametrize("said", [{}, {"weight_map": {"a": "../model.safetensors"}}, {"weight_map": {"a": 3}}])
def test_an_index_that_leads_elsewhere_is_refused(tmp_path, said):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(said))
    with pytest.raises(BadInput, match="weight_map: says not of each tensor"):
        load_weights(tmp_path)
    safetensors.save_file({}, tmp_path / "a.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"b": "a.safetensors"}}))
    with pytest.raises(BadInput, match="a.safetensors: lacks b, which model.safetensors.index.json says is there"):
        load_weights(tmp_path)
