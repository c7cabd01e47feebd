"""Gradients that are made up."""

import numpy as np

from twinscale.common.families.parameters import Parameter
from twinscale.common.operations.synthetic import synthetic_gradients

TREE = {"stem.conv.kernel": Parameter((40, 50), 1.0), "stem.norm.mean": Parameter((4,)), "head.bias": Parameter((3,))}


def test_they_are_the_same_for_everybody_and_others_at_each_update():
    one, again, next_one = (synthetic_gradients(TREE, update) for update in (1, 1, 2))
    assert one.keys() == {"stem.conv.kernel", "head.bias"}  # what is not trained has none
    for name, x in one.items():
        assert x.shape == TREE[name].shape and x.tobytes() == again[name].tobytes() != next_one[name].tobytes()


def test_they_reach_over_many_orders_of_magnitude():
    sizes = np.abs(synthetic_gradients(TREE, 1)["stem.conv.kernel"])
    low, middle, high = np.quantile(sizes, [0.1, 0.5, 0.9])
    assert 1e-6 < low < 1e-4 < middle < 1e-2 < high < 1
