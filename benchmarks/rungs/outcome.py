"""P7, past the horizon: once rounding has driven two trainings apart step by step, do they end with the same metrics?

Both backends train the recipe from several seeds. A seed fixes first weights, batches and random bits for both, so what
a pair of runs differs by is the backend's doing alone, and the differences, Keras - JAX, are tested for equivalence:
two one-sided t tests (TOST: Schuirmann 1987, J. Pharmacokin. Biopharm. 15, 657) against the recipe's margin, the
largest difference that does not matter. That the differences are not told apart from zero would prove nothing.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.rungs.ladder import check, rung
from twinscale.benchmarks.sides import LABELS
from twinscale.common.errors import BadInput
from twinscale.common.objectives import described
from twinscale.common.training.run import FinishedRun, read_run

if TYPE_CHECKING:
    from twinscale.benchmarks.verdict import Rung
    from twinscale.benchmarks.workers import Trainer
    from twinscale.common.recipe.schema import Recipe

ALPHA, TARGET, MOST = 0.05, 0.8, 10**6  # level of each one-sided test, power to plan for, seeds to plan with at most
OF_METRICS = {"report": "f1_macro", "entities": "entity_f1"}  # margins of metrics that are asked for
WHERE = {"equivalent": "inside", "different": "outside", "inconclusive": "reaches beyond"}
RESAMPLES = 9999
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


# ---- runs

def parse_seeds(text: str) -> int:
    """The count in "SEEDS=4"; raises BadInput for anything else, or for fewer than two seeds."""
    found = re.fullmatch(r"SEEDS=([0-9]{1,4})", text)
    if not found or int(found[1]) < 2:
        raise BadInput(f"--outcome {text}: expected SEEDS=N with N from 2 to 9999, such as SEEDS=4")
    return int(found[1])


def seeds_of(recipe: "Recipe", count: int) -> list[int]:
    """The recipe's own seed and those that follow it; past the largest come 0, 1, ..."""
    return [(recipe.seed + i) % (1 << 63) for i in range(count)]


def outcome_path(out: Path, backend: str, seed: int) -> Path:
    """The run directory of a backend's training from a seed."""
    return ComparisonFiles(out).seed(backend, seed)


def collect_outcome(recipe: "Recipe", worker: "Trainer", out: Path, seeds: Iterable[int]) -> dict[int, dict[str, Any]]:
    """{seed: final held-out metrics} of one backend, which trains the whole recipe from each seed, untraced, where it
    has not been taken from another comparison."""
    paths = {seed: outcome_path(out, worker.backend, seed) for seed in seeds}
    return {seed: read_run(path, FinishedRun)["final"] if path.exists() else
            worker.ask("run_training", recipe.with_values(seed=seed), run_dir=path) for seed, path in paths.items()}


# ---- verdict

def margins_of(recipe: "Recipe") -> dict[str, float]:
    """{metric: the recipe's margin} of what its evaluations measure: hits are counted of classes alone, F1 where
    `train.metrics` asks for it, and of another objective the margin of the loss is in that one's own unit."""
    margins = recipe.compare.margin.model_dump()
    measured = {"loss", *(() if described(recipe).judged else ("accuracy",)),
                *(name for metric, name in OF_METRICS.items() if metric in recipe.train.metrics)}
    return {name: margin for name, margin in margins.items() if name in measured}


def outcome_rung(metrics: Mapping[str, Mapping[int, Mapping[str, Any]]], margins: Mapping[str, float]
                 ) -> "Rung":
    """P7: every metric that has a margin is equivalent; each test is at level ALPHA, and so is their conjunction
    (intersection-union: Berger & Hsu 1996, Statistical Science 11, 283).

    Args:
      metrics: {"keras": {seed: {metric: value}}, "jax": the same of the same seeds}; a value that was not finite is
        None.
      margins: {metric: largest difference that does not matter}, in the metric's unit.
    Returns: a rung, with "outcome": {metric: what `equivalence` says}, and "conclusive": False where neither every
      metric is equivalent nor any is different; "agrees" is then False as well.
    Raises: BadInput where the backends' seeds differ, are fewer than two, or a metric with a margin was not measured.
    """
    keras, jax = metrics["keras"], metrics["jax"]
    first, second = LABELS.values()
    if keras.keys() != jax.keys():
        raise BadInput(f"outcome: seeds {sorted(keras)} of {first} and {sorted(jax)} of {second} are no pairs")
    found, checks = {}, []
    for metric, margin in margins.items():
        lacking = [seed for seed in keras if metric not in keras[seed] or metric not in jax[seed]]
        if lacking:
            raise BadInput(f"outcome: compare.margin.{metric}: seed {lacking[0]} has no such metric; it has "
                           f"{', '.join(sorted(keras[lacking[0]].keys() & jax[lacking[0]].keys()))}")
        sides = [np.array([run[seed][metric] for seed in keras], np.float64) for run in (keras, jax)]
        found[metric] = test = permuted(sides[0] - sides[1], margin)
        checks.append(check(metric, max(map(abs, test["interval"])), margin, f"{test['answer']}, {first} - {second} = "
                            f"{test['mean']:+.2g} over {test['seeds']} seeds", f"the recipe's margin of {metric}"))
    answers = {test["answer"] for test in found.values()}
    return rung("P7", "outcome", "past the horizon: final metrics within the recipe's margins", checks) | {
        "agrees": answers == {"equivalent"}, "outcome": found,
        "conclusive": "different" in answers or answers == {"equivalent"}}


