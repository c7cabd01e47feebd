"""The bounds of the operations."""

from twinscale.common.numbers.formats import walk
from twinscale.common.operations.catalogue import OPERATIONS


def test_bounds_are_a_few_eps_for_an_element_and_a_root_for_a_sum():
    assert all(OPERATIONS[name].wide <= 16 for name in ("gelu", "gelu_tanh", "swiglu", "relu", "rotary", "dropout"))
    assert walk(16) == 8 and walk(400) == 70
