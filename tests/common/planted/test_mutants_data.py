"""What is planted in what data draw changes that alone, and is gone afterwards."""

from types import SimpleNamespace

import numpy as np

from twinscale.common.data import augment, class_weights
from twinscale.common.data.masking import Drawn, in_training
from twinscale.common.data.word_pieces import PieceKinds
from twinscale.common.planted.mutants_data import CHANGES
from twinscale.common.sources import Augmenting, Data

CLS, SEP, MASK, UNKNOWN = range(4)
ROWS = np.arange(64, dtype=np.uint32)


def pieces(step=0, **data):
    """Rows [CLS] ... [SEP] without padding, after what a recipe's data draw."""
    table = PieceKinds(np.ones(50, bool), np.arange(50) < 4, MASK, UNKNOWN)
    ids = np.random.default_rng(0).integers(4, 50, (len(ROWS), 10)).astype(np.int32)
    ids[:, 0], ids[:, -1] = CLS, SEP
    batch = {"ids": ids, "mask": np.ones_like(ids), "labels": ids, "weights": np.ones(ids.shape, np.float32)}
    return in_training(Drawn(table, Data(**data)), batch, SimpleNamespace(), ROWS, (1, step), ROWS)


def test_the_ends_of_a_row_are_hidden_or_dropped_where_that_is_planted_and_nowhere_else():
    masked, dropped = {"masked": 0.5}, {"augment": ["word-dropout"], "augment_share": 0.5}
    assert not pieces(**masked)["weights"][:, [0, -1]].any() and (pieces(**dropped)["ids"][:, 0] == CLS).all()
    with CHANGES["hidden_ends"].plant():
        assert pieces(**masked)["weights"][:, [0, -1]].any()
    with CHANGES["dropped_ends"].plant():
        assert (pieces(**dropped)["ids"][:, 0] == UNKNOWN).any()
    assert not pieces(**masked)["weights"][:, [0, -1]].any() and (pieces(**dropped)["ids"][:, 0] == CLS).all()


def test_masks_are_drawn_once_or_show_nothing_else_where_that_is_planted():
    def hidden(step):
        return pieces(step, masked=0.5)["weights"]

    assert not np.array_equal(hidden(0), hidden(1))
    with CHANGES["hidden_once"].plant():
        assert np.array_equal(hidden(0), hidden(1))
    with CHANGES["always_a_mask"].plant():
        found = pieces(masked=0.5)
        assert ((found["ids"] == MASK) == (found["weights"] > 0)).all()


def test_images_of_a_batch_are_augmented_alike_or_by_nearest_pixels_where_that_is_planted():
    images = np.repeat(np.random.default_rng(0).random((1, 8, 8, 1), np.float32), 16, 0)

    def after(choice):
        return augment.augment(images, Data(augment=[choice], augmenting=Augmenting(smallest=0.3)), 0, 0, ROWS[:16])

    assert len(np.unique(after("rand-augment"), axis=0)) > 4
    assert not np.isin(after("resized-crop"), images).all()
    with CHANGES["one_operation"].plant():
        assert len(np.unique(after("rand-augment"), axis=0)) == 1
    with CHANGES["nearest_pixels"].plant():
        assert np.isin(after("resized-crop"), images).all()


def test_classes_weigh_what_they_did_but_for_a_factor():
    examples = SimpleNamespace(take=lambda i: {"labels": i % 3, "weights": np.ones(len(i), np.float32)})
    weighted = class_weights.Weighted(examples, np.array([1, 2, 5], np.float32))
    right = weighted.take(np.arange(6))["weights"]
    with CHANGES["weights_of_one"].plant():
        np.testing.assert_allclose(weighted.take(np.arange(6))["weights"], right / 8, rtol=1e-6)
    assert np.array_equal(weighted.take(np.arange(6))["weights"], right)