def outcome_lines(rung: "Rung") -> list[str]:
    """A sentence for each metric of the rung."""
    return [sentence(metric, test) for metric, test in rung["outcome"].items()]


def sentence(metric: str, test: Mapping[str, Any]) -> str:
    """What the test of a metric says, for a person."""
    if not math.isfinite(test["mean"]):
        return f"{metric}: not finite in every one of {test['seeds']} pairs of runs: different"
    (low, high), needed, seeds = test["interval"], test["seeds_needed"], test["seeds"]
    unsure = test["answer"] == "inconclusive" and -test["margin"] <= low and high <= test["margin"]  # by permutations
    words = (f"{metric}: {' - '.join(LABELS.values())} = {test['mean']:+.2g}, {100 - 200 * test['alpha']:g} % interval "
             f"[{low:.2g}, {high:.2g}] {WHERE['equivalent' if unsure else test['answer']]} ±{test['margin']:g}: "
             f"{test['answer']} ")
    if test["answer"] == "different":
        return f"{words}with {seeds} seeds"
    words += f"(p {bounded(test['p'])}, power {percent(test['power'])} with {seeds} seeds)"
    if not test.get("normal", True):
        words += f", of differences that are not normal; by permutations p {bounded(test['p_permutation'])}"
    if test["answer"] == "equivalent":
        return words
    if unsure:
        fewest = math.floor(-math.log2(test["alpha"])) + 1  # whose 2^-seeds is below the level
        needs = f"it takes {fewest} seeds or more to be" if seeds < fewest else "more seeds may bring it"
        return f"{words}; {needs} below {test['alpha']:g}"
    if needed is not None and needed <= seeds:
        return f"{words}; not the noise but the difference itself is near the margin"
    return (f"{words}; {'about' if needed else 'more than'} {needed or MOST} seeds would be needed for a power of "
            f"{100 * test['target']:g} % if there is no difference")


def bounded(p: float) -> str:
    """A chance in words: it is never nothing."""
    return f"= {p:.2g}" if p >= 1e-16 else "< 1e-16"


def percent(power: float) -> str:
    """A power in words: from a few seeds it is never certain."""
    return "> 99.9 %" if power > 0.999 else f"{100 * power:.0f} %" if power >= 0.001 else "< 0.1 %"


# ---- statistics

def equivalence(differences: Sequence[float] | np.ndarray, margin: float, alpha: float = ALPHA, target: float = TARGET
               ) -> dict[str, Any]:
    """The paired TOST of differences d_i ~ N(delta, sigma^2) against |delta| >= margin.

    Args:
      differences: floats, shape (seeds,), one a pair.
      margin: the largest |delta| that does not matter, in the unit of the differences.
      alpha: level of each one-sided test.
      target: power that `seeds_needed` plans for.
    Returns: a dict of
      seeds, margin, alpha, target
      mean, deviation   of the differences
      interval          [low, high], the 1 - 2 alpha confidence interval of delta
      p_low, p_high     of the tests of delta <= -margin and delta >= margin
      p                 the larger of both: below alpha where the interval is inside the margin
      answer            "equivalent": the interval is inside +-margin; "different": it is outside altogether, or a
                        difference is not finite; else "inconclusive"
      power             chance of "equivalent" where delta = 0 and sigma is the observed deviation
      seeds_needed      the fewest seeds whose power, taken likewise, reaches the target; None above MOST. It is no
                        surer than the deviation: from 4 seeds sigma is known to a factor of 3 or so
    Where all differences are equal the interval is a point, and power and p are the limits for sigma -> 0.
    Raises: BadInput for fewer than two differences, and for a margin that is not positive.
    """
    d = np.sort(np.asarray(differences, np.float64))  # their order then changes not even the last bit
    if len(d) < 2:
        raise BadInput(f"outcome: {len(d)} paired runs; a deviation takes two seeds or more: --outcome SEEDS=4")
    if not margin > 0:
        raise BadInput(f"outcome: margin {margin}: expected a value above 0")
    given = {"seeds": len(d), "margin": float(margin), "alpha": alpha, "target": target}
    if not np.isfinite(d).all():
        unknown = dict.fromkeys(("mean", "deviation", "p_low", "p_high", "p", "power"), math.nan)
        return given | unknown | {"interval": [math.nan, math.nan], "answer": "different", "seeds_needed": None}
    if d[0] == d[-1]:
        mean, deviation, low, high = float(d[0]), 0.0, float(d[0]), float(d[0])
        p_low, p_high = float(mean < -margin), float(mean > margin)
    else:
        mean, deviation, freedom = float(d.mean()), float(d.std(ddof=1)), len(d) - 1
        error = deviation / math.sqrt(len(d))
        low, high = (mean + sign * error * float(scipy.stats.t.isf(alpha, freedom)) for sign in (-1, 1))
        p_low, p_high = (float(scipy.stats.t.sf((margin + shift) / error, freedom)) for shift in (mean, -mean))
    inside, outside = -margin <= low and high <= margin, high < -margin or margin < low
    return given | {
        "mean": mean, "deviation": deviation, "interval": [low, high],
        "p_low": p_low, "p_high": p_high, "p": max(p_low, p_high),
        "answer": "equivalent" if inside else "different" if outside else "inconclusive",
        "power": tost_power(deviation, len(d), margin, alpha=alpha),
        "seeds_needed": seeds_needed(deviation, margin, alpha, target)}


