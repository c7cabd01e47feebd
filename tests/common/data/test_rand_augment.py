"""RandAugment: its operations are PIL's, and each image draws its own."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from twinscale.common.data import rand_augment as module
from twinscale.common.data.rand_augment import OPERATIONS, rand_augment
from twinscale.common.numbers.bits import draw, key
from twinscale.common.sources import Augmenting

DRAWN = np.random.default_rng(0)
SMOOTH = np.stack([np.add.outer(np.arange(20) * k, np.arange(24) * 3) % 200 for k in (2, 5, 7)], -1).astype(np.uint8)
NOISE = DRAWN.integers(20, 220, (20, 24, 3), np.uint8)


def of_pil(change, image):
    return np.asarray(change(Image.fromarray(image)))


@pytest.mark.parametrize("image", [SMOOTH, NOISE], ids=["smooth", "noise"])
@pytest.mark.parametrize(("name", "strength", "theirs"), [
    ("autocontrast", 1, ImageOps.autocontrast), ("equalize", 1, ImageOps.equalize),
    ("posterize", 1, lambda x: ImageOps.posterize(x, 4)), ("posterize", 0.5, lambda x: ImageOps.posterize(x, 6)),
    ("solarize", 0.5, lambda x: ImageOps.solarize(x, 128)), ("solarize", 1, ImageOps.invert),
    ("colour", 1, lambda x: ImageEnhance.Color(x).enhance(1.9)),
    ("colour", -0.5, lambda x: ImageEnhance.Color(x).enhance(0.55)),
    ("contrast", 0.5, lambda x: ImageEnhance.Contrast(x).enhance(1.45)),
    ("brightness", -1, lambda x: ImageEnhance.Brightness(x).enhance(0.1)),
    ("sharpness", 1, lambda x: ImageEnhance.Sharpness(x).enhance(1.9)),
    ("sharpness", -1, lambda x: ImageEnhance.Sharpness(x).enhance(0.1)),
    ("rotate", 1, lambda x: x.rotate(30, Image.Resampling.NEAREST)),
    ("rotate", -0.5, lambda x: x.rotate(-15, Image.Resampling.NEAREST))])
def test_operations_are_those_of_pil(image, name, strength, theirs):
    ours = getattr(module, name)(image[None].astype(np.float64), abs(strength), np.full((1, 1, 1, 1), float(strength)))
    ours, theirs = np.clip(np.round(ours[0]), 0, 255), of_pil(theirs, image)
    far = np.abs(ours - theirs) > (2 if name in ("colour", "contrast", "sharpness") else 1)
    assert far.mean() < (0.03 if name == "rotate" else 1e-9) and (theirs != image).mean() > 5e-4


def test_the_neighbours_that_smooth_are_those_of_pil():
    smooth = module.sharpness(NOISE[None].astype(np.float64), 1, np.full((1, 1, 1, 1), -1 / 0.9))[0]
    assert np.abs(smooth - of_pil(lambda x: x.filter(ImageFilter.SMOOTH), NOISE)).max() <= 1


def test_what_moves_moves_by_what_it_should():
    image = np.zeros((1, 33, 33, 1))
    image[0, 0, 16], image[0, 16, 16], image[0, 32, 16] = 1, 2, 3
    places = lambda x: [tuple(map(int, np.argwhere(x[0, ..., 0] == k)[0])) for k in (1, 2, 3)]  # noqa: E731
    one = np.ones((1, 1, 1, 1))
    assert places(module.shear_x(image, 1, one)) == [(0, 21), (16, 16), (32, 11)]
    assert places(module.shear_x(image, 1, -one)) == [(0, 11), (16, 16), (32, 21)]
    across = image.swapaxes(1, 2)
    assert places(module.shear_y(across, 1, one)) == [(21, 0), (16, 16), (11, 32)]
    assert places(module.translate_x(image, 1, one)) == [(0, 1), (16, 1), (32, 1)]
    assert places(module.translate_y(across, 1, -one)) == [(31, 0), (31, 16), (31, 32)]


def test_each_image_draws_its_own_operations_and_magnitude_0_leaves_most_as_they_are():
    images = np.broadcast_to(NOISE / np.float32(255), (300, *NOISE.shape)).astype(np.float32)
    bits = draw(key(1), np.arange(300, dtype=np.uint32), 4)
    out = rand_augment(images, bits, Augmenting(operations=2))
    assert out.dtype == np.float32 and len({x.tobytes() for x in out}) > 60
    one = rand_augment(images, bits[:, :2], Augmenting(operations=1, magnitude=0))
    changed = (one != images).any(axis=(1, 2, 3)).mean()
    assert 1 / 14 < changed < 3 / 14  # autocontrast and equalize have no magnitude
    parts = [rand_augment(images[cut], bits[cut], Augmenting()) for cut in (slice(0, 7), slice(7, 300))]
    assert np.array_equal(np.concatenate(parts), out)


def test_gray_images_and_tiny_ones_do_as_well():
    for shape in ((28, 9, 9, 1), (28, 2, 2, 3), (28, 1, 5, 1)):
        images = DRAWN.random(shape).astype(np.float32)
        for operation in OPERATIONS:
            found = operation(np.round(images.astype(np.float64) * 255), 1.0, np.ones((28, 1, 1, 1)))
            assert found.shape == shape and np.isfinite(found).all()
    gray = DRAWN.integers(0, 256, (3, 5, 5, 1)).astype(np.float64)
    assert np.array_equal(module.colour(gray, 1.0, np.ones((3, 1, 1, 1))), gray)
