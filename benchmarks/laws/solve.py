"""Fits laws: seeds by variable projection over the exponents, then damped Newton steps with analytic derivatives, for
many weightings of the rows at once, and a certificate of what they came to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from twinscale.benchmarks.laws.curves import Curve
from twinscale.benchmarks.laws.losses import RobustLoss

STEPS = 80  # of Newton, at each delta
PATIENCE = 25  # of them while several starts are followed
LADDER = (30.0, 3.0, 1.0)  # deltas, in those of the loss: a wide one is smooth, and leads to the narrow one's minimum
SEEDS, FOLLOWED = 8, 4  # of the grid's cells that are begun at, and what they come to that is followed to the end
CELLS = 20  # of the grid along an exponent, where there are two
ALIKE = 1e-9  # relative difference of objectives that are one minimum
FLAT = 1e-10  # improvement that a step still promises, relative to the objective
ROUNDED = 8 * np.finfo(float).eps  # of a residual, a difference of two logarithms of some units


class Solution(NamedTuple):
    """Minima, of B weightings."""

    theta: np.ndarray  # (B, P), as Curve has them
    objective: np.ndarray  # (B,): sum of the loss over delta
    steps: int
    converged: np.ndarray  # (B,): no step promised more than FLAT


def seeds(curve: Curve, target_n: np.ndarray, weights_Bxn: np.ndarray, most: int = 1) -> np.ndarray:
    """(B, most, P) first parameters: at each cell of a grid of exponents the coefficients of least squares of relative
    residuals, a linear problem (variable projection, Golub and Pereyra 1973); of those whose coefficients are all
    above 0 the best, or the best of the grid's minima.
    """
    grid = grid_of(curve)
    s, _ = curve.form.terms(grid, curve.columns)
    features = np.exp(s - s.mean(1, keepdims=True) - target_n[:, None])  # (cells, rows, K), over the observed
    G, n, K = features.shape
    right = np.ascontiguousarray(features.transpose(1, 2, 0))  # (rows, K, cells)
    gram = (right[:, :, None] * right[:, None]).reshape(n, -1)
    right = right.reshape(n, -1)
    grams = (weights_Bxn @ gram).reshape(-1, K, K, G).transpose(0, 3, 1, 2)
    rights = (weights_Bxn @ right).reshape(-1, K, G).transpose(0, 2, 1)
    scale = np.sqrt(np.einsum("bgkk->bgk", grams))
    unit = grams / (scale[..., :, None] * scale[..., None, :]) + 1e-10 * np.eye(K)
    found = np.linalg.solve(unit, (rights / scale)[..., None])[..., 0] / scale
    misfit = weights_Bxn.sum(-1)[:, None] - (rights * found).sum(-1)
    misfit = np.where((found > 0).all(-1), misfit, misfit + weights_Bxn.sum(-1)[:, None] * 1e3)
    chosen = _minima(misfit, curve, most)
    rows = np.arange(len(weights_Bxn))[:, None]
    floor = 1e-3 / K  # of a prediction: a term that least squares would have below 0 begins small
    logs = np.log(np.maximum(found[rows, chosen], floor))
    logs[..., K - curve.form.ones:] = 0.0
    return np.concatenate([grid[chosen], logs], axis=-1)


def grid_of(curve: Curve) -> np.ndarray:
    """(cells, Q): the exponents that seeds are sought at, evenly over each one's span."""
    spans = curve.form.exponents.values()
    along = max(4, round((CELLS * CELLS) ** (1 / max(len(spans), 2)))) if len(spans) > 2 else CELLS
    axes = [np.linspace(low, high, along) for low, high in spans]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def _minima(misfit, curve, most):
    """(B, most) cells: of the grid's minima the best, the last repeated where there are fewer."""
    if most == 1:
        return misfit.argmin(-1)[:, None]
    Q = len(curve.form.exponents)
    side = round(misfit.shape[-1] ** (1 / Q))
    chosen = []
    for row in misfit:
        field = np.pad(row.reshape((side,) * Q), 1, constant_values=np.inf)
        middle = field[(slice(1, -1),) * Q]
        lowest = np.ones(middle.shape, bool)
        for axis in range(Q):
            for move in (-1, 1):
                lowest &= middle <= np.roll(field, move, axis)[(slice(1, -1),) * Q]
        local = np.flatnonzero(lowest.reshape(-1))
        rest = np.setdiff1d(np.argsort(row)[:: max(1, len(row) // (4 * most))], local)  # and a spread of others
        order = [*local[np.argsort(row[local])], *rest][:most]
        chosen.append(order + [order[-1]] * (most - len(order)))
    return np.array(chosen)


def minimise(curve: Curve, target_n: np.ndarray, weights_Bxn: np.ndarray, theta_BxP: np.ndarray, loss: RobustLoss,
             held: Sequence[int] = (), most: int = STEPS) -> Solution:
    """The minima that first parameters lead to, over ever narrower deltas; an absolute loss ends in `exactly`.

    Args:
      target_n: log of what was observed.
      weights_Bxn: how often each row counts, as a bootstrap draws them.
      held: parameters that stay as they are (an exponent, in a profile).
      most: steps at each delta.
    """
    deltas = [loss.delta * width for width in LADDER] if loss.delta else [0.03, 0.003, *(
        10.0**-power for power in range(3, 13, 2))]
    steps, theta = 0, theta_BxP
    for delta in deltas:
        smooth = loss.with_delta(delta)
        last = delta == deltas[-1]
        theta, objective, taken, converged = _newton(curve, target_n, weights_Bxn, theta, smooth, held,
                                                     FLAT**1.5 if last else 1e-6, most)
        steps += taken
    if not loss.delta:
        pairs = [exactly(curve, target_n, row, begin, loss, held) for row, begin in zip(
            np.broadcast_to(weights_Bxn, (len(theta), len(target_n))), theta, strict=True)]
        theta, objective = np.stack([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
        converged = np.array([pair[2] for pair in pairs])
    return Solution(theta, objective, steps, converged)


def _newton(curve, target, weights, theta, loss, held, flat, most=STEPS):
    """(theta, objective, steps, converged): damped Newton over scaled parameters, the Hessian's eigenvalues taken
    without their signs, each row of `theta` until it promises less than `flat` of its objective."""
    theta, B = theta.copy(), len(theta)
    free = np.setdiff1d(np.arange(theta.shape[1]), [*held, *curve.form.held])
    damping, objective = np.full(B, 1e-3), np.empty(B)
    nothing = len(target) * ROUNDED**2 / loss.delta  # an objective that is rounding alone
    live, converged = np.arange(B), np.zeros(B, bool)
    taken = 0
    while len(live) and taken < most:
        taken += 1
        mine = weights if len(weights) == 1 else weights[live]
        now, step, promised = _step(curve, target, mine, theta[live], loss, damping[live], free)
        moved = theta[live] + step
        with np.errstate(over="ignore", invalid="ignore"):
            then = (mine * loss.values(curve.values(moved) - target)).sum(-1)
        better = then < now
        theta[live] = np.where(better[:, None], moved, theta[live])
        objective[live] = np.where(better, then, now)
        done = promised <= flat * now + nothing
        converged[live] |= done
        damping[live] = np.where(better, damping[live] / 8, damping[live] * 6 + 1e-9)
        live = live[~done & (damping[live] < 1e12)]
    return theta, objective, taken, converged


def _step(curve, target, weights, theta, loss, damping, free):
    """(objectives, steps (B, P), what they promise) from each row of `theta`."""
    bent = curve.bent(theta)
    residuals = bent.values - target
    now = (weights * loss.values(residuals)).sum(-1)
    first, second = loss.slopes(residuals)
    gradient = ((weights * first)[:, None] @ bent.slopes)[:, 0, free]
    hessian = (np.swapaxes(bent.slopes, 1, 2) @ (bent.slopes * (weights * second)[..., None])
               + bent.bend(weights * first))[:, free[:, None], free]
    diagonal = np.abs(np.einsum("bpp->bp", hessian))
    scale = np.sqrt(np.maximum(diagonal, 1e-12 * diagonal.max(-1, keepdims=True) + 1e-300))
    values, vectors = np.linalg.eigh(hessian / (scale[:, :, None] * scale[:, None, :]))
    curved = np.abs(values) + damping[:, None] + 1e-13
    along = np.einsum("bpq,bp->bq", vectors, gradient / scale) / curved
    part = -np.einsum("bpq,bq->bp", vectors, along) / scale
    part *= np.minimum(1, 1 / np.maximum(np.abs(part).max(-1), 1e-300))[:, None]
    step = np.zeros_like(theta)
    step[:, free] = part
    return now, step, -(gradient * part).sum(-1)


def exactly(curve: Curve, target_n: np.ndarray, weights_n: np.ndarray, theta_P: np.ndarray, loss: RobustLoss,
            held: Sequence[int] = ()) -> tuple[np.ndarray, float, bool]:
    """(theta, objective, whether it converged) of an absolute loss, by linear programs over steps within a span that
    shrinks where they fail (Fletcher and Sainz de la Maza 1989)."""
    from scipy.optimize import linprog

    free, span = np.setdiff1d(np.arange(len(theta_P)), [*held, *curve.form.held]), 0.1
    sides = (2 * loss.tilt, 2 * (1 - loss.tilt))

    def objective(theta):
        return float((weights_n * loss.values(curve.values(theta[None])[0] - target_n)).sum())

    now, n, P = objective(theta_P), len(target_n), len(free)
    for _ in range(STEPS):
        bent = curve.bent(theta_P[None])
        slopes, residuals = bent.slopes[0][:, free], bent.values[0] - target_n
        # The residual after a step is over - under, both 0 or more.
        solved = linprog(np.concatenate([np.zeros(P), weights_n * sides[0], weights_n * sides[1]]),
                         A_eq=np.concatenate([slopes, -np.eye(n), np.eye(n)], axis=1), b_eq=-residuals,
                         bounds=[(-span, span)] * P + [(0, None)] * (2 * n), method="highs")
        if solved.status != 0:
            return theta_P, now, False
        if now - solved.fun <= 1e-13 * now:
            return theta_P, now, True
        moved = theta_P.copy()
        moved[free] += solved.x[:P]
        then = objective(moved)
        if then < now:
            theta_P, now = moved, then
        else:
            span = min(span, float(np.abs(solved.x[:P]).max())) / 4
        if span < 1e-12:
            return theta_P, now, True
    return theta_P, now, False


class Fitted(NamedTuple):
    """A fit of all rows, with what certifies it."""

    theta: np.ndarray  # (P,)
    objective: float  # as it is published
    inside: float  # share of rows within delta of the curve
    gradient: float  # largest entry over scaled parameters, relative to the sum of its terms' sizes; 0 at a minimum
    condition: float  # of the scaled Hessian; of an absolute loss, of the rows that the curve goes through
    starts: int  # that were followed
    agreeing: int  # that ended in this minimum
    converged: bool
    steps: int
    weakest: str  # the parameter that the objective says least of


def fit(curve: Curve, target_n: np.ndarray, loss: RobustLoss, weights_n: np.ndarray | None = None) -> Fitted:
    """The best minimum that several starts lead to, and its certificate."""
    weights = np.ones((1, len(target_n))) if weights_n is None else weights_n[None]
    begin = seeds(curve, target_n, weights, SEEDS)[0]
    smooth = loss if loss.delta else loss.with_delta(1e-3)
    wide = smooth.with_delta(smooth.delta * LADDER[0])
    led, objective, steps, _ = _newton(curve, target_n, weights, begin, wide, (), 1e-6, PATIENCE)
    distinct, starts = _merged(led, objective)
    found = minimise(curve, target_n, weights, distinct, loss, most=PATIENCE)
    best = int(found.objective.argmin())
    if not found.converged[best]:
        found = minimise(curve, target_n, weights, found.theta, loss)
        best = int(found.objective.argmin())
    nothing = len(target_n) * ROUNDED**2 / (loss.delta or ROUNDED)
    agreeing = int(starts[found.objective <= found.objective[best] * (1 + ALIKE) + nothing].sum())
    theta, objective, converged = found.theta[best], found.objective[best], bool(found.converged[best])
    gradient, condition, weakest = certificate(curve, target_n, weights[0], theta, loss)
    size = np.abs(curve.values(theta[None])[0] - target_n)
    inside = float((weights[0] * (size <= (loss.delta or 1e-9))).sum() / weights.sum())
    return Fitted(theta, float(loss.written(objective)), inside, gradient, condition, len(begin), agreeing, converged,
                  steps + found.steps, weakest)


def _merged(theta, objective):
    """(the best distinct rows of `theta`, how many each stands for): the first of those whose objectives are alike."""
    order = np.argsort(objective)
    new = np.concatenate([[True], np.diff(objective[order]) > 1e-5 * objective[order][1:]])
    return theta[order[new]][:FOLLOWED], np.bincount(np.cumsum(new) - 1)[:FOLLOWED]


def certificate(curve: Curve, target_n: np.ndarray, weights_n: np.ndarray, theta_P: np.ndarray, loss: RobustLoss
                ) -> tuple[float, float, str]:
    """(gradient, condition, weakest parameter) at a point, over parameters scaled to a Hessian of unit diagonal.

    Of an absolute loss it is the smallest subgradient: rows that the curve goes through may pull either way by their
    weight (least squares over that box), and the condition is that of their slopes.
    """
    bent = curve.bent(theta_P[None])
    free = np.setdiff1d(np.arange(len(theta_P)), curve.form.held)
    residuals, slopes = bent.values[0] - target_n, bent.slopes[0][:, free]
    if loss.delta:
        first, second = loss.slopes(residuals)
        bend = bent.bend((weights_n * first)[None])[0][np.ix_(free, free)]
        hessian = slopes.T @ (slopes * (weights_n * second)[:, None]) + bend
    else:
        through = np.abs(residuals) < 1e-9
        first = np.where(through, 0.0, np.sign(residuals) * loss.sides(residuals))
        hessian = slopes[through].T @ slopes[through]
    scale = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    pulls = (weights_n * first) @ slopes / scale
    if not loss.delta and through.any():
        from scipy.optimize import lsq_linear

        most = weights_n[through] * 2 * max(loss.tilt, 1 - loss.tilt)
        pulls = lsq_linear((slopes[through] / scale).T, -pulls, (-most, most)).fun
    felt = np.abs(first) + (second * ROUNDED if loss.delta else ROUNDED)
    size = (weights_n * felt) @ np.abs(slopes) / scale
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    condition = float(values[-1] / values[0]) if values[0] > 0 else np.inf
    return (float(np.max(np.abs(pulls) / np.maximum(size, 1e-300))), condition,
            curve.form.parameters[int(np.abs(vectors[:, 0]).argmax())])
