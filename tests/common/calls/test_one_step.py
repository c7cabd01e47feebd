"""A batch whose micro-batches weigh unlike."""

import math

import numpy as np

from twinscale.common.calls.one_step import share, uneven_batch


def test_micro_batches_of_an_uneven_batch_weigh_powers_of_two_of_what_they_did_and_nothing_else_moves():
    batch = {"weights": np.arange(1, 13, dtype=np.float32).reshape(6, 2), "inputs": np.arange(6)}
    found = uneven_batch(batch, 3)
    assert [math.frexp(share(i))[0] for i in range(3)] == [0.5] * 3 and len({share(i) for i in range(3)}) > 1
    for i in range(3):
        rows = slice(2 * i, 2 * i + 2)
        assert (found["weights"][rows] == share(i) * batch["weights"][rows]).all()
    assert found["weights"].dtype == np.float32 and found["inputs"] is batch["inputs"]
