"""AdamW by its paper."""

import math

import numpy as np
import pytest

from twinscale.common.operations.references import FORMATS
from twinscale.common.optimizers.adamw import reference
from twinscale.common.recipe.schema import Recipe

RULE = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"},
              optimizer={"name": "adamw", "epsilon": 1e-3}).optimizer


def test_updates_are_those_of_the_paper_written_out_in_floats():
    w, m, v = 0.5, 0.0, 0.0
    held = {"m": np.zeros(1, np.longdouble), "v": np.zeros(1, np.longdouble)}
    for t, g in enumerate((0.3, -2.0, 0.01), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        wanted = m / (1 - 0.9**t) / (math.sqrt(v / (1 - 0.999**t)) + 1e-3) + 0.1 * w
        u, scale, moved = reference(RULE, FORMATS["float64"], t, 0.1, np.array([w], np.longdouble),
                                    np.array([g], np.longdouble), held)
        held = {name: x for name, (x, _) in moved.items()}
        assert float(u[0]) == pytest.approx(wanted, rel=1e-12) and float(scale[0]) >= abs(wanted)
        assert [float(held[name][0]) for name in "mv"] == pytest.approx([m, v], rel=1e-12)
        w -= 1e-2 * wanted


def test_the_first_update_is_a_sign_where_epsilon_is_nothing():
    o = RULE.model_copy(update={"epsilon": 1e-30})
    g = np.array([3.0, -1e-4], np.longdouble)
    zeros = np.zeros(2, np.longdouble)
    assert reference(o, FORMATS["float64"], 1, 0, zeros, g, {"m": zeros, "v": zeros})[0] == pytest.approx([1, -1])
