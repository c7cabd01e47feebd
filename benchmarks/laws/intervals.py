"""How far a fit may be trusted: bootstraps by run, profiles of exponents, and what is held out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from twinscale.benchmarks.laws import solve
from twinscale.benchmarks.laws.curves import Curve, predicted
from twinscale.benchmarks.laws.forms import Form
from twinscale.benchmarks.laws.losses import RobustLoss
from twinscale.common.errors import BadInput

CHUNK = 250  # resamples that are solved at once
APPROACHED = 1e-4  # delta in place of an absolute loss's 0, of resamples: exact programs would take minutes
LEVEL = 0.9


class Boots(NamedTuple):
    """Refits of resampled runs."""

    public: np.ndarray  # (B, P) as people write them
    residuals: np.ndarray  # (rows,) of the fit of all, widened, from which prediction intervals draw
    converged: int


def bootstrap(curve: Curve, target_n: np.ndarray, runs_n: np.ndarray, loss: RobustLoss, count: int,
              residuals_n: np.ndarray, seed: int = 42) -> Boots:
    """Refits of `count` resamples with replacement (Efron 1979), of whole runs: checkpoints of one run are not
    independent, and resampling them makes intervals too narrow.

    Args:
      runs_n: the run that each row is of.
      residuals_n: of the fit of all rows, observed minus predicted logarithms.
    """
    smooth = loss if loss.delta else loss.with_delta(APPROACHED)
    weights = resampled(runs_n, count, seed)
    found, converged = [], 0
    for begin in range(0, count, CHUNK):
        mine = weights[begin:begin + CHUNK]
        led = solve.minimise(curve, target_n, mine, solve.seeds(curve, target_n, mine)[:, 0], smooth)
        found.append(curve.public(led.theta))
        converged += int(led.converged.sum())
    # A fit of P parameters comes nearer to its own n rows than to others: by sqrt((n - P) / n), of least squares.
    rows, fitted = len(target_n), len(curve.form.parameters) - curve.form.ones
    return Boots(np.concatenate(found), residuals_n * np.sqrt(rows / max(rows - fitted, 1)), converged)


def resampled(runs_n: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(count, rows): how often each row counts in a resample of its run."""
    import pandas

    number, names = pandas.factorize(runs_n)  # in their order, so that a seed's draws are those of the rows
    draws = np.random.RandomState(seed)
    return np.stack([np.bincount(draws.choice(len(names), len(names)), minlength=len(names))
                     for _ in range(count)])[:, number].astype(float)


def ends(values_Bx: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """(2, ...): low and high of the middle `level` of values along their first axis; infinite ones count as such."""
    return np.quantile(np.nan_to_num(values_Bx, nan=np.inf, posinf=1e300), [(1 - level) / 2, (1 + level) / 2], axis=0)


def interval(values_B: np.ndarray, level: float = LEVEL) -> list[float]:
    """[low, high] of the middle `level` of values, as `ends` has it."""
    low, high = ends(values_B, level)
    return [float(low), float(high)]


def of_runs(values_Bx: np.ndarray, residuals_n: np.ndarray, seed: int = 42) -> np.ndarray:
    """(B, ...): what new runs may come to: each refit's predictions times exp of a residual drawn from the fit's
    own."""
    drawn = np.random.default_rng(seed).choice(residuals_n, len(values_Bx))
    return values_Bx * np.exp(drawn).reshape(-1, *[1] * (values_Bx.ndim - 1))


def prediction(values_B: np.ndarray, residuals_n: np.ndarray, seed: int = 42, level: float = LEVEL) -> list[float]:
    """[low, high] of a new run's loss. The confidence interval, of the law alone, is `interval` of the predictions."""
    return interval(of_runs(values_B, residuals_n, seed), level)


def profile(curve: Curve, target_n: np.ndarray, fitted: solve.Fitted, loss: RobustLoss, exponent: str,
            level: float = LEVEL) -> list[float]:
    """[low, high] of an exponent by profile likelihood: the values at which the best objective with that exponent held
    is within chi-squared's quantile of the best of all.

    A sum of absolute residuals f is the likelihood of Laplace noise whose scale is fitted too: -2 log L = 2 n log f and
    a constant, so the bound is f exp(q / 2n). Huber's for a delta below the residuals is that of nearly the same noise.
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2

    at, n = curve.form.parameters.index(exponent), len(target_n)
    smooth = loss if loss.delta else loss.with_delta(APPROACHED)
    weights = np.ones((1, n))
    best = solve.minimise(curve, target_n, weights, fitted.theta[None], smooth)
    middle, bound = best.theta[0, at], np.log(best.objective[0]) + chi2.ppf(level, 1) / (2 * n)
    carried = best.theta

    def above(value):
        nonlocal carried
        if value == middle:  # solved again from elsewhere, rows without scatter would come to other rounding
            return float(np.log(best.objective[0]) - bound)
        begin = carried.copy()
        begin[:, at] = value
        found = solve.minimise(curve, target_n, weights, begin, smooth, held=(at,))
        carried = found.theta
        return float(np.log(found.objective[0]) - bound)

    ends = []
    for sign in (-1, 1):
        carried, reach = best.theta, 0.02 * abs(middle) + 1e-3
        for _ in range(12):
            if above(middle + sign * reach) > 0:
                ends.append(float(brentq(above, middle, middle + sign * reach, xtol=1e-5)))
                break
            reach *= 2
        else:
            ends.append(sign * float("inf"))
    return ends


class HeldOut(NamedTuple):
    """Rows that were predicted from smaller ones."""

    axis: str
    fitted_up_to: float
    rows: int
    error: float  # mean of |log predicted - log observed|, about the relative error of the loss
    worst: float
    bias: float  # mean of the same with its sign


def rollout(form: Form, columns: Mapping[str, np.ndarray], target_n: np.ndarray, loss: RobustLoss, axes: Sequence[str]
            ) -> list[HeldOut]:
    """Fits of the rows below a value of an axis, and their errors on the rows above: the largest fifth and the largest
    two fifths of its values. Where too few rows are left for a fit, there is none."""
    found = []
    for axis in axes:
        values = np.unique(columns[axis])
        for share in (0.6, 0.8):
            limit = values[max(0, int(np.ceil(share * len(values))) - 1)]
            small = columns[axis] <= limit
            if small.all() or small.sum() < 2 * len(form.parameters):
                continue
            curve = Curve(form, {name: column[small] for name, column in columns.items()})
            fitted = solve.fit(curve, target_n[small], loss)
            ahead = predicted(form, curve.public(fitted.theta[None]),
                              {name: column[~small] for name, column in columns.items()})[0]
            errors = np.log(ahead) - target_n[~small]
            found.append(HeldOut(axis, float(limit), int((~small).sum()), float(np.abs(errors).mean()),
                                 float(np.abs(errors).max()), float(errors.mean())))
    return found


def check_runs(runs_n: np.ndarray, parameters: int) -> None:
    """Raises BadInput where there are too few runs to resample."""
    if len(np.unique(runs_n)) < parameters + 3:
        raise BadInput(f"{len(np.unique(runs_n))} runs for {parameters} parameters: a bootstrap by run wants at least "
                       f"{parameters + 3}; train more sizes or tokens, or take --boots 0")
