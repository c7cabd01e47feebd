"""Metrics of classes against scikit-learn's, in sums over any parting, and within their bounds."""

from functools import partial

import numpy as np
import pytest
import sklearn.metrics as theirs

from twinscale.common.metrics import bounds_of, finished, own_sums, statistics, statistics_of, total
from twinscale.common.metrics.classes import CELLS, CONFUSION, REPORT, TOP_3, confusion

NAMES = ["ant", "bee", "cat", "dog", "eel"]
METRICS = ["report", "confusion", "top-3"]


def example(rows=60, classes=5, seed=0, good=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, (rows, 2))  # nothing is of the last class
    logits = rng.standard_normal((rows, 2, classes)) + good * np.eye(classes)[labels]
    return logits, labels, (rng.random((rows, 2)) < 0.8).astype(np.float64)


def sums(logits, labels, weights, xp=np):
    return statistics(xp, logits, labels, weights) | statistics_of(METRICS, xp, logits, labels, weights)


def test_they_are_those_of_scikit_learn():
    logits, labels, weights = example()
    found = finished(METRICS, total([sums(logits, labels, weights)]), NAMES)
    judged = weights > 0
    true, best = labels[judged], logits.argmax(-1)[judged]
    told = theirs.classification_report(true, best, labels=range(5), target_names=NAMES, output_dict=True,
                                        zero_division=0)
    for name, row in told.items():
        key = {"macro avg": "_macro", "weighted avg": "_weighted"}.get(name, f"/{name}")
        if name != "accuracy":
            for part, its in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
                assert found[f"{part}{key}"] == pytest.approx(row[its], abs=1e-15), (part, key)
    assert found["f1_micro"] == found["precision_micro"] == pytest.approx(told["accuracy"], abs=1e-15)
    table = theirs.confusion_matrix(true, best, labels=range(5))
    assert [[found[f"confusion/{a}/{b}"] for b in NAMES] for a in NAMES] == table.tolist()
    assert found["top_3"] == pytest.approx(theirs.top_k_accuracy_score(true, logits[judged], k=3, labels=range(5)))


def test_they_add_up_over_batches_and_what_weighs_nothing_is_not_there():
    logits, labels, weights = example()
    parts = [sums(logits[rows], labels[rows], weights[rows]) for rows in (slice(0, 7), slice(7, 8), slice(8, 60))]
    whole = total([sums(logits, labels, weights)])
    assert total(parts) == pytest.approx(whole, rel=1e-13)
    changed = np.where(weights[..., None] > 0, logits, 1e3 * logits[..., ::-1])
    assert total([sums(changed, labels, weights)]) == whole
    one, other = (finished(METRICS, total([part])) for part in (parts[0], parts[2]))
    assert abs((one["f1_macro"] + other["f1_macro"]) / 2 - finished(METRICS, whole)["f1_macro"]) > 1e-3


def test_both_frameworks_count_alike_when_compiled():
    jax, keras, tf = (pytest.importorskip(name) for name in ("jax", "keras", "tensorflow"))
    logits, labels, weights = (x.astype(kind) for x, kind in zip(
        example(), ("float32", "int32", "float32"), strict=True))
    wanted = total([sums(logits, labels, weights)])
    in_jax = jax.jit(partial(sums, xp=jax.numpy))(logits, labels, weights)

    @tf.function(jit_compile=True, autograph=False)
    def in_keras(*of):
        return sums(*of, xp=keras.ops)

    for found in (in_jax, in_keras(*map(tf.convert_to_tensor, (logits, labels, weights)))):
        found = total([found])
        assert found.keys() == wanted.keys()
        assert all(found[key] == x for key, x in wanted.items() if key != "loss")  # counts


@pytest.mark.parametrize("width", [1e-3, 3e-3])
def test_noise_moves_no_value_beyond_its_bound_and_flips_some(width):
    logits, labels, weights = example(rows=400, good=0.3)
    rng, moved = np.random.default_rng(1), 0
    one = total([sums(logits, labels, weights)])
    for _ in range(10):
        other = total([sums(logits + width * rng.uniform(-1, 1, logits.shape), labels, weights)])
        loss = abs(one["loss"] - other["loss"]) / one["weight"] + width / np.sqrt(one["weight"])
        values = [finished(METRICS, x, NAMES) for x in (one, other)]
        for metric in (REPORT, CONFUSION, TOP_3):
            for name, bound in bounds_of(metric, own_sums(metric, one), loss, NAMES).items():
                assert abs(values[0][name] - values[1][name]) <= bound, (name, bound)
                moved += values[0][name] != values[1][name]
                assert bound < 0.5 or metric is CONFUSION or name.endswith("/eel"), name
    assert moved


def test_ties_of_the_first_k_go_to_the_first_classes():
    logits = np.zeros((4, 5))
    assert total([sums(logits, np.array([0, 2, 3, 4]), np.ones(4))])["top-3.hits"] == 2


def test_cells_of_many_classes_are_kept_as_sums_alone():
    own = {"weight": 4.0, "near": 0.0, "table": np.ones((CELLS + 1) ** 2)}
    assert confusion(own, ()) == {} and len(confusion(own | {"table": np.ones(CELLS**2)}, ())) == CELLS**2


def test_classes_without_names_are_called_by_their_numbers():
    assert {"f1/0", "f1/4", "confusion/0/4"} <= finished(METRICS, total([sums(*example())])).keys()
