"""No pair here is about what is compiled."""

import pytest


@pytest.fixture(scope="module")
def hurried(tmp_path_factory):
    """JAX compiles as little as can be, and nothing twice: tests compile far more than they compute."""
    import jax

    wanted = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
              "jax_persistent_cache_min_compile_time_secs": 0.1, "jax_persistent_cache_enable_xla_caches": "none",
              "jax_disable_most_optimizations": True}
    before = {name: getattr(jax.config, name) for name in list(wanted)[:3]}
    before["jax_disable_most_optimizations"] = jax.config.read("jax_disable_most_optimizations")
    for name, value in wanted.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
