"""What the operations are tried on: values of their dtype, the same every time."""

import numpy as np

from twinscale.common.operations.judge import expected, inputs_of


def test_inputs_are_of_their_dtype_and_always_the_same():
    for name in expected("bfloat16"):
        for arrays in inputs_of(name, "bfloat16").values():
            for x in arrays:
                assert x.dtype.kind != "f" or x.dtype == np.float32 and not (x.view(np.uint32) & 0xFFFF).any()
    once = inputs_of("dense", "float64")["large"][0]
    inputs_of.cache_clear()
    assert np.array_equal(once, inputs_of("dense", "float64")["large"][0])
