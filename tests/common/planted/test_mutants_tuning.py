"""What is planted in how a model begins, and in what is frozen or slowed, is there and gone afterwards."""

import math

import numpy as np

from twinscale.common.families import adapters, parameters, resnet
from twinscale.common.families.parameters import Parameter
from twinscale.common.optimizers import factors
from twinscale.common.planted.mutants_tuning import CHANGES
from twinscale.common.recipe.adapt import Adapt
from twinscale.common.recipe.schema import Recipe

VIT = Recipe.model_validate({"name": "mine", "data": {"source": "digits"}, "model": {"family": "vit", "layers": 2},
                             "optimizer": {"layer_decay": 0.5, "freeze": ["patch.*"]}})
NAMES = ("head.kernel", "block_1.norm_1.scale", "block_0.norm_1.scale", "class_token.embedding", "patch.kernel")


def rates():
    return [-math.log2(f) if (f := factors.factor_of(VIT, name)) else None for name in NAMES]


def test_rates_are_a_block_less_deep_where_that_is_planted():
    assert rates() == [0, 1, 2, 3, None]
    with CHANGES["rates_of_tables"].plant():
        assert rates() == [0, 1, 2, 2, None]
    with CHANGES["rates_from_the_top"].plant():
        assert rates() == [0, 0, 1, 3, None]
    assert rates() == [0, 1, 2, 3, None]


def test_a_bottleneck_halves_its_image_once_wherever_it_does():
    m = resnet.ResNet(family="resnet", layers=(1, 2), block="bottleneck", widths=(4, 4))

    def strides():
        return [[conv.stride for conv in block.convs] for block in resnet.blocks_of(m)]

    assert strides() == [[1, 1, 1], [1, 2, 1], [1, 1, 1]]
    with CHANGES["strided_first"].plant():
        assert strides() == [[1, 1, 1], [2, 1, 1], [1, 1, 1]]
    assert strides()[1] == [1, 2, 1]


def test_first_values_are_others_by_name():
    def first(name):
        return parameters.initial_value(name, Parameter((2,), constant=float("scale" in name)), 0, np.float64)

    for change, name in (("zero_last_norm", "stage_0.block_0.norm_3.scale"), ("drawn_adapters", "layer_0.lora_b")):
        right = first(name)
        with CHANGES[change].plant():
            assert not np.array_equal(first(name), right) and np.array_equal(first("norm_2.scale"), [1, 1])
        assert np.array_equal(first(name), right)


def test_adapters_count_by_alpha_alone_and_leave_nothing_where_it_is():
    recipe = VIT.with_values(adapt={"kind": "lora", "rank": 4, "alpha": 8.0})
    assert recipe.adapt.scale == 2 and adapters.stays(recipe, "block_0.attention.query.kernel")
    with CHANGES["alpha_alone"].plant():
        assert recipe.adapt.scale == 8
    with CHANGES["trained_kernels"].plant():
        assert not factors.is_frozen(recipe, "block_0.attention.query.kernel")
    assert factors.is_frozen(recipe, "block_0.attention.query.kernel") and Adapt().scale == 2
