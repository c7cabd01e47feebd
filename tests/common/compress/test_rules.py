"""What a compression is: its stages as recipes, what they start from and leave, and what is refused before training."""

import numpy as np
import pytest

from twinscale.common.compress import check as compress_check
from twinscale.common.compress import recipes as compress_recipes
from twinscale.common.compress import rules as compress
from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import is_decayed, is_trained, parameters
from twinscale.common.recipe.file import dumps, load
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


# The nearest that works is named.
@pytest.mark.parametrize(("stage", "said"), [
    ({"every": 7, "end": 90}, "never reached.*set end=84"),
    ({"steps": 50, "end": 60}, "never reached.*due at update 60 and steps=50"),
    ({"begin": 20, "end": 10}, "end=10 is not after begin=20"),
    ({"sparsity": 0.5, "initial": 0.6}, "initial=0.6 is above")])
def test_a_schedule_that_never_arrives_is_refused(stage, said):
    with pytest.raises(ValueError, match=said):
        described({"kind": "prune", **stage})


# ---- refused before training

@pytest.mark.parametrize(("stages", "sections", "said"), [
    ([{"kind": "prune", "names": ["block_*"]}], {}, 'names "block_\\*" matches no parameter; there are layer_0.kernel'),
    ([{"kind": "prune", "names": ["*.bias"]}], {}, "matches layer_0.bias, which cannot be pruned"),
    ([{"kind": "cluster", "names": ["*"]}], {}, "matches layer_0.bias, which cannot be clustered"),
    ([{"kind": "prune", "pattern": "2:4", "names": ["layer_1.kernel"]}], {"model": {"hidden": [18, 12]}},
     "multiple of 4, but layer_1.kernel has 18"),
    ([{"kind": "prune", "pattern": "4x4"}], {"family": "convnet"}, "kernels of two axes, but stem.conv.kernel"),
    ([{"kind": "quantize"}], {"train": {"precision": "bfloat16"}}, 'set train.precision="float32"'),
    ([{"kind": "prune", "pattern": "2:4", "names": ["layer_1.kernel"]}], {"train": {"precision": "float64"}},
     'set train.precision="float32"'),
    ([{"kind": "quantize"}, {"kind": "prune"}], {}, "make it the last stage"),
    ([{"kind": "distil", "hidden": 1.0}], {}, "of decoders, but the model is a mlp"),
    ([{"kind": "distil", "hidden": 1.0, "student": {"width": 8}}], {"family": "decoder"}, "the teacher's width 16"),
    ([{"kind": "distil", "attention": 1.0, "student": {"heads": 4}}], {"family": "decoder"}, "the teacher's 2 heads"),
    ([{"kind": "distil", "labels": 0.0, "logits": 0.0}], {}, "nothing to learn")])
def test_what_cannot_be_done_is_refused_by_name(stages, sections, said):
    recipe = described(*stages, **sections)
    with pytest.raises(BadInput, match=said):
        compress_check.check_stages(recipe, open_dataset(recipe))


@pytest.mark.parametrize(("data", "said"), [
    ({"tokenizer": "bpe"}, 'another vocabulary: data.tokenizer="bpe" there'),
    ({"sequence": 32}, "another length of rows: data.sequence=32 there")])
def test_a_teacher_with_another_vocabulary_is_refused(data, said):
    recipe = described({"kind": "distil", "teacher": "runs/teacher"}, family="decoder")
    taught = recipe.with_values(data=data, compress={"stages": ()})
    with pytest.raises(BadInput, match=said.replace('"', "['\"]")):
        compress_recipes.resolved(recipe, lambda path: (taught, {}))


def test_a_teachers_model_becomes_part_of_the_recipe():
    recipe = described({"kind": "distil", "teacher": "runs/teacher"}, family="decoder")
    taught = recipe.with_values(model={"layers": 4}, compress={"stages": ()})
    found, teachers = compress_recipes.resolved(recipe, lambda path: (taught, {"a": 1}))
    assert found.compress.stages[0].teacher_model.layers == 4 and teachers == {0: {"a": 1}}
    assert compress_recipes.teacher_model(compress_recipes.stage_recipe(found, 0)) == taught.model


# ---- stages

def test_a_stage_is_a_recipe_that_survives_a_file(tmp_path):
    recipe = described({"kind": "distil", "student": {"hidden": (8,)}}, {"kind": "prune"}, {"kind": "post_training"})
    for number in range(3):
        stage = compress_recipes.stage_recipe(recipe, number)
        (tmp_path / "stage.toml").write_text(dumps(stage))
        assert load(tmp_path / "stage.toml", []) == stage and hash(stage)
        assert stage.model.hidden == (8,) and len(stage.compress.stages) == number + 1
    hashes = {recipe.hash, *(compress_recipes.stage_recipe(recipe, n).hash for n in range(3))}
    seeds = {recipe.seed, *(compress_recipes.stage_recipe(recipe, n).seed for n in range(3))}
    assert len(hashes) == len(seeds) == 4


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
