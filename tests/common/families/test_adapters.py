"""Adapters of kernels: where they lie, what they begin with, what stays, and what is left when they are merged."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.adapters import check_adapters, kernel_of, merged, said, stays, tree_of
from twinscale.common.families.parameters import Parameter, initial_values, is_decayed, is_trained
from twinscale.common.optimizers.factors import factor_of, is_frozen, moves_all_alike
from twinscale.common.recipe.schema import Recipe

DECODER = {"family": "decoder", "layers": 2, "width": 16, "heads": 2, "tied": False}
SHAPE = 257, (16,)


def recipe(model=DECODER, **adapt):
    return Recipe(name="x", data={"source": "stdlib" if model["family"] == "decoder" else "digits"}, model=model,
                  adapt={"kind": "lora", "rank": 4, **adapt})


def test_beside_each_target_lie_two_small_kernels_and_the_first_product_is_nothing():
    made = recipe(targets=["block_1.*.query.kernel", "head.kernel"])
    plain, tree = tree_of(recipe(kind="none"), *SHAPE), tree_of(made, *SHAPE)
    beside = {name: tree[name].shape for name in tree.keys() - plain.keys()}
    assert beside == {"block_1.attention.query.lora_a": (16, 4), "block_1.attention.query.lora_b": (4, 16),
                      "head.lora_a": (16, 4), "head.lora_b": (4, 257)}
    assert all(is_trained(name) and is_decayed(name) and kernel_of(name) in plain for name in beside)
    first = initial_values(tree, 3, np.float32)
    assert 0.15 < first["head.lora_a"].std() < 0.35 and not first["head.lora_b"].any()  # 1 / sqrt(16)
    assert all(np.array_equal(x, first[name]) for name, x in initial_values(plain, 3, np.float32).items())
    left = merged(made, first)
    assert left.keys() == plain.keys() and all(np.array_equal(left[name], first[name]) for name in plain)


def test_merged_kernels_have_the_product_rounded_once():
    made, drawn = recipe(targets=["head.kernel"], alpha=2.0), np.random.default_rng(0)
    tensors = {"head.kernel": drawn.normal(size=(16, 9)), "head.lora_a": drawn.normal(size=(16, 4)),
               "head.lora_b": drawn.normal(size=(4, 9)), "head.bias": drawn.normal(size=9)}
    tensors = {name: x.astype(np.float32) for name, x in tensors.items()}
    exact = tensors["head.kernel"].astype(np.longdouble) + 0.5 * (
        tensors["head.lora_a"].astype(np.longdouble) @ tensors["head.lora_b"].astype(np.longdouble))
    left = merged(made, tensors)
    assert left.keys() == {"head.kernel", "head.bias"} and left["head.kernel"].dtype == np.float32
    assert (np.abs(left["head.kernel"] - exact) <= 0.5001 * np.spacing(np.abs(left["head.kernel"]))).all()


def test_all_stays_but_adapters_and_what_is_named():
    made = recipe()
    assert not stays(made, "block_0.attention.query.lora_a") and not stays(made, "head.kernel")
    assert is_frozen(made, "block_0.attention.query.kernel") and is_frozen(made, "embedding.embedding")
    assert factor_of(made, "block_0.attention.value.lora_b") == 1 and not moves_all_alike(made)
    assert moves_all_alike(recipe(kind="none"))
    assert "adapters: 4 of rank 4" in said(made, tree_of(made, *SHAPE)) and said(recipe(kind="none"), {}) == ""


def test_of_bottleneck_adapters_all_stays_but_they_and_nothing_is_merged():
    made = Recipe(name="x", data={"source": "stdlib"}, model=DECODER, adapt={"kind": "bottleneck", "width": 5})
    tree = tree_of(made, *SHAPE)
    check_adapters(made, tree)
    inside = {name for name in tree if ".adapter." in name}
    assert len(inside) == 2 * 2 * 4 and not any(stays(made, name) for name in inside)
    assert all(stays(made, name) for name in tree.keys() - inside - {"head.kernel"}) and not moves_all_alike(made)
    values = 4 * (2 * 16 * 5 + 16 + 5)
    assert f"adapters: 4 of width 5; {values + 16 * 257:,} values are trained" in said(made, tree)
    first = initial_values(tree, 3, np.float32)
    assert merged(made, first).keys() == tree.keys()
    with pytest.raises(BadInput, match='adapt.train: "heads'):
        check_adapters(made.with_values(adapt={"train": ["heads.*"]}), tree)


@pytest.mark.parametrize(("adapt", "said"), [
    ({"targets": ["*.qwery.kernel"]}, r'adapt.targets: "\*.qwery.kernel": no kernel of two axes is called so'),
    ({"targets": ["*.bias"]}, "no kernel of two axes"), ({"train": ["heads.*"]}, 'adapt.train: "heads'),
    ({"rank": 17}, r"adapt.rank=17: block_0.attention.query.kernel \(16, 16\) has no more than 16")])
def test_patterns_of_nothing_and_ranks_too_high_are_refused(adapt, said):
    with pytest.raises(BadInput, match=said):
        check_adapters(recipe(**adapt), tree_of(recipe(**adapt), *SHAPE))
    check_adapters(recipe(), tree_of(recipe(), *SHAPE))


def test_what_no_file_has_does_not_stay_at_random():
    made = recipe()
    tree = {"pooler.kernel": Parameter((16, 16)), "a.query.kernel": Parameter((16, 16), start=lambda: None),
            "b.value.kernel": Parameter((16, 16), start=lambda: None), "head.kernel": Parameter((16, 3))}
    held = made.model_copy(update={"model": made.model.model_copy(update={"weights": "x"})})
    with pytest.raises(BadInput, match=r'pooler.kernel: not in the file of model.weights.*add "pooler\.\*"'):
        check_adapters(held, tree)
