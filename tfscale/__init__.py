"""Trains with Keras 3 on TensorFlow under tf.distribute. Knows no JAX. What needs no TensorFlow (models, optimizers,
bits, taps, what a batch's loss is) runs on Keras' JAX runtime too, which `kerasjax` sets."""

import os
import sys

# Keras and TensorFlow import these where they are installed, for parts that are not used here: half of all the time
# that importing them takes. Whoever imports one afterwards gets it.
OTHER = "tensorflow" if os.environ.get("KERAS_BACKEND") == "jax" else "jax"
HIDDEN = [name for name in (OTHER, "matplotlib", "pandas", "sklearn") if name not in sys.modules]
sys.modules |= dict.fromkeys(HIDDEN)  # type: ignore[arg-type]  # None reads as not installed
try:
    import keras  # noqa: F401

    if OTHER == "jax":
        import tensorflow  # noqa: F401
finally:
    for name in HIDDEN:
        del sys.modules[name]
if OTHER == "tensorflow":
    from twinscale.tfscale import absent

    absent.keep_out()
