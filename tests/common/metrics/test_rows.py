"""What is predicted at each position."""

import numpy as np
import pytest

from twinscale.common.metrics import statistics
from twinscale.common.metrics.rows import handed, of_classes, rows_of


def test_rows_add_up_to_the_sums_of_the_evaluation():
    drawn = np.random.default_rng(0)
    logits, labels, weights = drawn.normal(size=(4, 3, 5)), drawn.integers(0, 5, (4, 3)), np.ones((4, 3))
    rows, sums = rows_of(np, logits, labels), statistics(np, logits, labels, weights)
    assert rows["loss"].shape == rows["best"].shape == rows["share"].shape == labels.shape
    assert rows["loss"].sum() == pytest.approx(sums["loss"]) and (rows["best"] == labels).sum() == sums["correct"]
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert rows["share"] == pytest.approx(shares.max(-1))


def test_rows_are_handed_to_who_keeps_them_and_only_there():
    kept = []
    found = {"loss": 1.0}, {"best": np.array([1], np.int64), "share": np.array([0.5]), "loss": np.array([2.0])}
    assert handed(found, None) == handed(found, kept.append) == {"loss": 1.0} and len(kept) == 1
    assert {name: x.dtype.name for name, x in kept[0].items()} == {
        "best": "int32", "share": "float32", "loss": "float32"}
    assert handed(({"loss": 1.0}, {}), kept.append) == {"loss": 1.0} and len(kept) == 1


def test_only_metrics_of_classes_have_predictions():
    assert of_classes(["classification", "report"]) and not of_classes(["classification"]) and not of_classes([])
