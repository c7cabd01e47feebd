"""How a layout has an array of ours, and back: the same values, axes in another order."""

import numpy as np

from twinscale.common.errors import one_of

KERNEL, FIRST = "kernel", "first"
# {how: (from ours to theirs, and back)}: as it is; with its axes turned around; a convolution's kernel (H, W, in, out)
# as (out, in, H, W), as torch has it; a table (rows, width) as (1, rows, width).
WAYS = {False: (lambda x: x, lambda x: x), True: (np.transpose, np.transpose),
        KERNEL: (lambda x: x.transpose(3, 2, 0, 1), lambda x: x.transpose(2, 3, 1, 0)),
        FIRST: (lambda x: x[None], lambda x: x[0])}


def to_theirs(x: np.ndarray, how: bool | str) -> np.ndarray:
    """An array of ours as a layout has it. Raises BadInput where `how` is no way."""
    return np.ascontiguousarray(one_of(WAYS, how, "a layout's way")[0](x))


def to_ours(x: np.ndarray, how: bool | str) -> np.ndarray:
    """An array of a layout as it is here. Raises BadInput where `how` is no way."""
    return np.ascontiguousarray(one_of(WAYS, how, "a layout's way")[1](x))


def shape_there(shape: tuple[int, ...], how: bool | str) -> tuple[int, ...]:
    """The shape in a layout of an array of a shape of ours."""
    return one_of(WAYS, how, "a layout's way")[0](np.broadcast_to(np.uint8(0), shape)).shape
