"""Three ways to the compute-optimal size come to the same where the law is planted."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import PLANTED
from twinscale.benchmarks.laws import approaches
from twinscale.benchmarks.laws.curves import predicted
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.optimum import optimum

PUBLIC = np.array([PLANTED["chinchilla"]])


def profiles(budgets=(1e18, 1e19, 1e20, 1e21), sizes=9, reach=1.0):
    """Runs of equal compute, their sizes around the best of each."""
    best = [optimum(FORMS["chinchilla"], PUBLIC, c)["N"][0] for c in budgets]
    n = np.concatenate([size * np.exp(np.linspace(-reach, reach, sizes)) for size in best])
    c = np.repeat(budgets, sizes)
    columns = {"N": n, "C": c, "D": c / (6 * n)}
    return columns, predicted(FORMS["chinchilla"], PUBLIC, columns)[0]


@pytest.mark.parametrize("approach", [approaches.envelope, approaches.isoflop])
def test_an_approach_finds_the_planted_exponent_and_sizes(approach):
    columns, loss = profiles()
    found = approach(columns, loss, np.ones((1, len(loss))))
    alpha, beta = PUBLIC[0, :2]
    assert found.exponent[0] == pytest.approx(beta / (alpha + beta), abs=0.02)
    for flops in (1e19, 1e22):
        assert found.at(flops)[0] == pytest.approx(optimum(FORMS["chinchilla"], PUBLIC, flops)["N"][0], rel=0.25)


def test_budgets_are_told_apart_whatever_the_order():
    flops = np.array([1e19, 1.02e18, 1e18, 1.01e19, 3e18])
    assert approaches.budgets(flops).tolist() == [2, 0, 0, 2, 1]


def test_a_parabola_says_why_it_has_no_minimum():
    columns, loss = profiles((1e19,))
    assert approaches.parabolas(columns, loss)[0].status == "minimum"
    right = columns["N"] > columns["N"][4] * 1.1
    assert "outside" in approaches.parabolas({k: x[right] for k, x in columns.items()}, loss[right])[0].status
    assert "no minimum" in approaches.parabolas(columns, -loss)[0].status
    assert "3 sizes" in approaches.parabolas({k: x[:3] for k, x in columns.items()}, loss[:3])[0].status


def test_what_is_not_drawn_is_not_there():
    columns, loss = profiles()
    weights = np.ones((2, len(loss)))
    weights[1, columns["C"] < 1e19] = 0
    few = {name: column[columns["C"] >= 1e19] for name, column in columns.items()}
    both = approaches.isoflop(columns, loss, weights)
    alone = approaches.isoflop(few, loss[columns["C"] >= 1e19], np.ones((1, len(few["N"]))))
    assert both.exponent[1] == pytest.approx(alone.exponent[0], rel=1e-9)
