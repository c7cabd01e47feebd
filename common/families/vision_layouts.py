"""ViTs and ResNets as the Hugging Face library has them: `vit` (google/vit-base-patch16-224 is one) and `resnet`
(microsoft/resnet-18, microsoft/resnet-50)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.families import Layouts
from twinscale.common.families.resnet import ResNet, blocks_of, norm_of
from twinscale.common.families.vit import ViT
from twinscale.common.families.ways import FIRST, KERNEL

Pairs = list[tuple[str, list[str], bool | str]]

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
THEIRS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
# The parts of a ViT's block: {theirs: ours}.
BLOCK = {"attention.attention.query": "attention.query", "attention.attention.key": "attention.key",
         "attention.attention.value": "attention.value", "attention.output.dense": "attention.output",
         "layernorm_before": "norm_1", "layernorm_after": "norm_2", "intermediate.dense": "feedforward.up",
         "output.dense": "feedforward.down"}
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
EPSILON = 1e-5  # of torch's batch norm, which the library's config does not say


def vit_layout(m: ViT) -> tuple[str | None, str]:
    """("vit", "")."""
    return "vit", ""


def vit_pairs(name: str, m: ViT) -> Pairs:
    """[(the library's name, canonical names, how they lie)] of a ViT."""
    start = "vit.embeddings."
    found: Pairs = [(f"{start}cls_token", ["class_token.embedding"], FIRST),
                    (f"{start}position_embeddings", ["position.embedding"], FIRST),
                    (f"{start}patch_embeddings.projection.weight", ["patch.kernel"], KERNEL),
                    (f"{start}patch_embeddings.projection.bias", ["patch_bias.bias"], False)]
    parts = {f"vit.encoder.layer.{i}.{theirs}": f"block_{i}.{ours}" for i in range(m.layers)
             for theirs, ours in BLOCK.items()} | {"vit.layernorm": "norm"}
    parts |= {"vit.pooler.dense": "pooler"} if m.pooler else {}
    for theirs, ours in (parts | {"classifier": "head"}).items():
        norm = "norm" in ours
        found += [(f"{theirs}.weight", [f"{ours}.{'scale' if norm else 'kernel'}"], not norm),
                  (f"{theirs}.bias", [f"{ours}.bias"], False)]
    return found


def vit_options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a config.json says. Raises KeyError where it does not, BadInput where it says what no ViT here
    has."""
    patch = config["patch_size"]
    known = {"patch_size": len(sides := set(patch if isinstance(patch, list) else [patch])) == 1,
             "qkv_bias": config.get("qkv_bias", True) is True, "pooler_act": config.get("pooler_act", "tanh") == "tanh",
             "pooler_output_size": config.get("pooler_output_size") in (None, config["hidden_size"])}
    check_known(config, known)
    keys = {"layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads",
            "hidden": "intermediate_size", "norm_epsilon": "layer_norm_eps"}
    return {ours: config[theirs] for ours, theirs in keys.items()} | {
        "patch": sides.pop(), "activation": ACTIVATIONS[config["hidden_act"]]}


def vit_config(name: str, m: ViT, classes: int, shape: Sequence[int], dtype: str) -> dict[str, Any]:
    """What config.json says of a ViT on images (H, W, C)."""
    return {"model_type": name, "architectures": ["ViTForImageClassification"], "torch_dtype": dtype,
            "hidden_size": m.width, "num_hidden_layers": m.layers, "num_attention_heads": m.heads,
            "intermediate_size": m.feedforward, "hidden_act": THEIRS[m.activation], "layer_norm_eps": m.norm_epsilon,
            "hidden_dropout_prob": m.dropout, "attention_probs_dropout_prob": 0.0, "qkv_bias": True,
            "image_size": shape[0] if shape[0] == shape[1] else list(shape[:2]), "patch_size": m.patch,
            "num_channels": shape[2], "initializer_range": 0.02, **labels(classes)}


def vit_shape(m: ViT, tensors: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The images (H, W, C) that the tensors of a ViT read: of as many patches as there are positions, and square.
    Raises BadInput where none are."""
    patches = len(tensors["position.embedding"]) - 1
    side = math.isqrt(patches)
    if side * side != patches:
        raise BadInput(f"--hugging-face: {patches} patches are of no square image, and which sides it has is not among "
                       "the tensors: `twinscale export` writes it, which knows the data")
    return side * m.patch, side * m.patch, tensors["patch.kernel"].shape[2]


def resnet_layout(m: ResNet) -> tuple[str | None, str]:
    """("resnet", ""), or (None, why there is none)."""
    if not m.pools:
        return None, f'resnet has no model.stem="{m.stem}"'
    if m.norm_epsilon != EPSILON:
        return None, f"resnet has no model.norm_epsilon={m.norm_epsilon}"
    return "resnet", ""


def resnet_pairs(name: str, m: ResNet) -> Pairs:
    """[(the library's name, canonical names, how they lie)] of a ResNet."""
    convs = {"resnet.embedder.embedder": ("stem", "conv")}
    for block in blocks_of(m):
        stage, number = (part.rpartition("_")[2] for part in block.name.split("."))
        theirs = f"resnet.encoder.stages.{stage}.layers.{number}"
        convs |= {f"{theirs}.layer.{i}": (block.name, conv.name) for i, conv in enumerate(block.convs)}
        convs |= {f"{theirs}.shortcut": (block.name, "shortcut")} if block.shortcut else {}
    found: Pairs = []
    for theirs, (above, conv) in convs.items():
        found.append((f"{theirs}.convolution.weight", [f"{above}.{conv}.kernel"], KERNEL))
        found += [(f"{theirs}.normalization.{leaf}", [f"{above}.{norm_of(conv)}.{ours}"], False)
                  for leaf, ours in NORM.items()]
    return [*found, ("classifier.1.weight", ["head.kernel"], True), ("classifier.1.bias", ["head.bias"], False)]


def resnet_options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a config.json says. Raises KeyError where it does not, BadInput where it says what no ResNet is
    has."""
    growth = {"basic": 1, "bottleneck": 4}[config["layer_type"]]
    known = {"hidden_act": config["hidden_act"] == "relu", "hidden_sizes": not any(
        size % growth for size in config["hidden_sizes"]),
        **{key: not config.get(key) for key in ("downsample_in_first_stage", "downsample_in_bottleneck")}}
    check_known(config, known)
    return {"layers": tuple(config["depths"]), "widths": tuple(size // growth for size in config["hidden_sizes"]),
            "block": config["layer_type"], "stem": "imagenet", "stem_width": config["embedding_size"],
            "norm_epsilon": EPSILON}


def resnet_config(name: str, m: ResNet, classes: int, shape: Sequence[int], dtype: str) -> dict[str, Any]:
    """What config.json says of a ResNet on images (H, W, C)."""
    return {"model_type": name, "architectures": ["ResNetForImageClassification"], "torch_dtype": dtype,
            "num_channels": shape[2], "embedding_size": m.stem_width, "depths": list(m.layers),
            "hidden_sizes": [width * m.growth for width in m.widths], "layer_type": m.block, "hidden_act": "relu",
            "downsample_in_first_stage": False, "downsample_in_bottleneck": False, **labels(classes)}


def resnet_shape(m: ResNet, tensors: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """What is known of the images (H, W, C) that the tensors of a ResNet read: their channels."""
    return 0, 0, tensors["stem.conv.kernel"].shape[2]


def labels(classes: int) -> dict[str, Any]:
    """What says how many classes a head has: the library counts their names."""
    names = {str(i): f"LABEL_{i}" for i in range(classes)}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def check_known(config: Mapping[str, Any], known: Mapping[str, bool]) -> None:
    """Raises BadInput where a key of config.json says what is not `known` here."""
    if wrong := [key for key, there in known.items() if not there]:
        raise BadInput(f"model.weights: config.json: {wrong[0]} = {str(config.get(wrong[0]))[:80]}: no such model is "
                       "known here: take weights of another one")


VITS = Layouts(vit_layout, vit_pairs, vit_config, options=vit_options, prefixes={"vit": "vit."},
               body={"vit": "encoder.layer."}, fresh=("head.*", "pooler.*"), shape=vit_shape)
RESNETS = Layouts(resnet_layout, resnet_pairs, resnet_config, options=resnet_options, prefixes={"resnet": "resnet."},
                  body={"resnet": "encoder.stages."}, fresh=("head.*",), shape=resnet_shape)
