import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from twinscale.common.data.augment import augment

CHOICES = ("flip", "shift", "cutout")


def pictures(rows):
    """A picture of its own for each row, no pixel of it zero."""
    return np.stack([np.random.default_rng(int(row)).uniform(0.1, 1, (12, 9, 2)) for row in rows]).astype(np.float32)


@given(rows=st.permutations(range(12)), step=st.integers(0, 2**32 - 1), cut=st.integers(1, 11))
@settings(max_examples=30)
def test_a_rows_augmentation_depends_on_seed_step_and_row_alone(rows, step, cut):
    rows = np.array(rows, np.uint32)
    whole = augment(pictures(range(12)), CHOICES, 5, step, np.arange(12, dtype=np.uint32))
    for part in (rows[:cut], rows[cut:]):
        assert np.array_equal(augment(pictures(part), CHOICES, 5, step, part), whole[part])


def test_seed_and_step_change_it():
    rows = np.arange(12, dtype=np.uint32)
    seen = {augment(pictures(rows), CHOICES, seed, step, rows).tobytes() for seed in (1, 2) for step in (0, 1)}
    assert len(seen) == 4


@pytest.fixture(scope="module")
def many():
    rows = np.arange(200, dtype=np.uint32)
    return pictures(rows), rows


def test_flip_mirrors_about_half(many):
    images, rows = many
    out = augment(images, ["flip"], 0, 0, rows)
    same, mirrored = ((out == other).all(axis=(1, 2, 3)) for other in (images, images[:, :, ::-1]))
    assert (same ^ mirrored).all() and 80 < mirrored.sum() < 120


def test_shift_moves_every_way_and_lets_zeros_in(many):
    images, rows = many
    out, seen = augment(images, ["shift"], 0, 0, rows), set()
    ways = list(itertools.product(range(-2, 3), repeat=2))
    for image, moved in zip(images, out, strict=True):
        (way,) = [way for way in ways if np.array_equal(ndimage.shift(image, (*way, 0), order=0), moved)]
        seen.add(way)
    assert seen == set(ways)


def test_cutout_zeroes_one_square_and_nothing_else(many):
    images, rows = many
    out = augment(images, ["cutout"], 0, 0, rows)
    hole = ~out.any(axis=3)
    assert (hole.sum(axis=(1, 2)) == 3 * 3).all()
    assert (hole.any(axis=1).sum(axis=1) == 3).all() and (hole.any(axis=2).sum(axis=1) == 3).all()
    assert hole.any(axis=0).all()
    assert np.array_equal(out[~hole], images[~hole])


def test_shape_and_type_stay(many):
    out = augment(many[0], CHOICES, 0, 0, many[1])
    assert out.shape == many[0].shape and out.dtype == np.float32
