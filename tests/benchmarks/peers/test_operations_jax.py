"""Single operations in JAX: they are what they are called."""

import numpy as np
import pytest

from twinscale.benchmarks.peers.operations import CALL, SQUARED

side = pytest.importorskip("twinscale.benchmarks.peers.operations_jax")


def test_every_operation_is_computed(not_as_meant):
    assert not_as_meant(side.made) == []


def test_a_product_of_a_square_and_next_to_nothing_are_what_they_are_called():
    square = np.array([[1, 2], [3, 4]], np.float32)
    assert np.asarray(side.made(SQUARED, [square])()).tolist() == [[7, 10], [15, 22]]
    assert np.asarray(side.made(CALL, [square[0]])()).tolist() == [2, 3]


def test_an_update_goes_on_from_the_last_one():
    once = side.made("update", [np.ones(3, np.float32)])
    first, second = (np.asarray(once()[0]).copy() for _ in range(2))
    assert (second < first).all() and (first < 0).all()
