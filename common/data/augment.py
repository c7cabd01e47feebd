"""Augmentation of images from shared, addressed bits: what happens to row r depends on (seed, step, r) alone."""

from collections.abc import Iterable

import numpy as np

from twinscale.common.errors import one_of
from twinscale.common.numbers.bits import draw, fold_in, key, name_word, step_key

REACH = 2  # pixels of the largest shift


def augment(images_BxHxWxC: np.ndarray, choices: Iterable[str], seed: int, step: int, rows: np.ndarray) -> np.ndarray:
    """float32 images after each of `choices` ("flip", "shift", "cutout") in turn; `rows`: global row numbers (B,)."""
    for choice in choices:
        stream = step_key(fold_in(key(seed), name_word(f"augment.{choice}")), step)
        images_BxHxWxC = one_of(CHOICES, choice, "data.augment")(images_BxHxWxC, draw(stream, rows, 2))
    return images_BxHxWxC


def flip(images: np.ndarray, bits_Bx2: np.ndarray) -> np.ndarray:
    """Mirrored left to right, half of the time."""
    return np.where((bits_Bx2[:, 0] >> 31).astype(bool)[:, None, None, None], images[:, :, ::-1], images)


def shift(images: np.ndarray, bits_Bx2: np.ndarray) -> np.ndarray:
    """Moved by -2 to 2 pixels along both axes; zeros come in."""
    B, H, W, _ = images.shape
    down, right = (bits_Bx2 % np.uint32(2 * REACH + 1)).astype(np.int64).T
    padded = np.pad(images, ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0)))
    y, x = np.arange(H) + down[:, None], np.arange(W) + right[:, None]
    return padded[np.arange(B)[:, None, None], y[:, :, None], x[:, None, :]]


def cutout(images: np.ndarray, bits_Bx2: np.ndarray) -> np.ndarray:
    """A square of H // 4 pixels, wholly inside, set to zero (DeVries and Taylor 2017)."""
    _, H, W, _ = images.shape
    side = H // 4
    top, left = bits_Bx2[:, :1] % np.uint32(H - side + 1), bits_Bx2[:, 1:] % np.uint32(max(W - side, 0) + 1)
    y, x = np.arange(H), np.arange(W)
    hole = ((y >= top) & (y < top + side))[:, :, None] & ((x >= left) & (x < left + side))[:, None, :]
    return np.where(hole[..., None], np.float32(0), images)


CHOICES = {"flip": flip, "shift": shift, "cutout": cutout}
