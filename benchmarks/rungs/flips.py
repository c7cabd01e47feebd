"""The trajectory of a function with steps: what quantises jumps by a quantum where rounding carries a value over
a boundary. Such a flip costs the loss the same however small the rounding, so no multiple of a twin's noise bounds it,
and what it leaves in the weights, or in a range, may last: two runs part by chance at a step that no twin shares.

So each step is judged from one state, that of Keras' run before it (`common.training.stages.shadow`): steps are then
trials of their own. What is wrong in a program is wrong in every trial; a flip is in few, and how few and how dear
follows from a loud twin, LOUD times as dithered as a twin is. A value flips where rounding's size reaches the boundary,
so the rate of flips grows in proportion to the noise: x of n loud steps with a flip mean a rate of -ln(1 - (x + 1) / (n
+ 2)) a step (Poisson, Laplace's rule), a pair whose noise is at most FACTOR twins' has FACTOR / LOUD of it, and more
flips than its n steps have with a chance of CHANCE are none. A flip's cost does not depend on the noise: those of a
pair and of the loud twins are drawn alike, and the largest of all is a pair's once in some LOUD / FACTOR cases, FACTOR
times the largest far more seldom.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from twinscale.benchmarks.rungs import ladder

if TYPE_CHECKING:
    from twinscale.benchmarks.verdict import Check

LOUD = 256  # times a twin's dither; flips a value of most steps of a small model, and none of its digits above 2^-16
FACTOR = 4  # of P5: the noise of a pair against that of a twin
CHANCE = 1e-4  # that flips alone are more than is allowed
MOST = 32  # steps that are judged from equal states
RECENT = 5  # steps before a parting that tell a jump from a drift


def shadowed(steps: int, most: int = MOST) -> list[int]:
    """The steps that are judged, evenly spread, the first and the last among them."""
    return sorted({int(step) for step in np.linspace(0, steps - 1, min(steps, most)).round()})


def flip_checks(precision: str, series: Mapping[str, Mapping[str, np.ndarray]], steps: list[int]) -> "list[Check]":
    """Checks of trials from equal states.

    Args:
      series: {what: {"pair", "twin", "loud", "floor": float64 (n,)}}: distances of the backends, of either's twin and
        loud twin from it, the larger, and what cannot be resolved; with "spread", how far a loud twin parts by its
        noise, where that shows in what is measured.
      steps: the n steps' numbers.
    """
    parted, jumped, worst, checks = np.zeros(len(steps), bool), np.zeros(len(steps), bool), [], []
    bounds = {}
    for what, found in series.items():
        # Without the noisiest tenth: a twin's own flip is to widen no bound.
        bounds[what] = FACTOR * np.maximum(np.quantile(found["twin"], 0.9), found["floor"])
        parted |= ~(found["pair"] <= bounds[what])
        jumped |= found["loud"] > np.maximum(bounds[what], found.get("spread", 0.0))
    rate = FACTOR / LOUD * -math.log(1 - (jumped.sum() + 1) / (len(steps) + 2))
    allowed = int(scipy.stats.poisson.isf(CHANCE, rate * len(steps)))
    for what, found in series.items():
        ratio = np.where(parted, -1, found["pair"] / np.maximum(bounds[what], ladder.TINY))
        at = int(np.argmax(ratio))
        if not parted.all():
            checks.append(ladder.check(f"{precision} {what}, from equal states", found["pair"][at], bounds[what][at],
                                       f"step {steps[at]}", f"{FACTOR} x the {precision} twin's noise"))
        worst += [(float(found["pair"][i]), FACTOR * float(found["loud"].max()), what, steps[i])
                  for i in np.flatnonzero(~(found["pair"] <= bounds[what]))]
    where = f"steps {', '.join(str(steps[i]) for i in np.flatnonzero(parted)[:5])}" if parted.any() else "none"
    checks.append(ladder.check(f"steps of {len(steps)} that part from equal states", int(parted.sum()), allowed, where,
                               f"flips that a loud twin explains, but for a chance of {CHANCE:g}"))
    if worst:
        apart, bound, what, step = max(worst, key=lambda w: w[0] / max(w[1], ladder.TINY))
        checks.append(ladder.check(f"{precision} {what}, flipped", apart, bound, f"step {step}",
                                   f"{FACTOR} x a loud twin's largest flip"))
    return checks


def until_jump(curve: dict[str, Any]) -> dict[str, Any]:
    """The curve of two free runs, to be judged up to its first parting where that is a jump: before it the difference
    lay within the envelope, as its last RECENT steps' median says. A drift climbs through the band, and stays judged.
    Where it jumps is "jump"; None: nowhere."""
    end = len(curve["steps"]) if curve["horizon"] is None else max(1, curve["horizon"])
    over = np.flatnonzero(~(curve["difference"][:end] <= curve["bound"][:end]))
    if not len(over):
        return curve | {"jump": None}
    first = int(over[0])
    before = slice(max(0, first - RECENT), first)
    ratio = curve["difference"][before] / np.maximum(curve["envelope"][before], ladder.TINY)
    drifts = first > 0 and np.median(ratio) > 1
    return curve | {"jump": None if drifts or not np.isfinite(curve["difference"]).all() else first}
