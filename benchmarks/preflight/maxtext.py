"""A recipe as MaxText's configuration: the same model, batch, optimizer, mesh and kernel, under MaxText's own names
(`maxtext/configs/base.yml` and `types.py` of MaxText 0.2.5). What it does not say stays at MaxText's defaults."""

from collections.abc import Mapping
from typing import Any

from twinscale.common.errors import BadInput
from twinscale.common.machine.topology import Topology
from twinscale.common.recipe.schema import Recipe, micro_batch
from twinscale.common.registry import short

PEER = "--peers maxtext-compile"
# {key: (what MaxText has, as a value and for people)}; all else that a recipe may say there is refused.
ONLY = {
    "model.family": ("decoder", "its decoders are"), "model.norm": ("rms", "its Llama blocks have"),
    "model.positions": ("rotary", "its Llama blocks have"), "model.activation": ("swiglu", "its Llama blocks have"),
    "model.bias": (False, "its Llama blocks have"), "model.bottleneck": (0, "it has no such adapters, but"),
    "model.dropout": (0.0, "what is compared is"), "objective.name": ("cross-entropy", "its loss is"),
    "optimizer.name": ("adamw", "what is compared is"), "optimizer.ema": (0.0, "it keeps no average:"),
    "optimizer.freeze": ((), "it trains every tensor:"), "optimizer.layer_decay": (1.0, "its layers learn alike:"),
    "adapt.kind": ("none", "what is compared is"), "train.precision": ("bfloat16", "what is compared is"),
    "train.label_smoothing": (0.0, "its loss has"),
    "jax.remat": ("full", "the policy that both have is"), "devices.sequence": (1, "it is compared with")}


def check(recipe: Recipe) -> None:
    """Raises BadInput, with the key, for what MaxText has not, or not as we have it."""
    for key, (value, why) in ONLY.items():
        table, name = key.split(".")
        given = getattr(getattr(recipe, table), name, value)
        if given != value:
            raise BadInput(f"{PEER}: {key} = {told(given)}: {why} {told(value)}; set it, or leave --peers out")


def told(value: Any) -> str:
    """A value as a recipe's file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{short(value)}"' if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)


def config(recipe: Recipe, classes: int, topology: Topology, kernel: str | None) -> dict[str, Any]:
    """{MaxText's key: value} of a recipe that is `placed` on a topology.

    Args:
      classes: rows of the vocabulary.
      kernel: what computes our attention, "splash" or "einsum".
    Raises BadInput for what MaxText has not.
    """
    check(recipe)
    o: Any = recipe.optimizer  # AdamW's options, as `check` has seen
    m, devices = recipe.model, recipe.devices
    share = micro_batch(recipe) / topology.devices
    return {
        "run_name": "peer", "enable_checkpointing": False, "dataset_type": "synthetic", "log_config": False,
        "compile_topology": cloud_name(topology), "compile_topology_num_slices": topology.slices,
        **model(m, classes), "attention": "flash" if kernel == "splash" else "dot_product",
        "dtype": "bfloat16", "weight_dtype": "float32", "remat_policy": "full", "scan_layers": recipe.jax.scan,
        "per_device_batch_size": int(share) if share.is_integer() else share,
        "gradient_accumulation_steps": recipe.train.accumulate, "max_target_length": recipe.data.sequence,
        "packing": False, "enable_dropout": False, "z_loss_multiplier": recipe.train.z_loss,
        "opt_type": "adamw", "adam_b1": o.beta1, "adam_b2": o.beta2, "adam_eps": o.epsilon,
        "adam_weight_decay": o.weight_decay, "gradient_clipping_threshold": o.clip_norm,
        "learning_rate": o.learning_rate, "steps": recipe.train.steps,
        "dcn_data_parallelism": devices.replica, "ici_data_parallelism": devices.data,
        "ici_fsdp_parallelism": devices.fsdp, "ici_tensor_parallelism": devices.tensor}


def model(m: Any, classes: int) -> dict[str, Any]:
    """Of a decoder's sizes: its Llama block has no biases, RMS norms, rotated halves and a SiLU gate, as ours."""
    return {"decoder_block": "llama2", "base_num_decoder_layers": m.layers, "base_emb_dim": m.width,
            "base_num_query_heads": m.heads, "base_num_kv_heads": m.kv, "head_dim": m.head_width,
            "base_mlp_dim": m.feedforward, "vocab_size": classes, "normalization_layer_epsilon": m.norm_epsilon,
            "rope_max_timescale": round(m.rotary_base), "logits_via_embedding": m.tied,
            "normalize_embedding_logits": False}


def cloud_name(topology: Topology) -> str:
    """A slice as Google Cloud names it, and MaxText: v5e-16, v5p-128."""
    return f"{topology.chip.name}-{topology.chips // topology.slices * topology.chip.cores}"


def job(recipe: Recipe, classes: int, topology: Topology, kernel: str | None) -> Mapping[str, Any]:
    """What `benchmarks/peers/maxtext_compile.py` is asked, but for where its module goes."""
    return {"config": config(recipe, classes, topology, kernel), "shape": "x".join(map(str, topology.shape))}
