"""The references of what a training adds to a model, by hand."""

import numpy as np

from twinscale.common.numbers.formats import EPS
from twinscale.common.operations.references import CLASSES, CLIP, FORMATS, RATE, WIDTH, B, T, Wide
from twinscale.common.operations.references_training import clip, dropout, loss, loss_gradient, losses_of

F64 = FORMATS["float64"]
LABELS = np.arange(6).reshape(2, 3)


def test_equal_logits_lose_the_logarithm_of_the_number_of_classes_smoothed_or_not():
    logits, weights = np.full((2, 3, CLASSES), Wide(7)), np.array([[1, 1, 1], [1, 1, 0]], Wide)
    (found, _), = loss(F64, logits, LABELS, weights)
    assert abs(found - 5 * np.log(Wide(CLASSES))) <= 64 * EPS["float64"]  # 5 logarithms of 50 are below 32
    smoothed, *_ = losses_of(F64, logits, LABELS, Wide(0.1), Wide(0))
    assert np.abs(smoothed - np.log(Wide(CLASSES))).max() <= 16 * EPS["float64"]


def test_what_the_loss_gives_a_label_it_takes_from_the_others_and_a_weight_of_0_gives_nothing():
    logits = np.random.default_rng(0).standard_normal((2, 3, CLASSES)).astype(Wide)
    weights = np.array([[1, 1, 1], [1, 1, 0]], Wide)
    for smoothing in (0.0, 0.1):
        (gradient, _), _ = loss_gradient(smoothing)(F64, logits, LABELS, weights, Wide(1))
        assert np.abs(gradient.sum(-1)).max() <= CLASSES * EPS["float64"]
        label = np.take_along_axis(gradient, LABELS[..., None], -1)[..., 0]
        assert (label[weights > 0] < 0).all() and not gradient[1, 2].any()


def test_gradients_above_the_limit_come_down_to_it_together_and_others_stay():
    kernel, bias = 10 * np.full((2, 2), CLIP * Wide(1.5)), 10 * np.array([CLIP * Wide(4)])  # 30 and 40: a norm of 50
    (k, _), (b, _), (total, _) = clip(F64, kernel, bias)
    assert total == 50 * CLIP and np.allclose((k**2).sum() + (b**2).sum(), CLIP**2, rtol=8 * EPS["float64"], atol=0)
    assert np.allclose(k / b, kernel / bias, rtol=8 * EPS["float64"], atol=0)
    for small in (kernel / 100, 0 * kernel):
        assert (clip(F64, small, 0 * bias)[0][0] == small).all()


def test_what_is_not_dropped_grows_by_what_is():
    x, row = np.ones((B, T, WIDTH), Wide), np.arange(B, dtype=np.uint32)
    (found, _), = dropout(F64, x, row, np.array([0, 11], np.uint32))
    kept = found != 0
    assert (found[kept] == 1 / (1 - Wide(RATE))).all()
    assert abs(kept.mean() - (1 - RATE)) < 5 * np.sqrt(RATE * (1 - RATE) / kept.size)  # five deviations
    later, = dropout(F64, x[1:], row[1:], np.array([0, 11], np.uint32))
    assert (later[0] == found[1:]).all()  # by the number of a row, not by its place in a batch
