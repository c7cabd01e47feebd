"""Numbers out of verdicts, and how a person writes them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def sig(value: Any, digits: int = 2) -> str:
    """A number at so many significant digits, as a person writes it: 3.1e-15, 0.042, 1,234."""
    value = as_float(value)
    if not math.isfinite(value):
        return "not finite"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    exponent = int(power)
    if value == 0:
        return "0"
    if -4 < exponent < 6:
        return f"{value:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")
    return f"{mantissa}e{exponent}".replace("-", "−", 1 if value < 0 else 0)


def size(count: Any) -> str:
    """A number of bytes as a person writes it: 812 B, 45.6 kB, 1.23 MB."""
    count = as_float(count)
    if not math.isfinite(count):
        return "–"
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * of:
            return f"{sig(count / of, 3)} {unit}"
    return f"{count:.0f} B"


def as_float(value: Any) -> float:
    """A float of what JSON holds in a number's place; null, which stands for NaN and infinities, becomes NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def evenly(count: int, most: int) -> list[int]:
    """The numbers of at most so many of `count` things, evenly apart, the first and the last among them."""
    return sorted({round(x) for x in np.linspace(0, count - 1, min(most, count))})


def floats(values: Any) -> np.ndarray:
    """A float64 array of a list out of the verdict, absent entries as NaN."""
    return np.array([as_float(v) for v in values or []], float)


def horizon(curve: Mapping[str, Any]) -> float:
    """The first step that a curve no longer judges, infinite where no twin parted from its original."""
    return math.inf if curve.get("horizon") is None else as_float(curve["horizon"])


def ratio(worst: Any, bound: Any) -> float:
    """How much of its bound an observation uses: 0 is exact, infinite where an exact gate is missed."""
    worst, bound = as_float(worst), as_float(bound)
    if worst == 0 and bound >= 0:
        return 0.0
    return worst / bound if bound else math.nan if math.isnan(worst) else math.inf


def margin_of(used: float) -> str:
    """A margin in words, from the share of its bound that an observation uses: "8.6 ×" within, "2.9e14 × too far"
    above."""
    if math.isnan(used):
        return "not finite"
    if used in (0, math.inf):
        return "not exact" if used else "exact"
    return f"{sig(1 / used)} ×" if used <= 1 else f"{sig(used)} × too far"
