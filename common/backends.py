"""The backends, by their ids: each trains a program on a runtime. A further one is one entry of `BACKENDS`.

An id stands in files (run.json, an index, results). People write `--backend PROGRAM --runtime RUNTIME` and read a
title.
"""

from typing import NamedTuple


class Backend(NamedTuple):
    """A program on a runtime.

    title: what people read. program: what --backend calls it; runtime: likewise --runtime. package: of twinscale, whose
    `room` trains and whose `lower` compiles; it is a worker's process. needs: modules without which it does not run.
    exporter: the backend whose exporter writes its model, as weights are of no backend; sampler: likewise of text.
    """

    title: str
    program: str
    runtime: str
    package: str
    needs: tuple[str, ...]
    exporter: str
    sampler: str


BACKENDS = {
    "keras": Backend("Keras", "keras", "tensorflow", "tfscale", ("tensorflow", "keras"), "keras", "keras"),
    "keras-jax": Backend("Keras on JAX", "keras", "jax", "kerasjax", ("keras", "jax", "flax"), "keras", "jax"),
    "jax": Backend("JAX", "jax", "jax", "jaxscale", ("jax", "flax"), "jax", "jax")}
BOTH = ("keras", "jax")  # those that a comparison holds to each other
RUNTIMES = {"tensorflow": "TensorFlow", "jax": "JAX"}  # by what --runtime calls them


def options_of(backend: str) -> list[str]:
    """The words of a command line that name a backend."""
    program, runtime = BACKENDS[backend].program, BACKENDS[backend].runtime
    return ["--backend", program, *(["--runtime", runtime] if backend != program else [])]


def on_jax(backend: str) -> bool:
    """Whether a backend trains on JAX, as the section [jax] of a recipe and a mesh of devices say."""
    return BACKENDS[backend].runtime == "jax"


def module_of(backend: str) -> str:
    """The package that is a backend's process: `python -m MODULE`."""
    return f"twinscale.{BACKENDS[backend].package}"