def permuted(differences: Sequence[float] | np.ndarray, margin: float) -> dict[str, Any]:
    """What `equivalence` says, with a permutation test beside it, for differences that are not normal.

    "normal": whether Shapiro and Wilk's test at level ALPHA lets them be (fewer than three, and equal ones, always);
    "p_permutation": the larger p value of both one-sided tests of the mean whose null distribution is that of the
    differences' signs changed at random, which takes symmetry alone: exact for up to 13 seeds, where it is no less than
    2^-seeds, else of RESAMPLES. Where the differences are not normal, "equivalent" takes both tests.
    """
    d, found = np.sort(np.asarray(differences, np.float64)), equivalence(differences, margin)
    if not np.isfinite(d).all() or len(d) < 3 or d[0] == d[-1]:
        return found
    normal = bool(scipy.stats.shapiro(d).pvalue >= ALPHA)
    options = {"permutation_type": "samples", "n_resamples": RESAMPLES, "vectorized": True, "batch": 500,
               "alternative": "greater", "random_state": 0}
    p = max(float(scipy.stats.permutation_test((margin + sign * d,), np.mean, **options).pvalue) for sign in (1, -1))
    sure = normal or p < ALPHA or found["answer"] != "equivalent"
    return found | {"normal": normal, "p_permutation": p, "answer": found["answer"] if sure else "inconclusive"}


def tost_power(deviation: float, seeds: int, margin: float, *, shift: float = 0.0, alpha: float = ALPHA) -> float:
    """Chance that the paired TOST says "equivalent": exact (Phillips 1990, J. Pharmacokin. Biopharm. 18, 137).

    With e = sigma / sqrt(n), nu = n - 1 and t the upper alpha point of Student's t, the test says so where
    |mean| <= margin - t e u, u = s / sigma. The mean ~ N(shift, e^2) is independent of u ~ chi_nu / sqrt(nu), so that

      power = integral over 0 < u < margin / (t e) of
              [Phi((margin - shift) / e - t u) - Phi(-(margin + shift) / e + t u)] f(u) du,

    Owen's Q functions (1965, Biometrika 52, 437) in other words. The integrand is smooth: Gauss-Legendre, over all of
    u but a tail of 1e-15 on either side.

    Args:
      deviation: sigma of a paired difference.
      seeds: number n of pairs, at least 2.
      margin: as in `equivalence`.
      shift: the true mean difference.
      alpha: level of each one-sided test.
    """
    if deviation == 0:
        return float(abs(shift) <= margin)
    freedom, error = seeds - 1, deviation / math.sqrt(seeds)
    t, half = scipy.stats.t.isf(alpha, freedom), freedom / 2
    low, most = (math.sqrt(inverse(half, 1e-15) / half)
                 for inverse in (scipy.special.gammaincinv, scipy.special.gammainccinv))
    high = min(margin / (t * error), most)
    if high <= low:
        return 0.0
    u = low + (high - low) * (NODES + 1) / 2
    below = scipy.special.ndtr
    accepted = below((margin - shift) / error - t * u) - below(-(margin + shift) / error + t * u)
    density = scipy.stats.chi.pdf(u, freedom, scale=1 / math.sqrt(freedom))
    return min(1.0, float((high - low) / 2 * WEIGHTS @ (accepted * density)))


def seeds_needed(deviation: float, margin: float, alpha: float = ALPHA, target: float = TARGET) -> int | None:
    """The fewest seeds whose power at a true difference of 0 reaches the target; None above MOST.

    A bisection: power falls with more seeds only where it is below alpha, so a target above alpha, once reached, stays.
    """
    seeds = 2 + bisect_left(range(2, MOST + 1), target, key=lambda n: tost_power(deviation, n, margin, alpha=alpha))
    return seeds if seeds <= MOST else None
