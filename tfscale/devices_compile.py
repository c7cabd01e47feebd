"""How programs are compiled: of TensorFlow's, `keras.jit_compile` says all but haste."""

import tensorflow as tf


def hasten() -> None:
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute."""
    tf.config.run_functions_eagerly(True)
