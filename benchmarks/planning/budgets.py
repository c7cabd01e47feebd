"""The best size under a budget that serving shares, or whose tokens are too few and are repeated.

Training costs 6 N D operations and each served token 2 N (Sardana et al. 2024, "Beyond Chinchilla-Optimal"). Of D
tokens of which U differ, D' = U + U R (1 - exp(-(D / U - 1) / R)) are worth a new one each (Muennighoff et al. 2023,
equation 5, for the data alone: what too many parameters lose on few data is not counted).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from twinscale.benchmarks.planning.laws import Law
from twinscale.common.errors import BadInput

REPEATS = 15.39  # R_D* of Muennighoff et al. 2023: of their runs, not of anybody else's
REPEATS_FROM = "literature: Muennighoff et al. 2023, R = 15.39, not your runs"
STEPS = 90  # of a golden section, which narrows the span of log N below its rounding
SPAN = 60.0  # of log N that is searched, below the largest size


class Budget(NamedTuple):
    """What besides a training's operations decides a size."""

    served: float = 0.0  # tokens that the model will read or write in its life
    unique: float = math.inf  # tokens that differ


def worth(tokens: Any, unique: float) -> Any:
    """The new tokens that `tokens`, a figure or an array, of which `unique` differ, are worth."""
    if not math.isfinite(unique):
        return tokens
    again = np.maximum(np.asarray(tokens) / unique - 1, 0)
    return np.where(again > 0, unique - unique * REPEATS * np.expm1(-again / REPEATS), tokens)[()]


def best(law: Law, flops: float, budget: Budget) -> tuple[Any, Any]:
    """(N, D) of the lowest loss for 6 N D + 2 N `served` = `flops`; arrays of a law of arrays, (B,) each. It is convex
    in log N, as log D' is concave."""
    def tokens(log_size):
        return (flops / np.exp(log_size) - 2 * budget.served) / 6

    def loss(log_size):
        left = tokens(log_size)
        return np.where(left > 0, law.loss(np.exp(log_size), worth(np.maximum(left, 1e-300), budget.unique)), np.inf)

    top = math.log(flops / (2 * budget.served + 6))  # where one token is left to train on
    high = np.full(np.shape(law.e), top)
    low, inner = high - SPAN, (math.sqrt(5) - 1) / 2
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(STEPS):
            left, right = high - inner * (high - low), low + inner * (high - low)
            below = loss(left) < loss(right)
            low, high = np.where(below, low, left), np.where(below, right, high)
    middle = ((low + high) / 2)[()]
    return np.exp(middle), tokens(middle)


def work_under(law: Law, flops: float, budget: Budget) -> dict[str, Any]:
    """A plan's work (as `plan.work_of` returns it) with "budget": {"flops", "served", "unique", "epochs", "loss",
    "over_training", "repetition_from"}; over_training is D / N over that of the best size for the same training alone.
    """
    size, tokens = map(float, best(law, flops, budget))
    plain_size, plain_tokens = law.best(6 * size * tokens)
    limited = math.isfinite(budget.unique)
    told = {"flops": flops, "served": budget.served, "unique": budget.unique if limited else None,
            "epochs": tokens / budget.unique if limited else None,
            "loss": float(law.loss(size, worth(tokens, budget.unique))),
            "over_training": tokens / size / (plain_tokens / plain_size),
            "repetition_from": REPEATS_FROM if limited else None}
    return {"flops": 6 * size * tokens, "parameters": size, "tokens": tokens, "convention": "6N",
            "flops_per_token": None, "from": "the best of the law under the budget", "budget": told}


def asked(serve: float | None, unique: float | None, alone: bool) -> Budget | None:
    """The Budget of --serve and --unique-tokens, None of neither. `alone`: --flops and --law are given, and neither a
    recipe nor --tokens or --days. Raises BadInput where the figures are none, or not alone."""
    if serve is None and unique is None:
        return None
    for option, value in (("--serve", serve), ("--unique-tokens", unique)):
        if value is not None and not 0 < value <= 1e30:
            raise BadInput(f"{option} {value:g}: a number above 0 and at most 1e30 is wanted")
    if not alone:
        raise BadInput("--serve and --unique-tokens: a size is sought for a budget: give --flops and --law, and "
                       "neither a recipe nor --tokens or --days")
    return Budget(serve or 0.0, math.inf if unique is None else unique)


def sentence(told: dict[str, Any], ratio: float) -> str:
    """What a budget came to, in words; `ratio` is D / N."""
    words = [f"Loss {told['loss']:.4g} nats a token by the law, {ratio:.3g} tokens a parameter"]
    if told["served"]:
        words.append(f"{told['flops']:.3g} FLOPs hold the training and {told['served']:.3g} served tokens")
    if told["unique"]:
        words.append(f"{told['epochs']:.3g} epochs of {told['unique']:.3g} tokens ({told['repetition_from']})")
    over = told["over_training"]
    words.append(f"trained on {over:.2f} times the tokens a parameter that are best for its training alone"
                 if abs(over - 1) > 0.01 else "neither over- nor under-trained")
    return "; ".join(words) + "."
