"""Whether both backends compress the same tensors."""

import numpy as np

from twinscale.benchmarks.compression.parity import contract_rung

HELD = {"weights/head.kernel": np.zeros((8, 10)), "weights/head.kernel_mask": np.ones((8, 10))}


def test_a_contract_holds_where_names_and_shapes_are_equal_whatever_the_values():
    rung = contract_rung("1-prune", {"keras": HELD, "jax": {name: x + 1 for name, x in HELD.items()}})
    assert rung["agrees"] and rung["worst"] == 0 and "2 names and shapes" in rung["where"]


def test_a_contract_counts_and_names_what_one_side_lacks_or_has_in_another_shape():
    turned = {"weights/head.kernel": np.zeros((10, 8))}
    for states in ({"keras": HELD, "jax": turned}, {"keras": turned, "jax": HELD}):
        rung = contract_rung("1-prune", states)
        assert not rung["agrees"] and rung["worst"] == 2
        assert "weights/head.kernel, weights/head.kernel_mask" in rung["where"]
