"""Areas under ROC curves and calibration errors against scikit-learn and plain loops."""

from functools import partial

import numpy as np
import pytest
import sklearn.metrics as theirs

from twinscale.common.metrics import bounds_of, finished, own_sums, statistics, statistics_of, total
from twinscale.common.metrics.scores import AUC, BINS, CALIBRATION, ERROR, REACH, ROC_AUC, WIDTH

METRICS = ["roc-auc-1024", "calibration-15"]


def example(rows=300, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = 2 * rng.standard_normal((rows, classes)) + 1.5 * np.eye(classes)[labels]
    return logits, labels, (rng.random(rows) < 0.8).astype(np.float64)


def sums(logits, labels, weights, xp=np):
    return statistics(xp, logits, labels, weights) | statistics_of(METRICS, xp, logits, labels, weights)


def shares_of(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def test_the_area_is_that_of_scikit_learn_on_the_bins_and_near_that_on_the_scores():
    logits, labels, weights = example()
    found, judged = finished(METRICS, total([sums(logits, labels, weights)])), weights > 0
    shares = shares_of(logits)
    bins = np.clip(np.floor((np.log(shares / (1 - shares)) + REACH) / WIDTH), 0, BINS - 1)
    for k in range(4):
        exact = theirs.roc_auc_score(labels[judged] == k, bins[judged, k])
        assert found[f"{AUC}/{k}"] == pytest.approx(exact, abs=1e-13)
        assert found[f"{AUC}/{k}"] == pytest.approx(theirs.roc_auc_score(labels[judged] == k, shares[judged, k]),
                                                    abs=2e-3)
    assert found[AUC] == pytest.approx(np.mean([found[f"{AUC}/{k}"] for k in range(4)]), abs=1e-15)


def test_of_two_classes_the_area_is_that_of_the_second():
    logits, labels, weights = example(classes=2)
    found, judged = finished(METRICS, total([sums(logits, labels, weights)])), weights > 0
    assert set(found) == {AUC, ERROR}
    assert found[AUC] == pytest.approx(theirs.roc_auc_score(labels[judged], (logits[:, 1] - logits[:, 0])[judged]),
                                       abs=2e-3)


def test_scores_beyond_the_outer_bins_are_in_them_and_a_class_that_is_not_there_tells_nothing():
    logits = np.array([[500.0, 0.0], [0.0, 500.0], [0.0, 0.0]])
    assert finished(METRICS, total([sums(logits, np.array([0, 1, 1]), np.ones(3))]))[AUC] == 1.0
    assert finished(METRICS, total([sums(logits, np.array([0, 0, 0]), np.ones(3))]))[AUC] == 0.5


def test_the_calibration_error_is_that_of_plain_loops():
    logits, labels, weights = example()
    shares, judged = shares_of(logits), weights > 0
    confidence, hit = shares.max(-1)[judged], (shares.argmax(-1) == labels)[judged]
    wanted = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            wanted += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert finished(METRICS, total([sums(logits, labels, weights)]))[ERROR] == pytest.approx(wanted, abs=1e-13)


def test_they_add_up_over_batches():
    logits, labels, weights = example()
    parts = [sums(logits[rows], labels[rows], weights[rows]) for rows in (slice(0, 50), slice(50, 300))]
    assert total(parts) == pytest.approx(total([sums(logits, labels, weights)]), rel=1e-12)


def test_both_frameworks_agree_within_the_bounds_when_compiled():
    jax, keras, tf = (pytest.importorskip(name) for name in ("jax", "keras", "tensorflow"))
    logits, labels, weights = (x.astype(kind) for x, kind in zip(
        example(), ("float32", "int32", "float32"), strict=True))

    @tf.function(jit_compile=True, autograph=False)
    def in_keras(*of):
        return sums(*of, xp=keras.ops)

    wanted = total([sums(logits, labels, weights)])
    for found in (jax.jit(partial(sums, xp=jax.numpy))(logits, labels, weights),
                  in_keras(*map(tf.convert_to_tensor, (logits, labels, weights)))):
        found = total([found])
        assert found.keys() == wanted.keys()
        assert sum(found[f"roc-auc-1024.of.{i}"] for i in range(BINS)) == ((labels == 0) * weights).sum()
        values = [finished(METRICS, x) for x in (found, wanted)]
        for metric in (ROC_AUC, CALIBRATION):
            for name, bound in bounds_of(metric, own_sums(metric, wanted), 1e-6).items():
                assert abs(values[0][name] - values[1][name]) <= bound < 0.2


def test_noise_moves_neither_beyond_its_bound():
    logits, labels, weights = example(rows=600)
    one, rng, moved = total([sums(logits, labels, weights)]), np.random.default_rng(1), 0
    for _ in range(8):
        other = total([sums(logits + 3e-4 * rng.uniform(-1, 1, logits.shape), labels, weights)])
        loss = 3e-4 / np.sqrt(one["weight"])
        values = [finished(METRICS, x) for x in (one, other)]
        for metric in (ROC_AUC, CALIBRATION):
            for name, bound in bounds_of(metric, own_sums(metric, one), loss).items():
                assert abs(values[0][name] - values[1][name]) <= bound < 0.2, name
                moved += values[0][name] != values[1][name]
    assert moved
