"""The compute-optimal size by Hoffmann et al.'s three ways: the envelope of all runs (1), parabolas over runs of equal
compute (2), and a fitted law of size and data (3). Each comes to N = G (C / C0)^a over the same runs."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

ALIKE = 0.08  # difference of log C within which runs are of one budget
FEWEST = 4  # sizes of a parabola


class Parabola(NamedTuple):
    """Loss against log N at one budget."""

    flops: float
    rows: int
    size: float  # at the minimum; NaN where there is none
    loss: float
    curve: tuple[float, ...]  # loss = c0 + c1 x + c2 x^2, x = log N - middle
    middle: float
    status: str  # "minimum", or why there is none


class Powers(NamedTuple):
    """log N = log G + a (log C - middle), for B weightings of the rows."""

    exponent: np.ndarray  # (B,): a
    log_size: np.ndarray  # (B,)
    middle: float

    def at(self, flops: float) -> np.ndarray:
        """(B,): the size for a budget."""
        return np.exp(self.log_size + self.exponent * (np.log(flops) - self.middle))


def envelope(columns: Mapping[str, np.ndarray], loss_n: np.ndarray, weights_Bxn: np.ndarray) -> Powers:
    """Approach 1: of the rows that no cheaper row is as good as, log N against log C by least squares."""
    order = np.lexsort((loss_n, columns["C"]))
    x, y = np.log(columns["C"])[order], np.log(columns["N"])[order]
    kept = np.zeros(weights_Bxn.shape)
    for row, weights in enumerate(weights_Bxn[:, order]):
        found = np.where(weights > 0, loss_n[order], np.inf)
        before = np.minimum.accumulate(np.concatenate([[np.inf], found[:-1]]))
        kept[row] = (found < before) & (weights > 0)
    return _regressed(x, y, kept)


def budgets(flops_n: np.ndarray) -> np.ndarray:
    """(rows,): the number of each row's budget; one begins where log C is more than ALIKE above the row before it."""
    order = np.argsort(flops_n, kind="stable")
    logs = np.log(flops_n[order])
    number = np.empty(len(order), int)
    number[order] = np.cumsum(np.concatenate([[0], np.diff(logs) > ALIKE]))
    return number


def parabolas(columns: Mapping[str, np.ndarray], loss_n: np.ndarray, weights_n: np.ndarray | None = None
              ) -> list[Parabola]:
    """Approach 2's parabolas, by weighted least squares of the loss."""
    weights = np.ones(len(loss_n)) if weights_n is None else weights_n
    number, found = budgets(columns["C"]), []
    for budget in range(number.max() + 1):
        mine = (number == budget) & (weights > 0)
        sizes = np.unique(columns["N"][mine])
        flops = float(np.exp(np.log(columns["C"][number == budget]).mean()))
        if len(sizes) < FEWEST:
            nothing = (float("nan"),) * 3
            found.append(Parabola(flops, int(mine.sum()), float("nan"), float("nan"), nothing, 0.0,
                                  f"{len(sizes)} sizes, of {FEWEST}"))
            continue
        logs = np.log(columns["N"][mine])
        middle = float(logs.mean())
        x, root = logs - middle, np.sqrt(weights[mine])
        powers = np.stack([np.ones_like(x), x, x * x], axis=1)
        c = np.linalg.lstsq(powers * root[:, None], loss_n[mine] * root, rcond=None)[0]
        best = -c[1] / (2 * c[2]) if c[2] > 0 else float("nan")
        status = ("minimum" if c[2] > 0 and x.min() <= best <= x.max() else
                  "its minimum is outside of its sizes" if c[2] > 0 else "has no minimum")
        size = float(np.exp(best + middle)) if status == "minimum" else float("nan")
        found.append(Parabola(flops, int(mine.sum()), size, float(c[0] - c[1] ** 2 / (4 * c[2])) if c[2] > 0 else
                              float("nan"), tuple(map(float, c)), middle, status))
    return found


def isoflop(columns: Mapping[str, np.ndarray], loss_n: np.ndarray, weights_Bxn: np.ndarray) -> Powers:
    """Approach 2: log N at the parabolas' minima against log C."""
    number = budgets(columns["C"])
    minima = [parabolas(columns, loss_n, weights) for weights in weights_Bxn]
    x = np.log([one.flops for one in minima[0]]) if minima else np.zeros(number.max() + 1)
    y = np.log(np.array([[one.size for one in row] for row in minima]))
    return _regressed(x, np.nan_to_num(y), np.isfinite(y).astype(float))


def _regressed(x, y, kept_Bxn):
    """Powers of weighted least squares; NaN where fewer than two places are kept."""
    middle = float(x.mean())
    x = x - middle
    total = kept_Bxn.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x_mean, y_mean = (kept_Bxn * x).sum(-1) / total, (kept_Bxn * y).sum(-1) / total
        across = (kept_Bxn * (x - x_mean[:, None]) ** 2).sum(-1)
        slope = (kept_Bxn * (x - x_mean[:, None]) * (y - y_mean[:, None])).sum(-1) / across
    return Powers(slope, y_mean - slope * x_mean, middle)
