"""What both trainers share. NumPy only: never imports TensorFlow, Keras, JAX or Flax."""
