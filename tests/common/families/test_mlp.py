"""The perceptron."""

from twinscale.common.families.mlp import MLP
from twinscale.common.machine.flops import forward_flops


def test_an_mlps_products_are_counted():
    assert forward_flops(MLP(family="mlp", hidden=(5, 6)), 3, (2, 2, 1)) == 2 * (4 * 5 + 5 * 6 + 6 * 3)
