"""float64 that holds on Keras' JAX runtime, whose promotion takes float64 for float32 (Keras 3.15:
keras/src/backend/common/dtypes.py, BIT64_TO_BIT32_DTYPE): what computes so there, and the same written so that it keeps
what comes in. On TensorFlow nothing of this is another than Keras' own."""

import math
from types import SimpleNamespace
from typing import Any

import keras
from keras import backend

# The operations of keras.ops that compute in float32 whatever comes in, of those that a layer or a program may call.
LEAKING = ("angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin",
           "average", "ceil", "cos", "cosh", "dot_product_attention", "floor", "layer_normalization", "logaddexp",
           "logaddexp2", "mean", "norm", "polar", "rms_normalization", "sin", "sinc", "sinh", "std", "tan", "tanh", "var")


def loses(x: Any) -> bool:
    """Whether `LEAKING` operations lose digits of a tensor on this process' runtime."""
    return backend.backend() != "tensorflow" and backend.standardize_dtype(x.dtype) == "float64"


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
