"""The layouts of GPT-2 and Llama."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.export import hugging_face
from twinscale.common.export.formats import Model, Shape
from twinscale.common.families.layouts import rotary_base
from twinscale.common.families.parameters import initial_values, parameters
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


def test_names_and_shapes_are_the_librarys(tmp_path):
    gpt2, llama = model_of(recipe_of(**GPT2)), model_of(recipe_of(**LLAMA))
    found = hugging_face.to_layout("gpt2", gpt2.recipe.model, gpt2.tensors)
    assert found["transformer.h.1.attn.c_attn.weight"].shape == (16, 48)  # (inputs, outputs)
    assert {"transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.bias",
            "transformer.h.0.mlp.c_proj.bias"} <= found.keys()
    found = hugging_face.to_layout("llama", llama.recipe.model, llama.tensors)
    assert found["model.layers.0.self_attn.k_proj.weight"].shape == (8, 16)  # (outputs, inputs)
    assert found["model.layers.1.mlp.gate_proj.weight"].shape == (64, 16) and "model.norm.weight" in found


def test_the_base_of_rotary_positions_stands_in_either_of_two_places():
    assert rotary_base({"rope_theta": 500.0}) == 500.0
    assert rotary_base({"rope_parameters": {"rope_type": "default", "rope_theta": 400.0}}) == 400.0
    for stretched in ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_parameters": {"rope_type": "yarn"}}):
        with pytest.raises(BadInput, match='config.json: rope_type = "(linear|yarn)": stretched positions'):
            rotary_base({"rope_theta": 500.0, **stretched})
