"""Losses of outputs that are no classes, in NumPy."""

import numpy as np
import pytest

from twinscale.common import losses
from twinscale.common.errors import BadInput
from twinscale.common.metrics import statistics
from twinscale.common.objectives import CROSS_ENTROPY, PROBE, SQUARED_ERROR
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe(name="x", seed=3, data={"source": "digits"}, model={"family": "mlp"}, objective={"name": "probe"})


def test_signs_are_of_seed_and_position_and_no_sum_of_few_is_zero():
    one, other = losses.signs(3, (5, 7)), losses.signs(4, (5, 7))
    assert one.dtype == np.float32 and one.shape == (5, 7) and not np.array_equal(one, other)
    assert np.array_equal(one.ravel(), losses.signs(3, (35,)))
    assert np.abs(one).min() >= 0.5 and np.abs(one).max() <= losses.LARGEST_SIGN
    assert 0.4 < (losses.signs(3, (4096,)) > 0).mean() < 0.6 and len(np.unique(np.abs(one))) == 35


def test_the_probe_weighs_every_output_of_a_row_by_its_own_sign_and_reads_no_label():
    logits = np.zeros((2, 3, 4))
    signs = losses.signs(3, (3, 4))
    for place in np.ndindex(3, 4):
        moved = logits.copy()
        moved[(1, *place)] = 1
        found = losses.probe(np, RECIPE, moved, None)
        assert found.shape == (2, 3) and not found[0].any() and found[1].sum() == signs[place]


def test_squared_error_is_of_numbers_and_of_classes():
    logits = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert np.allclose(losses.squared_error(np, RECIPE, logits, np.array([[1.0, 0.0], [0.0, 5.0]])), [2.0, 4.5])
    assert np.allclose(losses.squared_error(np, RECIPE, logits, np.array([0, 1])), [2.0, 12.5])
    assert np.allclose(losses.squared_error(np, RECIPE, logits[:, :1], np.array([0, 2])), [1.0, 1.0])
    with pytest.raises(BadInput, match=r"labels of \(3,\) a row do not fit outputs of \(2,\)"):
        losses.squared_error(np, RECIPE, logits, np.zeros((2, 3)))


def test_sigmoid_is_binary_cross_entropy_and_does_not_overflow():
    logits = np.array([[0.3, -2.0, 800.0, -800.0]])
    labels = np.array([[1.0, 0.25, 1.0, 0.0]])
    shares = 1 / (1 + np.exp(-logits[0, :2]))
    wanted = -(labels[0, :2] * np.log(shares) + (1 - labels[0, :2]) * np.log(1 - shares)).sum() / 4
    assert np.allclose(losses.sigmoid(np, RECIPE, logits, labels), wanted)


def test_a_weight_of_a_row_is_of_the_mean_over_its_positions():
    found = losses.by_weight(np, np.array([[1.0, 3.0], [5.0, 7.0]]), np.ones(2))
    assert found.tolist() == [2.0, 6.0]
    with pytest.raises(BadInput, match=r"weights of \(3,\) a row do not fit outputs with positions \(2,\)"):
        losses.by_weight(np, np.ones((2, 2)), np.ones((2, 3)))


def test_an_evaluation_adds_up_what_the_objective_is_of():
    logits, labels, weights = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([0, 1]), np.array([1.0, 0.0])
    of_classes = losses.sums_of(CROSS_ENTROPY, np, RECIPE, logits, labels, weights)
    assert of_classes == statistics(np, logits, labels, weights)
    found = losses.sums_of(SQUARED_ERROR, np, RECIPE, logits, labels, weights)
    assert found == {"loss": 2.0, "weight": 1.0}  # of what is no class nothing is a hit
    probed = losses.sums_of(PROBE, np, RECIPE, logits, labels, weights)
    assert probed["loss"] == pytest.approx(float((logits[0] * losses.signs(3, (2,))).sum()))


def test_of_a_mixture_a_loss_is_that_of_both_labels_by_their_shares():
    table = np.array([[0.0, 1.0], [2.0, 3.0]])
    batch = {"labels": np.array([0, 1]), "mixed_labels": np.array([1, 1]), "mixed_share": np.array([0.25, 0.5])}
    plain = {"labels": batch["labels"]}
    for positions, wanted in ((1, [0.75, 3.0]), ([[1, 2]], [[0.75, 1.5], [3.0, 6.0]])):
        def measure(labels, positions=positions):
            found = table[np.arange(2), labels]
            return found if positions == 1 else found[:, None] * positions

        assert np.array_equal(losses.of_both(np, batch, np.asarray, measure), wanted)
        assert np.array_equal(losses.of_both(np, plain, np.asarray, measure), measure(batch["labels"]))
