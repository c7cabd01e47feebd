"""Pictures as numbers, by one rule in training and in prediction: 8 bits a channel, gray or colours, nothing guessed.

    1 bit               0 or 255
    8 bits              as they are; a palette's colours are looked up
    16 bits             their upper 8
    transparency        none is, or it is refused: what lies behind is not known
    CMYK and others     refused

Gray among colours is three equal channels; colours where gray is wanted are refused unless the three are equal.
A picture that a camera's orientation tag (EXIF) says to turn is turned; colour profiles are not applied.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twinscale.common.errors import BadInput, first_line
from twinscale.common.files.access import read_bytes, shown

if TYPE_CHECKING:
    from PIL.Image import Image as Opened

MOST_PIXELS = 1 << 26
# (x, y) of the first pixel of each pass of an interlaced PNG, and the steps from one to the next.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PICTURES = (".png", ".jpg", ".jpeg")


def read_pixels(path: str | Path, place: str | None = None) -> np.ndarray:
    """uint8 (H, W, 1) of a gray PNG or JPEG file, (H, W, 3) of one in colours; BadInput names the `place`."""
    from PIL import Image, ImageOps

    place, content = place or shown(path), read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, whose size is judged here
            with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise BadInput(f"{place}: is {image.height} x {image.width} pixels: make it smaller")
                if (frames := getattr(image, "n_frames", 1)) > 1:
                    raise BadInput(f"{place}: holds {frames} pictures: save them one by one")
                image.load()
                if image.format == "PNG" and (lost := missing_bytes(content)):
                    raise BadInput(f"{place}: {lost:,} bytes of its pixels are missing: save it again")
                return in_8_bits(ImageOps.exif_transpose(image), place)
    except BadInput:
        raise
    except Exception as error:  # whatever the decoders raise
        raise BadInput(f"{place}: no image can be read: {shown(first_line(error))}: save it as PNG or JPEG") from None


def missing_bytes(content: bytes) -> int:
    """Bytes of pixels that a PNG file (its content) says it has and has not, which a decoder leaves black. Source: PNG
    specification, third edition: 7.2 scanlines, 8 interlacing, 11.2.1 the header."""
    at, packed = 8, []
    while at + 8 <= len(content):
        length = int.from_bytes(content[at:at + 4])
        if content[at + 4:at + 8] == b"IDAT":
            packed.append(content[at + 8:at + 8 + length])
        at += 12 + length
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    wanted = sum(high * (1 + -(-wide * bits // 8)) for wide, high in sizes if wide > 0 and high > 0)
    return wanted - len(zlib.decompressobj().decompress(b"".join(packed), wanted))


def in_8_bits(image: "Opened", place: str) -> np.ndarray:
    """The pixels of an opened PIL image, by the rule above."""
    mode, clear = image.mode, "transparency" in image.info
    if mode in ("I;16", "I;16B", "I;16L", "I;16N", "I") and not clear:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadInput(f"{place}: has values from {values.min()} to {values.max()}: save it in 8 or 16 bits")
        return (values >> 8).astype(np.uint8)[..., None]
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or (clear and mode in ("1", "L", "P", "RGB")):
        if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise BadInput(f"{place}: is transparent in places: lay it on a background")
        return np.asarray(image.convert("L" if mode in ("1", "L", "LA", "La") else "RGB")).reshape(
            image.height, image.width, -1)
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    if mode in ("P", "RGB") and not clear:
        return np.asarray(image.convert("RGB"))
    raise BadInput(f"{place}: its pixels are {mode}{' with a transparent value' * clear}: save it as gray or RGB")


def brought_to(pixels: np.ndarray, size: int) -> np.ndarray:
    """A picture (H, W, C), uint8, as (size, size, C): its shorter side made `size` pixels long by PIL's bilinear
    filter, which averages over all that a pixel covers, and of the longer one the middle."""
    from PIL import Image

    H, W, C = pixels.shape
    high, wide = (max(size, round(side * size / min(H, W))) for side in (H, W))
    image = Image.fromarray(pixels if C > 1 else pixels[..., 0]).resize((wide, high), Image.Resampling.BILINEAR)
    top, left = (high - size) // 2, (wide - size) // 2
    return np.asarray(image).reshape(high, wide, C)[top:top + size, left:left + size]


def with_channels(pixels: np.ndarray, channels: int, place: str) -> np.ndarray:
    """The same picture (H, W, C) with 1 or 3 channels; BadInput where colours would be lost."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    if (pixels != pixels[..., :1]).any():
        raise BadInput(f"{place}: has colours, but gray is wanted: convert it to gray")
    return pixels[..., :1]


def from_0_to_1(values: np.ndarray, place: str) -> np.ndarray:
    """Values of images as floating point, float64 or float32; uint8 is divided by 255, and others are to be within 0
    and 1 already: BadInput where they are not."""
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    if values.dtype.kind != "f":
        raise BadInput(f"{place}: is {values.dtype}, but images are uint8, or floating point from 0 to 1: divide by "
                       "the largest value there can be")
    low, high = values.min(initial=0), values.max(initial=0)
    if not (low >= 0 and high <= 1):
        said = f"values from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "values that are not finite"
        raise BadInput(f"{place}: holds {said}, but images are uint8, or floating point from 0 to 1"
                       + (": divide them by 255" if low >= 0 and 1 < high <= 255 else ""))
    return values if values.dtype == np.float64 else values.astype(np.float32)


def png_of(pixels: np.ndarray) -> bytes:
    """The content of a PNG file of uint8 (H, W, 1) or (H, W, 3)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
