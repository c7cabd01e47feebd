"""The layouts of ViT and ResNet."""

import json

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.export import hugging_face
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.resnet import ResNet
from twinscale.common.families.vision_layouts import (
    resnet_layout,
    resnet_options,
    vit_options,
    vit_pairs,
    vit_shape,
)
from twinscale.common.families.vit import ViT
from twinscale.common.families.weights import said, taken
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe.schema import Recipe

SHAPE = 8, 8, 3
VIT = {"family": "vit", "layers": 1, "width": 8, "heads": 2, "hidden": 12}
RESNET = {"family": "resnet", "layers": [2, 1], "widths": [4, 6], "stem_width": 4}
MODELS = {"vit": VIT, "vit, pooler": {**VIT, "pooler": True, "activation": "gelu_tanh"}, "resnet": RESNET,
          "resnet, bottleneck": {**RESNET, "block": "bottleneck"}}


def recipe_of(**model):
    return Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": model})


def tensors_of(recipe, classes=5):
    return initial_values(parameters(recipe.model, classes, SHAPE), 7, "float32")


@pytest.mark.parametrize("asked", MODELS)
def test_tensors_go_into_the_librarys_directory_and_a_training_begins_with_them(tmp_path, asked):
    recipe = recipe_of(**MODELS[asked])
    first = tensors_of(recipe)
    assert hugging_face.save(recipe, first, tmp_path / "out")["layout"] == recipe.model.family
    own = {"pooler": True} if "pooler" in asked else {}
    begun = recipe_of(family=recipe.model.family, weights=str(tmp_path / "out"), **own)
    tree = parameters(begun.model, 5, SHAPE)
    again = initial_values(tree, 0, "float32")
    assert {name: x.tobytes() for name, x in again.items()} == {name: x.tobytes() for name, x in first.items()}
    assert said(begun.model, tree).startswith(f"weights: {len(first)} of {len(first)} tensors") and len(
        json.loads((tmp_path / "out/config.json").read_text())["id2label"]) == 5


def test_names_and_shapes_are_the_librarys():
    recipe = recipe_of(**VIT)
    found = hugging_face.to_layout("vit", recipe.model, tensors_of(recipe))
    shapes = {"embeddings.cls_token": (1, 1, 8), "embeddings.position_embeddings": (1, 5, 8),
              "embeddings.patch_embeddings.projection.weight": (8, 3, 4, 4),
              "encoder.layer.0.intermediate.dense.weight": (12, 8), "layernorm.bias": (8,)}
    assert {name: found[f"vit.{name}"].shape for name in shapes} == shapes
    recipe = recipe_of(**RESNET)
    found = hugging_face.to_layout("resnet", recipe.model, tensors_of(recipe))
    shapes = {"resnet.embedder.embedder.convolution.weight": (4, 3, 7, 7), "classifier.1.weight": (5, 6),
              "resnet.encoder.stages.1.layers.0.shortcut.normalization.running_mean": (6,),
              "resnet.encoder.stages.0.layers.1.layer.1.convolution.weight": (4, 4, 3, 3)}
    assert {name: found[name].shape for name in shapes} == shapes


def test_counts_of_batches_are_no_weights_and_a_body_alone_has_no_prefix(tmp_path):
    recipe = recipe_of(**RESNET)
    hugging_face.save(recipe, tensors_of(recipe), tmp_path)
    held = load_tensors(tmp_path / "model.safetensors")
    body = {name.removeprefix("resnet."): x for name, x in held.items() if not name.startswith("classifier")}
    counts = {"embedder.embedder.normalization.num_batches_tracked": np.array(3, np.int64)}
    save_tensors(tmp_path / "model.safetensors", body | counts)
    begun = recipe_of(family="resnet", weights=str(tmp_path))
    found = taken(begun.model, parameters(begun.model, 7, SHAPE))
    assert found.left == () and found.fresh == ("head.kernel", "head.bias")


def test_images_of_another_size_are_refused_by_the_positions(tmp_path):
    recipe = recipe_of(**VIT)
    hugging_face.save(recipe, tensors_of(recipe), tmp_path)
    begun = recipe_of(family="vit", weights=str(tmp_path))
    with pytest.raises(BadInput, match=r"vit.embeddings.position_embeddings \[1, 5, 8\], not \[1, 10, 8\]"):
        parameters(begun.model, 5, (12, 12, 3))


def test_what_the_library_has_not_or_we_have_not_says_so():
    assert resnet_layout(ResNet(family="resnet", stem="cifar")) == (None, 'resnet has no model.stem="cifar"')
    assert resnet_layout(ResNet(family="resnet", norm_epsilon=1e-3))[0] is None
    resnet = {"layer_type": "bottleneck", "depths": [1], "hidden_sizes": [8], "embedding_size": 4, "hidden_act": "relu"}
    assert resnet_options("resnet", resnet)["widths"] == (2,)
    with pytest.raises(BadInput, match="config.json: downsample_in_bottleneck = True: no such model"):
        resnet_options("resnet", resnet | {"downsample_in_bottleneck": True})
    vit = {"patch_size": [4, 4], "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2,
           "intermediate_size": 12, "layer_norm_eps": 1e-12, "hidden_act": "gelu_new"}
    assert (vit_options("vit", vit)["patch"], vit_options("vit", vit)["activation"]) == (4, "gelu_tanh")
    with pytest.raises(BadInput, match="config.json: qkv_bias = False"):
        vit_options("vit", vit | {"qkv_bias": False})
    with pytest.raises(BadInput, match="6 patches are of no square image"):
        vit_shape(ViT(family="vit"), {"position.embedding": np.zeros((7, 8))})
    assert not [name for name, _, _ in vit_pairs("vit", ViT(family="vit")) if "pooler" in name]
