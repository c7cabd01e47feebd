"""LAMB by its paper."""

import numpy as np
import pytest

from twinscale.common.operations.references import FORMATS
from twinscale.common.optimizers import adamw
from twinscale.common.optimizers.lamb import reference
from twinscale.common.recipe.schema import Recipe

RULE = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"}, optimizer={"name": "lamb"}).optimizer
G = np.array([3.0, -1.0, 0.5], np.longdouble)
HELD = {"m": np.zeros(3, np.longdouble), "v": np.zeros(3, np.longdouble)}


def test_an_update_goes_adamws_way_as_far_as_the_weights_are_long():
    w = np.array([1.0, 2.0, -2.0], np.longdouble)
    u, theirs = (r(RULE, FORMATS["float64"], 1, 0.1, w, G, HELD)[0] for r in (reference, adamw.reference))
    assert float(np.linalg.norm(u.astype(float))) == pytest.approx(3.0)
    assert (u / u[0]).astype(float) == pytest.approx((theirs / theirs[0]).astype(float))


def test_weights_of_zero_are_moved_as_adamw_would():
    u, theirs = (r(RULE, FORMATS["float64"], 1, 0.1, 0 * G, G, HELD)[0] for r in (reference, adamw.reference))
    assert (u == theirs).all() and (u != 0).all()
