"""What a compression is: its schedules, what its stages start from and what they leave."""

import numpy as np
import pytest

from twinscale.common.compress import recipes as compress_recipes
from twinscale.common.compress import rules as compress
from twinscale.common.data import open_dataset
from twinscale.common.families.parameters import is_decayed, is_trained, parameters
from twinscale.common.recipe.schema import Recipe


def described(*stages, family="mlp", model=None, **sections):
    tiny = {"mlp": {"hidden": [16, 12]}, "convnet": {"channels": [4, 8]},
            "decoder": {"layers": 2, "width": 16, "heads": 2}}[family]
    data = {"source": "stdlib", "sequence": 16, "max_documents": 4, "held_out": 0.4} if family == "decoder" else {
        "source": "digits"}
    return Recipe.model_validate({"name": "tiny", "data": data, "model": {"family": family, **tiny, **(model or {})},
                                  "compress": {"stages": stages}, **sections})


@pytest.fixture(scope="module")
def digits():
    return open_dataset(described())


def arrays(recipe, dataset, seed=0):
    tree, rng = parameters(recipe.model, dataset.classes, dataset.example_shape), np.random.default_rng(seed)
    return {name: rng.standard_normal(p.shape).astype(np.float32) for name, p in tree.items()}


# ---- schedules

def test_sparsity_rises_to_the_final_one_and_never_falls():
    stage = described({"kind": "prune", "sparsity": 0.9, "initial": 0.3, "steps": 100, "every": 10}).compress.stages[0]
    updates = compress.mask_updates(stage)
    shares = [compress.sparsity_at(stage, update) for update in updates]
    assert updates == [10, 20, 30, 40, 50, 60, 70] == [u for u in range(1, 101) if compress.is_due(stage, u)]
    assert shares == sorted(shares) and shares[-1] == np.float32(0.9) and all(s.dtype == np.float32 for s in shares)
    half = described({"kind": "prune", "sparsity": 0.8, "end": 100, "steps": 100, "power": 1}).compress.stages[0]
    assert compress.sparsity_at(half, 50) == np.float32(0.4)


def test_two_of_four_is_made_once_and_constant_at_every_turn():
    once = described({"kind": "prune", "pattern": "2:4", "steps": 30}).compress.stages[0]
    assert compress.mask_updates(once) == [1]
    constant = described({"kind": "prune", "schedule": "constant", "begin": 4, "every": 8, "steps": 30})
    assert compress.mask_updates(constant.compress.stages[0]) == [4, 12, 20, 28]


# ---- stages

def test_what_is_kept_is_of_the_stages_since_the_last_student(digits):
    recipe = described({"kind": "prune"}, {"kind": "cluster", "names": ["layer_0.*kernel"]}, {"kind": "quantize"})
    extra = compress.extra_tensors
    tensors = extra(compress_recipes.stage_recipe(recipe, 2), digits)
    assert {"layer_0.kernel_centroids", "layer_0.kernel_mask", "head.kernel_mask"} <= tensors.keys()
    assert "head.kernel_centroids" not in tensors
    after = described({"kind": "prune"}, {"kind": "distil"}, {"kind": "quantize"})
    assert not any(name.endswith("_mask") for name in extra(compress_recipes.stage_recipe(after, 2), digits))
    alone = described({"kind": "prune"}, {"kind": "quantize", "preserve": False})
    assert not any(name.endswith("_mask") for name in extra(compress_recipes.stage_recipe(alone, 1), digits))


def test_centroids_alone_are_trained_beside_the_weights(digits):
    recipe = described({"kind": "prune"}, {"kind": "cluster"}, {"kind": "quantize"})
    extra = compress.extra_tensors(compress_recipes.stage_recipe(recipe, 2), digits)
    assert {name for name in extra if is_trained(name)} == {name for name in extra if name.endswith("_centroids")}
    assert not any(is_decayed(name) for name in extra)


def test_a_stage_leaves_what_its_masks_and_centroids_say(digits):
    recipe = described({"kind": "prune"}, {"kind": "cluster", "clusters": 4}, {"kind": "quantize"})
    left, rng = arrays(recipe, digits), np.random.default_rng(1)
    pruned = compress.first_tensors(compress_recipes.stage_recipe(recipe, 0), digits, left, {})
    assert all((x == 1).all() for name, x in pruned.items() if name.endswith("_mask"))
    for name in [name for name in pruned if name.endswith("_mask")]:
        pruned[name] = (rng.random(pruned[name].shape) < 0.25).astype(np.float32)
    left = compress.stripped(compress_recipes.stage_recipe(recipe, 0), pruned)
    assert left.keys() == arrays(recipe, digits).keys()
    clustered = compress.first_tensors(compress_recipes.stage_recipe(recipe, 1), digits, left, {})
    kept = compress.stripped(compress_recipes.stage_recipe(recipe, 1), clustered)
    last = compress_recipes.stage_recipe(recipe, 2)
    for name in (name for name in kept if name.endswith(".kernel")):
        assert len(np.unique(kept[name])) <= 4
        assert (kept[name][left[name] == 0] == 0).all()
    quantised = compress.first_tensors(last, digits, kept, {"head": (-1.0, 3.0), "inputs": (0.25, 1.0)})
    assert quantised["weights/head.range"].tolist() == [-1, 3] and quantised["weights/inputs.range"].tolist() == [0, 1]
    low, high = quantised["weights/head.kernel_range"]
    assert -low == high == np.abs(kept["head.kernel"]).max()
    tree = parameters(last.model, digits.classes, digits.example_shape)
    rows = compress.verified(last, tree, kept, compress.stripped(last, quantised))
    assert len(rows) == 3 and all(row["kept"] for row in rows)
    spoiled = compress.stripped(last, quantised)
    spoiled["head.kernel"] = spoiled["head.kernel"] + 1e-6
    assert [row["kept"] for row in compress.verified(last, tree, kept, spoiled)] == [True, True, False]


def test_one_place_is_quantised_once():
    convnet = compress.quantised_places(described(family="convnet").model)
    assert convnet["inputs"] == "all" and "stem.relu" in convnet and "pool" in convnet and "head" in convnet
    assert not {"stem.conv", "stem.norm", "stage_0.block_0.conv_1", "stage_0.block_0.norm_1"} & convnet.keys()
    decoder = compress.quantised_places(described(family="decoder").model)
    assert {"embedding.sum", "block_1.norm_2", "block_0.attention.mix", "head"} <= decoder.keys()
    assert "inputs" not in decoder
    assert not {name for name in decoder if name.endswith(("scores", "mask", "shares"))}


def test_matched_blocks_end_with_the_last():
    assert compress.matched_blocks(2, 6) == [(0, 2), (1, 5)]
    assert compress.matched_blocks(3, 3) == [(0, 0), (1, 1), (2, 2)]
