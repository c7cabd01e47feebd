"""How far beyond the rows of a fit something lies that its law is asked for: said, warned of, and refused."""

from collections.abc import Mapping

import numpy as np

from twinscale.benchmarks.laws.fitting import REFUSED, WARNED
from twinscale.common.errors import BadInput

AXES = ("N", "D", "C", "unique_D")  # which a law is carried along by factors; other columns are inside or are not


def beyond(spans: Mapping[str, list[float]], values: Mapping[str, float]) -> dict[str, float]:
    """{axis: times above the largest, or below the smallest, of the rows}: 1 of what lies inside. Axes of which the
    rows' span is not known are left out."""
    return {axis: float(max(values[axis] / spans[axis][1], spans[axis][0] / values[axis], 1.0))
            for axis in AXES if axis in spans and axis in values}


def outside(spans: Mapping[str, list[float]], values: Mapping[str, float]) -> list[str]:
    """What of the columns that are no AXES lies outside of the rows, in words."""
    return [f"{name} = {value:g} lies outside of the rows' {spans[name][0]:g} to {spans[name][1]:g}"
            for name, value in values.items() if name in spans and name not in AXES
            and not spans[name][0] <= value <= spans[name][1]]


def doubts(spans: Mapping[str, list[float]], values: Mapping[str, float], far: bool) -> list[str]:
    """Warnings of what lies beyond WARNED times the rows, and of what lies outside. Raises BadInput beyond REFUSED
    times, unless `far` says that this is wanted."""
    found = []
    for axis, factor in beyond(spans, values).items():
        if factor <= WARNED:
            continue
        where = "above the largest" if values[axis] > spans[axis][1] else "below the smallest"
        words = f"{axis} = {values[axis]:.3g} is {np.round(factor):,.0f} times {where} of the rows that were fitted"
        if factor > REFUSED and not far:
            raise BadInput(f"{words}, and laws are not trusted beyond {REFUSED:g} times: train other runs, or say "
                           "--far")
        found.append(words)
    return found + outside(spans, values)


def told(factors: Mapping[str, float]) -> str:
    """"N x 3.2, C x 12" of factors above 1, "inside" where there is none, "not known" of no factors."""
    if not factors:
        return "not known"
    return ", ".join(f"{axis} x {factor:.2g}" if factor < 100 else f"{axis} x {factor:,.0f}"
                     for axis, factor in factors.items() if factor > 1) or "inside"
