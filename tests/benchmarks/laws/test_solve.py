"""The solver: planted laws come back, nothing else finds a lower objective, and what is not known is named."""

import numpy as np
import pytest
from scipy.optimize import minimize

from tests.benchmarks.laws.tables import PLANTED, planted
from twinscale.benchmarks.laws import solve
from twinscale.benchmarks.laws.curves import Curve
from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.losses import RobustLoss

ABSOLUTE = RobustLoss("absolute", 0.0)


def fitted(name, loss=None, **how):
    columns, y = planted(name, **how)
    curve, target = Curve(FORMS[name], columns), FORMS[name].target(y, columns)
    return curve, target, solve.fit(curve, target, loss or RobustLoss())


@pytest.mark.parametrize("name", FORMS)
def test_a_law_without_noise_comes_back(name):
    curve, target, found = fitted(name)
    assert found.converged and found.objective < 1e-10
    assert np.allclose(curve.public(found.theta[None])[0], PLANTED[name], rtol=2e-2)
    assert np.abs(curve.values(found.theta[None])[0] - target).max() < 1e-4


@pytest.mark.parametrize("loss", [RobustLoss(), ABSOLUTE, RobustLoss("asymmetric", 1e-3, 0.8)],
                         ids=lambda loss: loss.name)
def test_no_other_solver_finds_less(loss):
    curve, target, found = fitted("chinchilla", loss, noise=0.01)
    assert found.converged and found.agreeing > 1 and found.gradient < 1e-6

    def objective(theta):
        return loss.written(loss.values(curve.values(theta[None])[0] - target).sum())

    assert objective(found.theta) == pytest.approx(found.objective, rel=1e-12)
    for begin in (found.theta, found.theta * 1.02):
        assert minimize(objective, begin, method="Nelder-Mead", options={"maxiter": 400}).fun > (
            found.objective * (1 - 1e-9))


def test_an_absolute_fit_goes_through_as_many_rows_as_it_has_parameters():
    curve, target, found = fitted("chinchilla", ABSOLUTE, noise=0.01)
    residuals = np.abs(curve.values(found.theta[None])[0] - target)
    assert (residuals < 1e-10).sum() == 5 and found.gradient < 1e-10


def test_weightings_are_solved_at_once_as_each_alone():
    columns, y = planted("chinchilla", noise=0.01)
    curve, target = Curve(FORMS["chinchilla"], columns), np.log(y)
    weights = np.random.default_rng(3).integers(0, 3, (6, len(y))).astype(float)
    together = solve.minimise(curve, target, weights, solve.seeds(curve, target, weights)[:, 0], RobustLoss())
    assert together.converged.all()
    for i, row in enumerate(weights):
        alone = solve.fit(curve, target, RobustLoss(), row)
        assert together.objective[i] * 1e-3 == pytest.approx(alone.objective, rel=1e-9)


def test_what_the_rows_do_not_tell_is_ill_conditioned_and_named():
    columns, _ = planted("chinchilla", noise=0.0)
    tied = columns | {"D": 20 * columns["N"]}  # tokens follow sizes: alpha and beta may be exchanged
    y = 1.8 + 400 / tied["N"]**0.3 + 500 / tied["D"]**0.3
    y *= np.exp(0.001 * np.random.default_rng(0).standard_normal(len(y)))
    found = solve.fit(Curve(FORMS["chinchilla"], tied), np.log(y), RobustLoss())
    known = solve.fit(Curve(FORMS["chinchilla"], columns), np.log(planted("chinchilla", noise=0.001)[1]), RobustLoss())
    assert not 0 < found.condition < 1e6 and known.condition < 1e4
    assert found.weakest in ("A", "B", "alpha", "beta")


def test_an_exponent_that_is_held_stays():
    curve, target, found = fitted("chinchilla", noise=0.01)
    begin = found.theta[None].copy()
    begin[0, 0] = 0.4
    held = solve.minimise(curve, target, np.ones((1, len(target))), begin, RobustLoss(), held=(0,))
    assert held.theta[0, 0] == 0.4 and held.objective[0] * 1e-3 > found.objective
