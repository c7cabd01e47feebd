"""Gradient descent, with either momentum and without."""

import numpy as np
import pytest

from twinscale.common.operations.references import FORMATS
from twinscale.common.optimizers.sgd import SGD, reference, strides
from twinscale.common.recipe.schema import Recipe


def options(**more):
    return Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"},
                  optimizer={"name": "sgd", **more}).optimizer


@pytest.mark.parametrize("more, update", [({"momentum": 0.0}, 2.0), ({"momentum": 0.5}, 2.5),
                                          ({"momentum": 0.5, "nesterov": True}, 3.25)])
def test_an_update_is_the_gradient_and_what_momentum_makes_of_it(more, update):
    one = np.ones(1, np.longdouble)
    u, _, moved = reference(options(**more), FORMATS["float64"], 2, 0, one, 2 * one, {"m": one})
    assert float(u[0]) == update and float(moved["m"][0][0]) == (2 + more["momentum"])
    assert list(SGD.slots(options(**more))) == (["m"] if more["momentum"] else [])


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_largest_update_is_reached_by_gradients_of_one_sign(nesterov):
    o, m, found = options(momentum=0.9, nesterov=nesterov), np.zeros(1, np.longdouble), []
    noise = [1.0, 0.5, 2.0]
    for g in noise:
        u, _, moved = reference(o, FORMATS["float64"], 1, 0, m, np.array([g], np.longdouble), {"m": m})
        found.append(float(u[0]))
        m = moved["m"][0]
    assert strides(o, [1] * 3, noise, m) == pytest.approx(found)
