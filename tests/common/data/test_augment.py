import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from twinscale.common.data import augment as augmenting
from twinscale.common.data.augment import CHOICES, mates, shares
from twinscale.common.errors import BadInput
from twinscale.common.sources import Data


def augment(images, choices, seed, step, rows, **options):
    return augmenting.augment(images, Data(augment=tuple(choices), augmenting=options), seed, step, rows)


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


@pytest.mark.parametrize("choice", CHOICES)
def test_shape_and_type_stay_and_values_are_from_0_to_1(many, choice):
    out = augment(many[0], [choice], 0, 0, many[1])
    assert out.shape == many[0].shape and out.dtype == np.float32 and not np.array_equal(out, many[0])
    assert out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize(("border", "mode"), [("zeros", "constant"), ("reflect", "mirror")])
def test_crop_takes_a_part_of_its_size_out_of_a_padded_image(many, border, mode):
    images, rows = many[0][:60], many[1][:60]
    out, seen = augment(images, ["crop"], 0, 0, rows, padding=3, border=border), set()
    ways = list(itertools.product(range(-3, 4), repeat=2))
    for image, cropped in zip(images, out, strict=True):
        (way,) = [way for way in ways if np.array_equal(ndimage.shift(image, (*way, 0), order=0, mode=mode), cropped)]
        seen.add(way)
    assert len(seen) > 25 and {way[0] for way in seen} == set(range(-3, 4)) == {way[1] for way in seen}


def test_a_border_that_is_none_is_refused_where_it_is_taken(many):
    with pytest.raises(BadInput, match="data.augmenting.border.*unheard"):
        augmenting.moved(many[0][:2], np.zeros((2, 2), np.uint32), 2, "unheard")


def test_resized_crop_is_linear_between_pixels():
    """Of a slope it leaves a slope, as much flatter as the part is smaller, and of a flat image the same."""
    rows, plain = np.arange(300, dtype=np.uint32), np.ones((300, 1, 1, 1), np.float32)
    down, right = (np.linspace(0, 1, 24, dtype=np.float32).reshape(shape) for shape in ((1, 24, 1, 1), (1, 1, 24, 1)))
    flat = np.ones((300, 24, 24, 1), np.float32)
    slopes = []
    for slope in (down, right):
        out = augment(slope * flat, ["resized-crop"], 0, 0, rows, smallest=0.25)
        inner = np.diff(out, axis=1 if slope is down else 2)[:, 2:-2, 2:-2, 0] * 23
        assert np.ptp(inner, axis=(1, 2)).max() < 1e-4
        slopes.append(inner.mean(axis=(1, 2)))
    area, ratio = slopes[0] * slopes[1], slopes[1] / slopes[0]
    assert 0.2 < area.min() < 0.35 and 0.9 < area.max() <= 1 + 1e-4 and 0.74 < ratio.min() < ratio.max() < 1.34
    assert np.array_equal(augment(plain * flat, ["resized-crop"], 0, 0, rows), flat)


def test_rows_are_mixed_with_each_other_by_shares_of_a_beta_distribution():
    rows = np.arange(4000, dtype=np.uint32)
    assert np.array_equal(np.sort(mates(rows, 1, 2, 4000)), rows) and (mates(rows, 1, 2, 4000) != rows).mean() > 0.99
    for alpha in (0.2, 1.0, 4.0):
        found = shares(rows, 1, 2, alpha)
        assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
        assert stats.kstest(found, "beta", (alpha, alpha)).pvalue > 1e-3
    assert np.array_equal(shares(rows[7:9], 1, 2, 0.2), shares(rows, 1, 2, 0.2)[7:9])
    assert not np.array_equal(shares(rows, 1, 3, 0.2), shares(rows, 1, 2, 0.2))
