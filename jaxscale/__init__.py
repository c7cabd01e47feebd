"""Trains with Flax NNX on JAX under jit and NamedSharding. Knows no TensorFlow."""
