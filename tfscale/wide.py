"""float64 that holds on Keras' JAX runtime, whose promotion takes float64 for float32 (Keras 3.15:
keras/src/backend/common/dtypes.py, BIT64_TO_BIT32_DTYPE): what computes so there, and the same written so that it keeps
what comes in. On TensorFlow nothing of this is another than Keras' own."""

import math
from types import SimpleNamespace
from typing import Any

import keras
from keras import backend


def loses(x: Any) -> bool:
    """Whether operations that promote what they are given lose digits of a tensor on this process' runtime: means,
    variances, tanh, sine and cosine, floor, argmax and more."""
    return backend.backend() != "tensorflow" and backend.standardize_dtype(x.dtype) == "float64"


def kept_wide(variable: Any) -> None:
    """Has layers that compute in bfloat16 read a variable in its own dtype, in which its gradient adds up then."""
    variable._autocast = False  # as `add_weight(autocast=False)` has it, which stock layers do not pass on


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """As keras.ops.mean, in the dtype of x."""
    if not loses(x):
        return keras.ops.mean(x, axis, keepdims)
    total = keras.ops.sum(x, axis, keepdims)
    return total / (math.prod(x.shape) / math.prod(total.shape))


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """As keras.ops.argmax, by all digits of x: the first of the largest."""
    if loses(x):  # whole numbers it takes as they are
        x = keras.ops.cast(keras.ops.equal(x, keras.ops.max(x, axis, keepdims=True)), "int32")
    return keras.ops.argmax(x, axis, keepdims)


# keras.ops, as formulas over an array namespace take it.
ops: Any = keras.ops if backend.backend() == "tensorflow" else SimpleNamespace(
    **vars(keras.ops) | {"mean": mean, "argmax": argmax})
