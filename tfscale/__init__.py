"""Trains with Keras 3 on TensorFlow under tf.distribute. Knows no JAX."""
