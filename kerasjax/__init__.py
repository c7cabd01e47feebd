"""Trains the Keras program of `tfscale` on the JAX runtime of `jaxscale`: the third column. Knows no TensorFlow.

What makes a model and its optimizer is `tfscale`'s, what trains it (mesh, step, checkpoints, lowering) is `jaxscale`'s.
"""

import os
import sys

from twinscale.common.errors import MissingEnvironment

if "keras" in sys.modules and sys.modules["keras"].backend.backend() != "jax":
    raise MissingEnvironment(f"this process has Keras on {sys.modules['keras'].backend.backend()}: Keras on JAX needs "
                             "one of its own")
os.environ["KERAS_BACKEND"] = "jax"  # which Keras reads once, when it is imported
