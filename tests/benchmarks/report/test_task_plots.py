"""Figures of a task: every class is there, a heat map is small, and what is missing is no obstacle."""

import re

import numpy as np

from twinscale.benchmarks.report import plots, task_plots

SIDES = {"keras": "Keras", "jax": "JAX"}


def test_a_heat_map_has_a_panel_for_either_side_and_one_for_what_differs(drawn_anew):
    tables = {"keras": [[3, 1], [0, 4]], "jax": [[3, 1], [1, 3]]}
    for drawing in plots.svg("confusion", task_plots.confusion, tables, ["cat", "$dog$"], SIDES):
        texts = re.findall(r"<text[^>]*>(.*?)</text>", drawing, re.S)
        assert [texts.count(name) for name in ("Keras", "JAX", "difference", "predicted")] == [1, 1, 1, 3]
        assert texts.count("4") == 1 and any("1" in text and "-" in text or "−1" in text for text in texts)
        assert "$dog$" in texts


def test_a_large_heat_map_stays_small(drawn_anew):
    drawn = np.random.default_rng(0).integers(0, 3, (64, 64)).tolist()
    wide, narrow = plots.svg("confusion", task_plots.confusion, {"keras": drawn, "jax": drawn},
                             [str(i) for i in range(64)], SIDES)
    assert len(wide) + len(narrow) < 1_500_000


def test_one_side_or_values_that_are_not_finite_are_no_obstacle(drawn_anew):
    rows = [{"name": "a", "keras": {"precision": None, "recall": 1.0, "f1": 0.5}}, {"name": "b"}]
    bins = {"keras": {"confidence": [0.5, 0.9], "accuracy": [0.4, 1.0], "count": [3, 7]}}
    lines = {"loss": {"keras": {"steps": [1, 2], "values": [2.0, None]}, "jax": {"steps": [1], "values": [2.0]}}}
    for draw, *of in ((task_plots.bars, rows), (task_plots.reliability, bins), (task_plots.curves, lines),
                      (task_plots.confusion, {"jax": [[0.0]]}, ["a"])):
        for drawing in plots.svg("figure", draw, *of, SIDES):
            assert "nan" not in drawing and drawing.count("<svg") == 1


def test_a_side_has_its_own_colour_where_it_stands_alone_too(drawn_anew):
    both, alone = ({side: {"steps": [1, 2], "values": [2.0, 1.0]} for side in sides} for sides in (SIDES, ["jax"]))
    for drawing in plots.svg("curves", task_plots.curves, {"f1": alone}, SIDES):
        assert plots.VARIABLES[plots.SECOND] in drawing and plots.VARIABLES[plots.FIRST] not in drawing
    assert plots.VARIABLES[plots.FIRST] in plots.svg("curves", task_plots.curves, {"loss": both}, SIDES)[0]
