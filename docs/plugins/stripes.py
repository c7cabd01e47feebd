"""A source of images in one file, with a key of its own: stripes of as many widths as there are classes."""

from typing import Annotated

import numpy as np
from pydantic import Field

from twinscale.common.sources import Data, Source


class Options(Data):
    side: Annotated[int, Field(ge=4, le=64)] = Field(8, description="pixels of an image along each axis")


def images(data, argument):
    drawn = np.random.default_rng(0)
    labels = drawn.integers(0, 3, 600)
    phase, x = drawn.uniform(0, 2 * np.pi, (600, 1, 1, 1)), np.arange(data.side)[:, None]
    waves = np.sin(2 * np.pi * (labels[:, None, None, None] + 1) * x / data.side + phase)
    noisy = 128 + 80 * waves + drawn.normal(0, 20, (600, data.side, data.side, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8), labels, 3, ["wide", "narrow", "narrowest"]


STRIPES = Source(holds="images", fingerprint=lambda data, argument: None, images=images, options=Options)
