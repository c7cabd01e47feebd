"""How arrays lie in a layout."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.ways import FIRST, KERNEL, WAYS, shape_there, to_ours, to_theirs


@pytest.mark.parametrize("how", WAYS)
def test_what_goes_there_comes_back_bit_for_bit(how):
    shape = (3, 2, 5, 7) if how == KERNEL else (3, 2)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    there = to_theirs(x, how)
    assert there.shape == shape_there(shape, how) and there.flags["C_CONTIGUOUS"]
    assert to_ours(there, how).tobytes() == x.tobytes()


def test_a_kernels_axes_are_torchs():
    x = np.zeros((3, 2, 5, 7))
    x[1, 0, 4, 6] = 1
    assert to_theirs(x, KERNEL)[6, 4, 1, 0] == 1 and shape_there((4, 8), FIRST) == (1, 4, 8)
    with pytest.raises(BadInput, match="a layout's way='sideways'"):
        to_theirs(x, "sideways")
