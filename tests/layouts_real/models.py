"""Small random models of the library, their inputs, and what they make of them."""

import numpy as np
import torch
import transformers as library

CLASSES = {"encoder": 5, "decoder": 31, "resnet": 5, "vit": 5}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 31,
        "max_position_embeddings": 14, "num_labels": 5}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "vocab_size": 31, "max_position_embeddings": 14,
          "num_labels": 5}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 9, "vocab_size": 31}
LLAMA = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 24, "vocab_size": 31, "max_position_embeddings": 9, "rms_norm_eps": 1e-5}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "image_size": 12,
       "patch_size": 4, "num_channels": 3, "num_labels": 5}
RESNET = {"embedding_size": 4, "depths": [2, 1], "num_labels": 5}
TEXT, IMAGE = (9,), (12, 12, 3)


def made(kind, config, **values):
    """A function that makes a model of the library."""
    return lambda: getattr(library, kind)(getattr(library, config)(**values))


# {name: (what makes it, the [model] of a recipe, the shape of an example)}
MODELS = {
    **{f"{kind} {head}": (made(f"{kind}{theirs}", f"{kind}Config", **values), {"family": "encoder", "head": head}, TEXT)
       for kind, values in {"Bert": BERT, "Roberta": {**BERT, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
                            "DistilBert": DISTIL}.items()
       for head, theirs in {"tokens": "ForTokenClassification", "sequence": "ForSequenceClassification",
                            "masked": "ForMaskedLM"}.items() if (kind, head) != ("DistilBert", "sequence")},
    "GPT2": (made("GPT2LMHeadModel", "GPT2Config", **GPT), {"family": "decoder"}, TEXT),
    "GPT2 untied": (made("GPT2LMHeadModel", "GPT2Config", **GPT, tie_word_embeddings=False), {"family": "decoder"},
                    TEXT),
    "Llama": (made("LlamaForCausalLM", "LlamaConfig", **LLAMA), {"family": "decoder"}, TEXT),
    "Llama other base, tied": (made("LlamaForCausalLM", "LlamaConfig", **LLAMA, tie_word_embeddings=True,
                                    rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
                               {"family": "decoder"}, TEXT),
    "ViT": (made("ViTForImageClassification", "ViTConfig", **VIT), {"family": "vit"}, IMAGE),
    "ResNet basic": (made("ResNetForImageClassification", "ResNetConfig", **RESNET, layer_type="basic",
                          hidden_sizes=[4, 6]), {"family": "resnet"}, (13, 12, 3)),
    "ResNet bottleneck": (made("ResNetForImageClassification", "ResNetConfig", **RESNET, layer_type="bottleneck",
                               hidden_sizes=[8, 12]), {"family": "resnet"}, IMAGE)}


def moved(model):
    """A model at a point where no norm is 1 and no bias 0, outside of training."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if x.is_floating_point() and "inv_freq" not in name:
                x.copy_(x.abs() * torch.exp(torch.randn_like(x) / 3) if "running_var" in name else
                        x + torch.randn_like(x) / 5)
    model.tie_weights()
    return model.eval()


def inputs_of(shape):
    """A batch of two rows, with all names that families read."""
    rng = np.random.default_rng(0)
    row = np.arange(2, dtype=np.uint32)
    if len(shape) == 3:
        return {"inputs": rng.random((2, *shape)), "row": row}
    ids = rng.integers(3, 31, (2, *shape)).astype(np.int32)  # of the first rows, RoBERTa's padding is one
    mask = np.ones_like(ids)
    mask[1, -3:] = 0
    ids[1, -3:] = 1
    places = np.tile(np.arange(*shape, dtype=np.int32), (2, 1))
    return {"ids": ids, "inputs": ids, "mask": mask, "types": np.zeros_like(ids), "positions": places, "row": row,
            "segments": np.zeros_like(ids)}


def logits_of(model, batch):
    """What a model of the library makes of a batch, (2, ..., classes) float64; of decoders, padding is text too."""
    with torch.no_grad():
        if batch["inputs"].ndim == 4:
            return model(torch.tensor(batch["inputs"].transpose(0, 3, 1, 2))).logits.numpy()
        ids, kind = torch.tensor(batch["ids"], dtype=torch.long), model.config.model_type
        if kind in ("gpt2", "llama"):
            return model(ids).logits.numpy()
        return model(ids, attention_mask=torch.tensor(batch["mask"])).logits.numpy()
