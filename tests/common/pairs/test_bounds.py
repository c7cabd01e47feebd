"""What rounding may do to a program's numbers."""

import numpy as np

from twinscale.common.numbers.formats import EPS
from twinscale.common.pairs.bounds import TWINS, WIDER, allowed, dithered, floor
from twinscale.common.pairs.tensors import Tensor

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def test_a_mask_of_zeros_and_ones_is_as_exact_as_it_is_given():
    """With a factor of 1e9 a rounding of it would be as much as all logits, and hide whatever is wrong."""
    assert (dithered({"mask": np.ones(9, np.float32)}, 1e-3)["mask"] == 1).all()
    assert (dithered((X,), 1e-3)[0] != X).any() and (dithered(X, 0.0) == X).all()


def test_a_longer_sum_may_round_more_often():
    short, long = ([Tensor("kernel", (width, 4)), Tensor("bias", (4,))] for width in (16, 4096))
    assert EPS["float32"] < floor(short, "float32") < floor(long, "float32") < 1e-4
    assert allowed(short, "float32", 1e-3) == TWINS * 1e-3
    assert allowed(short, "float64", 0.0) == WIDER["float64"] * floor(short, "float64")
