"""The figures of a compression."""

import pytest

from twinscale.benchmarks.compression import plots as compression_plots
from twinscale.benchmarks.report.plots import NARROW, WIDE

POINTS = [{"backend": backend, "label": label, "bytes": size, "zipped": size / 2, "value": value, "front": front,
           "hollow": False, "note": ""} for backend, label, size, value, front in (
    ("keras", "dense", 4e4, 0.9, True), ("jax", "dense", 4e4, 0.8, False), ("jax", "2-quantize", 1e4, 0.7, True))]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_front_climbs_through_what_no_other_file_beats_and_every_file_has_a_point(width):
    axes, = compression_plots.pareto(width, POINTS, "accuracy").axes
    front = next(line for line in axes.lines if line.get_label() == "front")
    assert list(front.get_ydata()) == [0.7, 0.9, 0.9]  # and on to the right
    drawn = [(round(10 ** line.get_xdata()[0]), line.get_ydata()[0]) for line in axes.lines
             if len(line.get_xdata()) == 1 and line.get_marker() != "|"]
    assert sorted(drawn) == sorted((round(p["bytes"]), p["value"]) for p in POINTS)
