"""What changes of a program have in common, on any of Keras' runtimes: patch points with a function of what stands
there, and what several of them compute."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from twinscale.tfscale import batch_loss, models
from twinscale.tfscale.bits import Tensor, word


def in_bfloat16(x: Tensor) -> Tensor:
    """float32 in bfloat16's values, by its bits: XLA takes a cast there and back for none. Others as they are."""
    if standardize_dtype(x.dtype) != "float32":
        return x
    bits = ops.view(x, "uint32")
    near = bits + word(0x7FFF) + ops.bitwise_and(ops.right_shift(bits, word(16)), word(1))
    y = ops.view(ops.bitwise_and(near, word(0xFFFF0000)), "float32")
    return x + ops.stop_gradient(y - x)


def turned(table: np.ndarray, x: Tensor, positions: Tensor) -> Tensor:
    """A table (T, D / 2) of cosines or sines in the dtype of x (B, T, H, D), as positions (B, T) read it."""
    return ops.take(ops.cast(table, x.dtype), positions, axis=0)[:, :, None]


def of_labels(values: Tensor, labels: Tensor) -> Tensor:
    """The value (...) of each position's label, of values (..., V)."""
    return ops.take_along_axis(values, ops.cast(labels, "int32")[..., None], -1)[..., 0]


@contextmanager
def changed_model(**values: Any) -> Iterator[None]:
    """Builds every model from a section with some values changed."""
    builder = models.builder

    def changed(recipe):
        return lambda m, *rest: builder(recipe)(m.model_copy(update=values), *rest)

    with patch.object(models, "builder", changed):
        yield


@contextmanager
def changed_loss(function: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Each position's loss as a function of logits (..., V) and labels (...) makes it."""
    with patch.object(batch_loss, "negative_log_likelihood", function):
        yield
