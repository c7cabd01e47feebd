"""Trains with Keras 3 on TensorFlow under tf.distribute. Knows no JAX."""

import sys

# Keras and TensorFlow import these where they are installed, for parts that are not used here: half of all the time
# that importing them takes. Whoever imports one afterwards gets it.
HIDDEN = [name for name in ("jax", "matplotlib", "pandas", "sklearn") if name not in sys.modules]
sys.modules |= dict.fromkeys(HIDDEN)  # type: ignore[arg-type]  # None reads as not installed
try:
    import keras  # noqa: F401
    import tensorflow  # noqa: F401
finally:
    for name in HIDDEN:
        del sys.modules[name]
