"""What a page of a task is made of, by what runs have left."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks.report.task import view
from twinscale.benchmarks.task import MATRIX, classes_of, curves_of, matrix_of, reliability_of, task_of, task_of_runs
from twinscale.common.metrics import finished, statistics, statistics_of, total
from twinscale.common.training.predictions import write_predictions

METRICS = ("report", "confusion", "calibration-15")
LABELS = np.array([0, 0, 1, 1, 2, 2])


def sums_of(chosen, metrics=METRICS):
    logits, weights = 3 * np.eye(3)[np.array(chosen)], np.ones(6)
    return total([statistics(np, logits, LABELS, weights), statistics_of(metrics, np, logits, LABELS, weights)])


@pytest.fixture(scope="module")
def sums():
    return {"keras": sums_of([0, 0, 1, 2, 2, 2]), "jax": sums_of([0, 1, 1, 1, 2, 0])}


def test_the_figures_of_a_class_are_those_of_the_metric(sums):
    rows = classes_of(METRICS, sums, ["a", "b", "c"])["classes"]
    values = {side: finished(METRICS, of, ["a", "b", "c"]) for side, of in sums.items()}
    assert [row["name"] for row in rows] == ["a", "b", "c"] and [row["count"] for row in rows] == [2, 2, 2]
    for row in rows:
        for side in sums:
            assert row[side] == {part: values[side][f"{part}/{row['name']}"] for part in ("precision", "recall", "f1")}


def test_types_of_entities_go_before_classes():
    of = {"weight": 9.0, "entities.right.0": 1.0, "entities.predicted.0": 2.0, "entities.labelled.0": 1.0,
          "entities.near": 0.0}
    rows = classes_of(("report", "entities"), {"jax": of}, ["O", "B-LOC", "I-LOC"])["classes"]
    assert rows == [{"name": "LOC", "count": 1.0, "jax": {"precision": 0.5, "recall": 1.0, "f1": 2 / 3}}]


def test_a_matrix_has_labels_in_its_rows(sums):
    assert matrix_of(METRICS, sums) == {"keras": [[2, 0, 0], [0, 1, 1], [0, 0, 2]],
                                        "jax": [[1, 1, 0], [0, 2, 0], [1, 0, 1]]}
    assert matrix_of(("report",), sums) == {} == matrix_of(METRICS, {"jax": {}})
    large = {f"confusion.table.{i}": 0.0 for i in range((MATRIX + 1) ** 2)} | {"weight": 1.0}
    assert matrix_of(METRICS, {"jax": large}) == {}


def test_reliability_is_of_the_bins_that_have_any(sums):
    found = reliability_of(METRICS, sums)["keras"]
    share = np.exp(3) / (np.exp(3) + 2)
    assert found == {"confidence": [pytest.approx(share)], "accuracy": [pytest.approx(5 / 6)], "count": [6.0]}
    assert reliability_of(("report",), sums) == {}


def test_curves_are_of_several_evaluations_and_of_what_sums_up():
    line = {"held_out/loss": 2.0, "held_out/f1_macro": 0.5, "held_out/f1_micro": 0.5, "held_out/f1/a": 0.5}
    one = [{"step": 9, "train/loss": 1.0}, {"step": 9} | line]
    assert curves_of({"keras": one, "jax": one}) == {}
    found = curves_of({"keras": [*one, {"step": 19} | line], "jax": [*one, {"step": 19} | line]})
    assert found.keys() == {"loss", "f1_macro"}
    assert found["loss"]["jax"] == {"steps": [10, 20], "values": [2.0, 2.0]}


def test_two_runs_make_a_page_and_those_without_metrics_of_classes_none(tmp_path, sums):
    info = {"schema_version": 1, "backend": "jax", "recipe_hash": "0", "state": "finished", "starts": 1, "versions": {},
            "devices": ["cpu:0"], "data": {}, "seconds": {}, "final": {}}
    part = {"best": np.zeros(6, np.int32), "share": np.ones(6, np.float32), "loss": np.arange(6, dtype=np.float32)}
    for side, of in sums.items():
        (tmp_path / side).mkdir()
        (tmp_path / side / "run.json").write_text(json.dumps(info | {"sums": of}))
        write_predictions(tmp_path / side, [part], 6)

    class HeldOut:
        def __len__(self):
            return 6

        def take(self, rows):
            return {"labels": LABELS[rows], "weights": np.ones(len(rows)),
                    "inputs": np.zeros((len(rows), 2, 2, 1), np.float32)}

    dataset = SimpleNamespace(kind="images", classes=3, manifest={"labels": ["a", "b", "c"]}, tokenizer=None,
                              held_out=HeldOut())
    paths = {side: tmp_path / side for side in sums}
    found = task_of(SimpleNamespace(train=SimpleNamespace(metrics=METRICS)), dataset, paths)
    assert found.keys() == {"kind", "classes", "matrix", "names", "reliability", "worst"}
    assert found["kind"] == "classes" and found["worst"][0]["label"] == "c" and "image" in found["worst"][0]
    json.dumps(found, allow_nan=False)
    assert task_of(SimpleNamespace(train=SimpleNamespace(metrics=())), dataset, paths) is None


@pytest.fixture
def two(tmp_path, sums):
    """two(metrics=..., **data): two runs as `compare-runs` has read them, with what the second says otherwise."""
    info = {"schema_version": 1, "backend": "jax", "recipe_hash": "0", "state": "finished", "starts": 1, "versions": {},
            "devices": ["cpu:0"], "seconds": {}, "final": {}}
    runs = {}
    for side, of in zip("ab", sums.values(), strict=True):
        (tmp_path / side).mkdir()
        own = info | {"data": {"classes": 3, "labels": ["a", "b", "c"]}, "sums": of}
        (tmp_path / side / "run.json").write_text(json.dumps(own))
        runs[side] = {"path": tmp_path / side, "info": own,
                      "recipe": SimpleNamespace(train=SimpleNamespace(metrics=METRICS))}

    def make(metrics=METRICS, **data):
        other = runs["b"] | {"recipe": SimpleNamespace(train=SimpleNamespace(metrics=metrics)),
                             "info": runs["b"]["info"] | {"data": runs["b"]["info"]["data"] | data}}
        return runs | {"b": other}

    return make


def test_two_runs_show_their_classes_and_the_difference_without_the_data(two, sums):
    found = task_of_runs(two())
    assert found["matrix"] == {"a": matrix_of(METRICS, sums)["keras"], "b": matrix_of(METRICS, sums)["jax"]}
    assert found.keys() == {"kind", "classes", "matrix", "names", "reliability"}
    page = view(found, {"a": "one", "b": "other"})
    assert page["classes"]["heads"][-2:] == ["F1, one", "F1, other"] and len(page["classes"]["rows"]) == 3
    assert "6 of 9 cells differ, by 1 at most" in page["matrix"]["figure"]["words"]  # the first less the second


def test_of_two_runs_only_what_both_have_measured_of_the_same_classes_is_shown(two):
    assert task_of_runs(two(metrics=("confusion",))).keys() == {"kind", "matrix", "names"}
    assert task_of_runs(two(metrics=())) is None
    assert task_of_runs(two(labels=["a", "b", "d"])) is None and task_of_runs(two(classes=4)) is None
