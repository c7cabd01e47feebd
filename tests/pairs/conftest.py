"""No pair here is about what is compiled."""

import pytest


@pytest.fixture(scope="module")
def hurried():
    """JAX compiles as little as can be: tests compile far more than they compute."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
