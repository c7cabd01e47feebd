"""A decoder's tensors as the Hugging Face library has them: GPT-2 (Radford et al. 2019) where positions are learned,
Llama (Touvron et al. 2023) where they are rotary; whatever has neither shape has no layout."""

from collections.abc import Mapping
from typing import Any

from twinscale.common.errors import BadInput
from twinscale.common.families import Layouts
from twinscale.common.families.decoder import Decoder

WANTED: dict[str, dict[str, Any]] = {
    "gpt2": {"positions": ("learned",), "norm": ("layer",), "activation": ("gelu", "gelu_tanh"), "bias": (True,)},
    "llama": {"positions": ("rotary",), "norm": ("rms",), "activation": ("swiglu",)}}
GELUS = {"gelu": "gelu", "gelu_tanh": "gelu_new"}  # as the library calls them


def layout(model: Decoder) -> tuple[str | None, str]:
    """("gpt2" or "llama", "") of a model section of the recipe, or (None, why there is none)."""
    lacking = {name: [f'model.{key}={getattr(model, key)!r}' for key, values in wanted.items()
                      if getattr(model, key) not in values] for name, wanted in WANTED.items()}
    if model.kv != model.heads:
        lacking["gpt2"].append(f"model.kv_heads={model.kv_heads}")
    name = min(lacking, key=lambda name: len(lacking[name]))
    return (None, f"{name}, the nearest layout, has no {', '.join(lacking[name])}") if lacking[name] else (name, "")


def pairs(name: str, model: Decoder) -> list[tuple[str, list[str], bool]]:
    """[(the layout's name, canonical names that lie beside each other in it, whether it is transposed)]."""
    return {"gpt2": gpt2_pairs, "llama": llama_pairs}[name](model)


def gpt2_pairs(m: Decoder) -> list[tuple[str, list[str], bool]]:
    """`pairs` of GPT-2, whose kernels, but for the head's, lie as ours do."""
    parts = {"ln_1": "norm_1", "ln_2": "norm_2", "attn.c_attn": "attention.query attention.key attention.value",
             "attn.c_proj": "attention.output", "mlp.c_fc": "feedforward.up", "mlp.c_proj": "feedforward.down"}
    found = [("transformer.wte.weight", ["embedding.embedding"], False),
             ("transformer.wpe.weight", ["position.embedding"], False),
             ("transformer.ln_f.weight", ["norm.scale"], False), ("transformer.ln_f.bias", ["norm.bias"], False)]
    for i in range(m.layers):
        for theirs, ours in parts.items():
            leaf = "scale" if theirs.startswith("ln") else "kernel"
            for end, own in (("weight", leaf), ("bias", "bias")):
                names = [f"block_{i}.{part}.{own}" for part in ours.split()]
                found.append((f"transformer.h.{i}.{theirs}.{end}", names, False))
    return found + ([] if m.tied else [("lm_head.weight", ["head.kernel"], True)])


def llama_pairs(m: Decoder) -> list[tuple[str, list[str], bool]]:
    """`pairs` of Llama, whose kernels are transposed."""
    parts = {"self_attn.q_proj": "attention.query", "self_attn.k_proj": "attention.key",
             "self_attn.v_proj": "attention.value", "self_attn.o_proj": "attention.output",
             "mlp.gate_proj": "feedforward.gate", "mlp.up_proj": "feedforward.up",
             "mlp.down_proj": "feedforward.down"}
    found = [("model.embed_tokens.weight", ["embedding.embedding"], False),
             ("model.norm.weight", ["norm.scale"], False)]
    for i in range(m.layers):
        ours, theirs = f"block_{i}", f"model.layers.{i}"
        found += [(f"{theirs}.input_layernorm.weight", [f"{ours}.norm_1.scale"], False),
                  (f"{theirs}.post_attention_layernorm.weight", [f"{ours}.norm_2.scale"], False)]
        for part, own in parts.items():
            found.append((f"{theirs}.{part}.weight", [f"{ours}.{own}.kernel"], True))
            found += [(f"{theirs}.{part}.bias", [f"{ours}.{own}.bias"], False)] if m.bias else []
    return found + ([] if m.tied else [("lm_head.weight", ["head.kernel"], True)])


def config(name: str, model: Decoder, vocabulary: int, length: int, dtype: str) -> dict[str, Any]:
    """What config.json says: sizes, and whatever the library would otherwise take from its own defaults."""
    end = vocabulary - 1
    shared = {"model_type": name, "vocab_size": vocabulary, "tie_word_embeddings": model.tied, "torch_dtype": dtype,
              "bos_token_id": end, "eos_token_id": end, "use_cache": True}
    if name == "gpt2":
        return shared | {
            "architectures": ["GPT2LMHeadModel"], "n_positions": length, "n_embd": model.width, "n_layer": model.layers,
            "n_head": model.heads, "n_inner": model.feedforward, "activation_function": GELUS[model.activation],
            "layer_norm_epsilon": model.norm_epsilon, "embd_pdrop": model.dropout, "resid_pdrop": model.dropout,
            "attn_pdrop": 0.0}
    if name != "llama":
        raise BadInput(f"layout {name}: no config.json is known of it")
    return shared | {
        "architectures": ["LlamaForCausalLM"], "hidden_size": model.width, "intermediate_size": model.feedforward,
        "num_hidden_layers": model.layers, "num_attention_heads": model.heads, "num_key_value_heads": model.kv,
        "head_dim": model.head_width, "hidden_act": "silu", "max_position_embeddings": length,
        "rms_norm_eps": model.norm_epsilon, "rope_theta": model.rotary_base, "attention_bias": model.bias,
        "mlp_bias": model.bias}


def options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a config.json says. Raises KeyError where it does not."""
    if name == "gpt2":
        keys = {"layers": "n_layer", "width": "n_embd", "heads": "n_head", "norm_epsilon": "layer_norm_epsilon"}
        more = {"hidden": config.get("n_inner") or 4 * config["n_embd"], "norm": "layer", "positions": "learned",
                "bias": True, "activation": {theirs: ours for ours, theirs in GELUS.items()}[
                    config["activation_function"]], "tied": config.get("tie_word_embeddings", True)}
    else:
        keys = {"layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads",
                "kv_heads": "num_key_value_heads", "hidden": "intermediate_size", "norm_epsilon": "rms_norm_eps"}
        more = {"rotary_base": rotary_base(config), "norm": "rms", "positions": "rotary", "activation": "swiglu",
                "bias": config.get("attention_bias", False), "tied": config.get("tie_word_embeddings", False)}
    return {ours: config[theirs] for ours, theirs in keys.items()} | more


def rotary_base(config: Mapping[str, Any]) -> float:
    """The base of rotary positions: `rope_theta`, which newer versions of the library say in `rope_parameters`. Raises
    KeyError where neither is there, BadInput where positions are stretched, which they are not here."""
    scaled = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (kind := scaled.get("rope_type", scaled.get("type", "default"))) != "default":
        raise BadInput(f'model.weights: config.json: rope_type = "{kind}": stretched positions are not known here: '
                       "take weights of a model without")
    return config["rope_theta"] if "rope_theta" in config else scaled["rope_theta"]


DECODERS = Layouts(layout, pairs, config, options=options, prefixes={"gpt2": "transformer.", "llama": "model."},
                   body={"gpt2": "h.", "llama": "layers."}, fresh=("head.kernel",))
