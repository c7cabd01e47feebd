"""Stages without a backend: what a flip is told from, and what a quantiser is asked."""

import numpy as np
import pytest

from twinscale.common.training.stages import spread, typical


def test_a_wrong_update_moves_the_typical_weight_and_a_flip_does_not():
    before = {"weights/layer_0.kernel": np.zeros(9), "m/layer_0.kernel": np.zeros(9)}
    one = {name: np.ones(9) for name in before}
    flipped = one | {"weights/layer_0.kernel": np.array([3.0, *[1.0] * 8])}
    assert typical(before, one, one) == typical(before, one, flipped) == 0.0
    wrong = one | {"weights/layer_0.kernel": np.full(9, 1.25)}
    assert typical(before, one, wrong) == pytest.approx(0.2)
    assert typical(before, one, one | {"m/layer_0.kernel": np.full(9, 5.0)}) == 0.0  # slots are no weights


def test_weights_that_nothing_has_moved_are_not_among_the_typical():
    before = {"weights/layer_0.kernel": np.zeros(9)}
    one, other = ({"weights/layer_0.kernel": np.array([x, *[0.0] * 8])} for x in (1.0, 2.0))
    assert typical(before, one, other) == pytest.approx(0.5)


def test_values_for_a_quantiser_fill_a_range_and_exceed_it_by_a_tenth():
    values = spread(-1.0, 3.0, 11)
    assert values.dtype == np.float32 and values[[0, -1]] == pytest.approx([-1.4, 3.4])
    assert np.ptp(np.diff(values)) < 1e-6
