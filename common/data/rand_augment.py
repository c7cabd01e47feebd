"""RandAugment (Cubuk et al. 2020): a few of 14 operations, drawn for each image, all of one magnitude.

    as PIL has them  autocontrast, equalize, posterize, solarize, and blends with what lacks colour, contrast,
                     brightness or sharpness
    by nearest pixel rotation, shear and translation; zeros come in

Images are rounded to 8 bits first, as what the operations are defined on; of magnitude 30 an operation is at its
strongest: a blend of 0.9 either way, 30 degrees, a shear of 0.3, a translation of 150/331 of a side, 4 bits, all
values solarized. Whether a signed one goes one way or the other is drawn. Of gray images the operation on colour
changes nothing.
"""

from collections.abc import Callable

import numpy as np

from twinscale.common.sources import STRONGEST, Augmenting

GRAY = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R 601, as PIL's mode L
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # PIL's ImageFilter.SMOOTH


def rand_augment(images_BxHxWxC: np.ndarray, bits: np.ndarray, options: Augmenting) -> np.ndarray:
    """float32 images from 0 to 1 after `options.operations` operations each, of `options.magnitude`; `bits`: uint32
    (B, 2 x operations), of each which one it is, and its sign."""
    levels = np.round(images_BxHxWxC.astype(np.float64) * 255)
    strength = options.magnitude / STRONGEST
    for number in range(options.operations):
        which, sign = bits[:, 2 * number:2 * number + 2].T
        which = (which.astype(np.uint64) * np.uint64(len(OPERATIONS)) >> np.uint64(32)).astype(np.int64)
        for index in np.unique(which):
            rows = which == index
            signed = np.where(sign[rows] >> 31, strength, -strength)[:, None, None, None]
            levels[rows] = np.clip(np.round(OPERATIONS[index](levels[rows], strength, signed)), 0, 255)
    return (levels / 255).astype(np.float32)


# ---- on values: (levels 0..255 as float64 (B, H, W, C), strength from 0 to 1, +-strength (B, 1, 1, 1)) -> levels

def identity(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """The same."""
    return x


def autocontrast(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Of each channel the lowest value at 0 and the highest at 255."""
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    return np.where(high > low, np.floor((x - low) * (255 / np.maximum(high - low, 1)) + 1e-9), x)


def equalize(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Of each channel values that are as often as others: by its histogram, as PIL.ImageOps.equalize."""
    B, H, W, C = x.shape
    found = x.astype(np.int64)
    channel = (np.arange(B)[:, None, None, None] * C + np.arange(C)) * 256
    counts = np.bincount((channel + found).ravel(), minlength=B * C * 256).reshape(B * C, 256)
    last = counts[np.arange(B * C), 255 - np.argmax(counts[:, ::-1] > 0, axis=1)]
    step = (H * W - last)[:, None] // 255
    table = (step // 2 + np.cumsum(counts, axis=1) - counts) // np.maximum(step, 1)
    table = np.where(step > 0, np.minimum(table, 255), np.arange(256))
    return table.ravel()[channel + found].astype(np.float64)


def posterize(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """The upper 8 to 4 bits alone."""
    away = 2.0 ** round(4 * strength)
    return np.floor(x / away) * away


def solarize(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Values from a threshold on turned round."""
    return np.where(x >= 256 - round(256 * strength), 255 - x, x)


def blended(x: np.ndarray, without: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """Away from, or towards, an image that lacks something, 0.9 of the way at most."""
    return np.clip(without + (x - without) * (1 + 0.9 * signed), 0, 255)


def gray_of(x: np.ndarray) -> np.ndarray:
    """Of an image in colours its gray, (B, H, W, 1) and rounded; a gray one is its own."""
    return np.round(x @ GRAY)[..., None] if x.shape[-1] == 3 else x


def colour(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """More or less colour."""
    return blended(x, gray_of(x), signed)


def contrast(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """More or less contrast, around the mean of its gray."""
    return blended(x, np.round(gray_of(x).mean(axis=(1, 2, 3), keepdims=True)), signed)


def brightness(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Brighter or darker."""
    return blended(x, np.zeros_like(x), signed)


def sharpness(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Sharper, or smoothed by its neighbours; the outermost pixels stay."""
    H, W = x.shape[1:3]
    smooth = x.copy()
    if min(H, W) > 2:
        smooth[:, 1:-1, 1:-1] = np.round(sum(
            SMOOTH[i, j] * x[:, i:H - 2 + i, j:W - 2 + j] for i in range(3) for j in range(3)))
    return blended(x, smooth, signed)


# ---- on places

def from_places(x: np.ndarray, y_from: np.ndarray, x_from: np.ndarray) -> np.ndarray:
    """Each pixel from the nearest one to a place (B, H, W); 0 where that is outside."""
    H, W = x.shape[1:3]
    rows, columns = np.round(y_from).astype(np.int64), np.round(x_from).astype(np.int64)
    inside = (rows >= 0) & (rows < H) & (columns >= 0) & (columns < W)
    taken = x[np.arange(len(x))[:, None, None], np.clip(rows, 0, H - 1), np.clip(columns, 0, W - 1)]
    return np.where(inside[..., None], taken, 0.0)


def middle_out(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """(rows (1, H, 1) and columns (1, 1, W) from the middle, and the middle)."""
    H, W = x.shape[1:3]
    return (np.arange(H)[None, :, None] - (H - 1) / 2, np.arange(W)[None, None, :] - (W - 1) / 2, (H - 1) / 2,
            (W - 1) / 2)


def rotate(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Turned about its middle, by 30 degrees at most."""
    down, right, y, z = middle_out(x)
    angle = np.deg2rad(30 * signed[..., 0])
    sine, cosine = np.sin(angle), np.cos(angle)
    return from_places(x, y + cosine * down + sine * right, z - sine * down + cosine * right)


def shear_x(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Rows moved along, the more the further from the middle, by 0.3 of that at most."""
    down, right, y, z = middle_out(x)
    return from_places(x, y + down + 0 * right, z + right + 0.3 * signed[..., 0] * down)


def shear_y(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Columns moved along."""
    return turned(shear_x, x, strength, signed)


def translate_x(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Moved left or right, by 150/331 of its width at most."""
    down, right, y, z = middle_out(x)
    by = np.round(signed[..., 0] * x.shape[2] * 150 / 331)
    return from_places(x, y + down + 0 * right, z + right + by + 0 * down)


def translate_y(x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """Moved up or down."""
    return turned(translate_x, x, strength, signed)


def turned(change: Callable, x: np.ndarray, strength: float, signed: np.ndarray) -> np.ndarray:
    """The same along the other axis."""
    return change(x.swapaxes(1, 2), strength, signed).swapaxes(1, 2)


OPERATIONS = (identity, autocontrast, equalize, rotate, solarize, colour, posterize, contrast, brightness, sharpness,
              shear_x, shear_y, translate_x, translate_y)
