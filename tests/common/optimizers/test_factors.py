"""Shares of the learning rate: by depth, none of what is frozen, and patterns that mean nothing."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import parameters
from twinscale.common.optimizers.factors import check_factors, factor_of, factors, is_frozen, moves_all_alike
from twinscale.common.recipe.schema import Recipe

DECODER = {"family": "decoder", "layers": 3, "width": 8, "heads": 2}


def recipe(model=DECODER, source="stdlib", **optimizer):
    return Recipe(name="x", data={"source": source}, model=model, optimizer=optimizer)


def names(made):
    return list(parameters(made.model, 257, (16,)))


def test_rates_fall_from_the_head_to_what_comes_before_the_blocks():
    made = recipe(layer_decay=0.5)
    assert [factor_of(made, f"block_{i}.norm_1.scale") for i in range(3)] == [0.125, 0.25, 0.5]
    assert factor_of(made, "embedding.embedding") == 0.5**4
    assert factor_of(made, "head.kernel") == factor_of(made, "norm.scale") == 1
    assert moves_all_alike(recipe()) and not moves_all_alike(made)


def test_what_is_frozen_has_none_of_the_rate_and_stacked_blocks_have_each_its_own():
    made = recipe(layer_decay=0.5, freeze=["block_1.*", "*.bias"])
    assert is_frozen(made, "block_1.norm_1.scale") and is_frozen(made, "block_2.norm_1.bias")
    assert factor_of(made, "block_1.norm_1.scale") == 0
    assert np.array_equal(factors(made, "blocks.norm_1.scale"), [0.125, 0, 0.5])
    assert factors(made, "embedding.embedding") == 0.5**4


def test_a_pattern_of_nothing_and_a_model_that_is_frozen_whole_are_refused():
    for options, said in (({"freeze": ["blok_0.*"]}, r'"blok_0.\*": no trained tensor is called so'),
                          ({"freeze": ["*"]}, "there is nothing to train")):
        made = recipe(**options)
        with pytest.raises(BadInput, match=said):
            check_factors(made, names(made))
    check_factors(recipe(freeze=["block_0.*"]), names(recipe()))


def test_rates_fall_over_blocks_alone():
    made = recipe({"family": "mlp"}, "digits", layer_decay=0.9)
    with pytest.raises(BadInput, match=r'layer_decay: model.family = "mlp" has no blocks'):
        check_factors(made, ["layer_0.kernel", "head.kernel"])


def test_stages_of_a_compression_take_neither():
    with pytest.raises(ValueError, match="stages of a compression move every tensor alike"):
        Recipe(name="x", model=DECODER, optimizer={"freeze": ["block_0.*"]}, compress={"stages": [
            {"kind": "quantize", "steps": 20}]})


def test_recipes_that_say_nothing_of_it_keep_their_hashes():
    assert recipe().hash == recipe(freeze=[], layer_decay=1.0).hash != recipe(layer_decay=0.9).hash
