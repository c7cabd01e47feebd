"""Figures of a search show what they are given."""

import numpy as np

from twinscale.benchmarks.report import tune_plots as plots
from twinscale.benchmarks.report.plots import NARROW, WIDE


def test_the_best_so_far_never_gets_worse():
    for direction, best in (("minimize", [3, 2, 2]), ("maximize", [3, 3, 5])):
        (axes,) = plots.history(WIDE, [0, 1, 2], [3.0, 2.0, 5.0], direction, "loss").axes
        assert list(axes.lines[1].get_ydata()) == best


def test_a_front_goes_through_its_trials_by_cost():
    (axes,) = plots.front(NARROW, [(0, 3.0, 1.0), (1, 2.0, 2.0), (2, 4.0, 4.0)], [0, 1], "loss", "seconds").axes
    assert np.array_equal(axes.lines[1].get_xydata(), [[1, 3], [2, 2]])


def test_each_key_has_a_panel_and_a_log_axis_where_it_was_drawn_so():
    space = [{"key": "a", "low": 1e-3, "high": 1, "log": True}, {"key": "b", "choices": [[1], [2]]}]
    rows = [({"a": 0.01, "b": [2]}, 1.0), ({"a": 0.1, "b": [1]}, 100.0)]
    first, second = plots.slices(WIDE, space, rows, "loss").axes
    assert first.get_xscale() == "log" and first.get_yscale() == "log"
    assert list(second.lines[0].get_xdata()) == [1, 0]


def test_a_bar_is_as_long_as_its_share():
    (axes,) = plots.importance(WIDE, {"a": 0.75, "b": 0.25}).axes
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]
