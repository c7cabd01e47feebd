"""The best size for a budget is the best: any other of the same cost has a higher loss."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED
from twinscale.benchmarks.laws.curves import predicted
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.optimum import _sought, at, loss_at, optimum
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


@pytest.mark.parametrize("name", ["chinchilla", "over-training", "repetition", "precision", "sparsity"])
def test_many_laws_at_once_predict_what_each_alone_does_for_its_own_run(name):
    drawn = np.random.default_rng(0)
    public = np.array(PLANTED[name]) * drawn.uniform(0.9, 1.1, (50, len(PLANTED[name])))
    size, tokens = np.exp(drawn.uniform(np.log(1e6), np.log(1e11), (2, 50)))
    alone = [predicted(FORMS[name], public[i:i + 1], {key: column[0] for key, column in at(
        size[i:i + 1, None], tokens[i:i + 1, None]).items()})[0, 0] for i in range(50)]
    np.testing.assert_allclose(loss_at(FORMS[name], public, size, tokens), alone, rtol=4e-16)
