"""Recipes as they were hashed before some keys were there: a key that is added later is added to `LATER` too."""

from twinscale.common.recipe.schema import digest

SAVING = {"save_every", "save_minutes", "keep", "keep_best", "trackers"}  # which no hash has ever had
LATER = {
    "objective": True, "adapt": True,
    "data": {"label", "inputs", "rows", "seed", "header", "quotes", "labels", "tags", "masked", "masked_by", "span",
             "augment_share", "next_sentence", "field_2", "rewrite", "augmenting", "size", "quality",
             "quality_options", "subset", "standardise", "mean", "deviation"},
    "model": {"weights", "bottleneck"},
    "jax": {"xla_options", "remat_save", "remat_offload", "splash", "shard_optimizer", "offload_optimizer",
            "loss_chunks", "fused"},
    "optimizer": {"freeze", "layer_decay"},
    "train": {"metrics", "class_weights", "watch", "stop_after", "products"},
    "compare": {"margin": {"f1_macro", "entity_f1"}},
}


def hashed_earlier(recipe):
    """The hash that a recipe without any later key had before there were such keys."""
    return digest(recipe.model_dump(mode="json", exclude=LATER | {"devices": True, "train": LATER["train"] | SAVING}))
