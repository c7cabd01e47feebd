"""Augmentation of images from shared, addressed bits: what happens to row r depends on (seed, step, r) alone."""

from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv

from twinscale.common.data.order import permutation
from twinscale.common.data.rand_augment import rand_augment
from twinscale.common.errors import one_of
from twinscale.common.numbers.bits import draw, fold_in, key, name_word, step_key, uniform
from twinscale.common.sources import MIXUP, Augmenting, Data

REACH = 2  # pixels of the largest shift
RATIOS = (3 / 4, 4 / 3)  # of the sides of what resized-crop takes out


def augment(images_BxHxWxC: np.ndarray, data: Data, seed: int, step: int, rows: np.ndarray) -> np.ndarray:
    """float32 images, from 0 to 1, after each of `data.augment` in turn, but mixup; `rows`: global row numbers (B,)."""
    for choice in data.augment:
        if choice != MIXUP:
            words, change = one_of(CHOICES, choice, "data.augment")
            bits = draw(stream_of(choice, seed, step), rows, words or 2 * data.augmenting.operations)
            images_BxHxWxC = change(images_BxHxWxC, bits, data.augmenting)
    return images_BxHxWxC


def stream_of(choice: str, seed: int, step: int) -> np.ndarray:
    """The key of what a choice draws at a step."""
    return step_key(fold_in(key(seed), name_word(f"augment.{choice}")), step)


def flip(images: np.ndarray, bits_Bx2: np.ndarray, options: Augmenting) -> np.ndarray:
    """Mirrored left to right, half of the time."""
    return np.where((bits_Bx2[:, 0] >> 31).astype(bool)[:, None, None, None], images[:, :, ::-1], images)


def shift(images: np.ndarray, bits_Bx2: np.ndarray, options: Augmenting) -> np.ndarray:
    """Moved by -2 to 2 pixels along both axes; zeros come in."""
    return moved(images, bits_Bx2, REACH, "zeros")


def crop(images: np.ndarray, bits_Bx2: np.ndarray, options: Augmenting) -> np.ndarray:
    """A part of the image's own size, after `padding` pixels were put around it (He et al. 2016): 0, or its mirror."""
    return moved(images, bits_Bx2, options.padding, options.border)


def moved(images: np.ndarray, bits_Bx2: np.ndarray, reach: int, border: str) -> np.ndarray:
    """By -reach to reach pixels along both axes; what comes in is 0, or the image mirrored at its edge."""
    B, H, W, _ = images.shape
    down, right = (bits_Bx2 % np.uint32(2 * reach + 1)).astype(np.int64).T
    around = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    padded = np.pad(images, around, one_of({"zeros": "constant", "reflect": "reflect"}, border,
                                        "data.augmenting.border"))
    y, x = np.arange(H) + down[:, None], np.arange(W) + right[:, None]
    return padded[np.arange(B)[:, None, None], y[:, :, None], x[:, None, :]]


def cutout(images: np.ndarray, bits_Bx2: np.ndarray, options: Augmenting) -> np.ndarray:
    """A square of H // 4 pixels, wholly inside, set to zero (DeVries and Taylor 2017)."""
    _, H, W, _ = images.shape
    side = H // 4
    top, left = bits_Bx2[:, :1] % np.uint32(H - side + 1), bits_Bx2[:, 1:] % np.uint32(max(W - side, 0) + 1)
    y, x = np.arange(H), np.arange(W)
    hole = ((y >= top) & (y < top + side))[:, :, None] & ((x >= left) & (x < left + side))[:, None, :]
    return np.where(hole[..., None], np.float32(0), images)


def resized_crop(images: np.ndarray, bits_Bx4: np.ndarray, options: Augmenting) -> np.ndarray:
    """A part of the image made as large as it (Szegedy et al. 2015), by bilinear interpolation: its share of the area
    is uniform from `smallest` to 1, and the logarithm of its sides' ratio from that of 3/4 to that of 4/3; a side that
    would be longer than the image's is as long."""
    H, W = images.shape[1:3]
    drawn = uniform(bits_Bx4).astype(np.float64)
    area = H * W * (options.smallest + (1 - options.smallest) * drawn[:, 0])
    low, high = np.log(RATIOS)
    ratio = np.exp(low + (high - low) * drawn[:, 1])
    sides = np.minimum(np.sqrt(area / ratio), H), np.minimum(np.sqrt(area * ratio), W)
    images = interpolated(images, 1, sides[0], drawn[:, 2] * (H - sides[0]))
    return interpolated(images, 2, sides[1], drawn[:, 3] * (W - sides[1]))


def interpolated(images: np.ndarray, axis: int, side_B: np.ndarray, start_B: np.ndarray) -> np.ndarray:
    """Images (B, H, W, C) whose `side` pixels from `start` on, of an axis, fill it: linearly between the two nearest
    pixels' middles, and beyond the last one its value."""
    size = images.shape[axis]
    place = start_B[:, None] + (np.arange(size) + 0.5) * side_B[:, None] / size - 0.5
    first = np.clip(np.floor(place), 0, size - 1).astype(np.int64)
    share = np.clip(place - first, 0, 1).astype(np.float32)
    along = [len(images), 1, 1, 1]
    along[axis] = size
    first, second, share = (x.reshape(along) for x in (first, np.minimum(first + 1, size - 1), share))
    low, high = (np.take_along_axis(images, at, axis) for at in (first, second))
    return low + (high - low) * share


def mates(rows: np.ndarray, seed: int, step: int, global_batch: int) -> np.ndarray:
    """The row of the global batch that each of `rows` is mixed with: a permutation of its rows."""
    return permutation(rows, global_batch, seed, step, name_word(MIXUP)).astype(np.uint32)


def shares(rows: np.ndarray, seed: int, step: int, alpha: float) -> np.ndarray:
    """float32 (B,): a row's share in its mixture, of the distribution Beta(alpha, alpha)."""
    drawn = uniform(draw(stream_of(MIXUP, seed, step), rows, 1)[:, 0]).astype(np.float64)
    return betaincinv(alpha, alpha, drawn).astype(np.float32)


# {choice: (32-bit words a row, what it does)}; 0 words: two for each operation
CHOICES: dict[str, tuple[int, Callable]] = {
    "flip": (2, flip), "shift": (2, shift), "crop": (2, crop), "cutout": (2, cutout), "resized-crop": (4, resized_crop),
    "rand-augment": (0, rand_augment)}
