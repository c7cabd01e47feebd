"""The figures of a preflight."""

from twinscale.benchmarks.preflight.plots import roofline
from twinscale.benchmarks.report.plots import WIDE


def test_steps_of_equal_programs_are_rings_that_hide_no_other():
    point = {"label": "x", "intensity": 6.4, "rate": 2e12, "bound": "HBM"}
    (axes,) = roofline(WIDE, {"TPU v4": (2.75e14, 1.2e12)}, [point | {"backend": b} for b in ("jax", "keras")]).axes
    rings = [line for line in axes.lines if line.get_marker() != "None"]
    assert len(rings) == len({ring.get_markersize() for ring in rings}) == 2
    assert {ring.get_markerfacecolor() for ring in rings} == {"none"}
