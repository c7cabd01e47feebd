"""Lion by its paper."""

import numpy as np
import pytest

from twinscale.common.operations.references import FORMATS
from twinscale.common.optimizers.lion import reference, signs
from twinscale.common.recipe.schema import Recipe

RULE = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"},
              optimizer={"name": "lion", "beta1": 0.75, "beta2": 0.5}).optimizer


def test_an_update_is_the_sign_of_the_one_mean_and_the_slot_the_other():
    w, g = (np.array(x, np.longdouble) for x in ([1.0, 1.0], [2.0, -8.0]))
    u, _, moved = reference(RULE, FORMATS["float64"], 1, 0.5, w, g, {"m": np.array([1.0, 2.0], np.longdouble)})
    assert u.tolist() == [1.5, -0.5]  # signs of 0.75 + 0.5 and 1.5 - 2, and half the weights
    assert moved["m"][0].tolist() == [1.5, -3.0]


def test_a_sum_that_cancels_has_no_sure_sign_and_its_scale_says_so():
    g, m = np.array([3.0], np.longdouble), np.array([-1.0], np.longdouble)
    assert np.isinf(reference(RULE, FORMATS["float64"], 1, 0, g, g, {"m": m})[1]).all()
    total, scale = signs(RULE, {"m": m}, g)
    assert total == pytest.approx(0) and scale == pytest.approx(1.5)
