"""What an instruction costs, by itself."""

import numpy as np
import pytest

from twinscale.benchmarks.preflight.hlo_costs import mesh_groups, valid_pairs


@pytest.mark.parametrize("arguments, pairs", [
    ((8, 3, 8, 1, 1, 1, 1), 22), ((8, 3, 4, 0, 2, 1, 1), 11), ((8, 3, 4, 1, 2, 1, 1), 11), ((8, 1, 4, 0, 2, 1, 1), 4),
    ((4, 3, 8, 1, 1, 2, 1), 11), ((8, 3, 8, 2, 1, 1, 2), 20)])
def test_pairs_are_those_that_a_loop_would_find(arguments, pairs):
    size, window, positions, pad, stride, base, dilation = arguments
    at = [p * stride + w * dilation - pad for p in range(positions) for w in range(window)]
    assert valid_pairs(*arguments) == pairs == sum(x % base == 0 and 0 <= x // base < size for x in at)


def test_groups_along_axes_of_a_mesh():
    assert mesh_groups("'a'=2,'b'=3", "'a'", "").tolist() == [[0, 3], [1, 4], [2, 5]]
    assert mesh_groups("'a'=4", "'a':(1)2", "").tolist() == [[0, 2], [1, 3]]
    assert mesh_groups("'a'=4", "'a':(2)2", "").tolist() == [[0, 1], [2, 3]]
    assert np.array_equal(mesh_groups("'a'=2,'b'=2", "'a','b'", ""), [[0, 1, 2, 3]])
