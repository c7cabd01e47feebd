"""The best size for a budget is the best: any other of the same cost has a higher loss."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.optimum import _sought, loss_at, optimum
from twinscale.benchmarks.planning.laws import Law


@pytest.mark.parametrize("name", ["chinchilla", "over-training", "repetition", "precision", "sparsity"])
def test_no_other_size_of_the_same_cost_is_better(name):
    form, public = FORMS[name], np.array([PLANTED[name], [1.01 * value for value in PLANTED[name]]])
    best = optimum(form, public, 1e21)
    assert np.allclose(6 * best["N"] * best["D"], 1e21) and np.allclose(best["ratio"], best["D"] / best["N"])
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert (loss_at(form, public, best["N"] * factor, best["D"] / factor) > best["loss"]).all()


def test_the_equation_is_what_a_search_finds_and_what_plan_takes():
    public = np.array([PLANTED["chinchilla"]])
    best = optimum(FORMS["chinchilla"], public, 1e22)
    assert _sought(FORMS["chinchilla"], public, 1e22)[0] == pytest.approx(best["N"][0], rel=1e-5)
    alpha, beta, a, b, e = PLANTED["chinchilla"]
    assert Law(e, a, b, alpha, beta).best(1e22)[0] == pytest.approx(best["N"][0], rel=1e-12)
