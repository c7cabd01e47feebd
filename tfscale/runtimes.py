"""What depends on the runtime of Keras that this process has: TensorFlow, or JAX, of which nothing is known here but
what it gives."""

from typing import Any

import keras

# Of JAX: what a room on that runtime gives by `give`, {"vjp": jax.vjp, "jit": jax.jit, ...}.
GIVEN: dict[str, Any] = {}


def on_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow here."""
    return keras.backend.backend() == "tensorflow"


def give(**functions: Any) -> None:
    """Gives what the runtime differentiates (`vjp`, as jax.vjp) and compiles (`jit`, as jax.jit) with, and what says
    which `device` it has (as jax.default_backend) and where a function computes in less than a format (`first_lower`,
    as `program_dtypes.first_lower`)."""
    GIVEN.update(functions)


def device() -> str:
    """What computes here: "cpu", "gpu" or "tpu"."""
    if not on_tensorflow():
        return GIVEN["device"]()
    import tensorflow as tf

    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def nest() -> Any:
    """What maps over trees of tensors: `flatten` and `map_structure`."""
    if not on_tensorflow():
        return keras.tree
    import tensorflow as tf

    return tf.nest


def as_tensor(x: Any, dtype: str | None = None) -> Any:
    """An array or a tensor as a tensor, of a dtype or of its own."""
    if not on_tensorflow():
        return keras.ops.convert_to_tensor(x, dtype)
    import tensorflow as tf

    return tf.convert_to_tensor(x) if dtype is None else tf.cast(x, dtype)
