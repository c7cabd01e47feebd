"""Both rooms behind one interface, over digits and a small corpus; what was compiled once is asked once."""

import importlib
import importlib.util
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinscale.benchmarks.workers import each, open_workers
from twinscale.common.data import open_dataset, training_batches
from twinscale.common.families.encoder import Encoder, rows_of
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.schema import Recipe

ROOMS = ("tfscale", "jaxscale")


@pytest.fixture(scope="session")
def reference():
    """The NumPy transcription beside this file."""
    spec = importlib.util.spec_from_file_location("twinscale_reference", Path(__file__).with_name("reference.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kept(tmp_path_factory, request):
    """A directory of this run of the suite, one for all its workers."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if hasattr(request.config, "workerinput") else own) / "kept"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(kept):
    """A cache of the run's own. JAX keeps there what any process of the run has compiled: the same program is compiled
    once, whoever asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINSCALE_CACHE", str(kept / "cache"))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(kept / "programs"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        patch.setenv("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")
        yield


@pytest.fixture(scope="module")
def hurried():
    """JAX compiles as little as can be, here and in children, for a module that is not about what is compiled."""
    import jax  # which reads what is set once, when it is imported

    with pytest.MonkeyPatch.context() as patch, quick("jaxscale", True):
        assert jax.config.read("jax_disable_most_optimizations")
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        yield


@pytest.fixture(params=ROOMS)
def name(request):
    """The name of one room."""
    return request.param


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The source of 80 short documents: rows of 16 tokens hold several, so their weights differ."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(7)
    for i in range(80):
        (folder / f"{i:02}.txt").write_text("".join(rng.choice(list("abcdefgh "), rng.integers(2, 40))))
    return f"text:{folder}/*.txt"


@pytest.fixture(scope="session")
def recipe_of(corpus):
    """recipe_of("decoder", model={...}, train={...}): a tiny float64 recipe, without XLA on the TensorFlow side."""
    tiny = {"decoder": {"layers": 2, "width": 16, "heads": 4}, "convnet": {"channels": [4, 8]},
            "mlp": {"hidden": [24, 16]}, "vit": {"layers": 1, "width": 16, "heads": 4},
            "resnet": {"layers": [1, 1], "widths": [4, 6], "stem_width": 4, "stem": "cifar"}, "encoder": {
                "layers": 1, "width": 16, "heads": 4, "vocabulary": 40, "positions": 16, "types": 2}}

    def make(family, **sections):
        text = family == "decoder"
        data = {"source": corpus, "sequence": 16} if text else {"source": "digits"}
        if family == "encoder":
            options = Encoder(family=family, **tiny[family] | sections.get("model", {}))
            data = {"source": "random", "rows": 80, "inputs": rows_of(options)}
        values = {"name": "tiny", "seed": 5, "data": {**data, "held_out": 0.2}, "keras": {"jit_compile": False},
                  "model": {"family": family, **tiny[family]}, "train": {"global_batch": 8, "precision": "float64"}}
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes}
        return Recipe.model_validate(values)

    return make


@dataclass
class Opened:
    """A room with a recipe's dataset, devices and state before the first step."""

    room: Any
    recipe: Recipe
    dataset: Any
    devices: Any
    state: Any

    def batch(self, number=0, permuted=False):
        return next(training_batches(self.dataset, self.recipe, number, number + 1, permuted=permuted))[1]

    def tensors(self, batch=None, number=0):
        batch = self.batch(number) if batch is None else batch
        step_tensors = self.room.make_step_tensors(self.recipe, self.state, self.devices)
        return step_tensors(self.state, number, batch)

    def weights(self):
        return {key.removeprefix("weights/"): np.array(x) for key, x in self.room.state_tensors(self.state).items()
                if key.startswith("weights/")}


@pytest.fixture(scope="session")
def room_of(kept):
    """room_of("tfscale"): its ROOM. JAX in this process, which may have been imported before, keeps its programs with
    those of the children."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(kept / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    yield lambda name: importlib.import_module(f"twinscale.{name}.room").ROOM
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="session")
def open_room(room_of):
    """`with open_room(name, recipe) as opened`: at its numerics, compiled as little as can be unless `optimised`, for
    tests compile far more than they compute."""

    @contextmanager
    def context(name, recipe, optimised=False):
        room = room_of(name)
        with quick(name, not optimised), room.numerics(recipe):
            dataset, devices = open_dataset(recipe), room.open_devices(recipe)
            yield Opened(room, recipe, dataset, devices, room.new_state(recipe, dataset, devices))

    return context


@pytest.fixture(scope="session")
def quickly():
    """`with quickly(name)`: as `open_room` compiles, for what opens a recipe itself."""
    return lambda name: quick(name, True)


@contextmanager
def quick(name, on):
    """TensorFlow eagerly, and XLA without its optimisations (op by op, JAX would compile each op by itself)."""
    if not on:
        yield
    elif name == "tfscale":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)
    else:
        import jax

        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def first_step(open_room):
    """first_step(name, recipe): (weights, batch, step_tensors) of step 0; kept for the session."""
    known = {}

    def compute(name, recipe, permuted=False, optimised=False):
        asked = name, recipe, permuted, optimised
        if asked not in known:
            with open_room(name, recipe, optimised) as opened:
                batch = opened.batch(permuted=permuted)
                known[asked] = opened.weights(), batch, opened.tensors(batch)
        return known[asked]

    return compute


@pytest.fixture(scope="module")
def workers(request):
    """The processes of the rooms that a module names in ROOMS, {backend: module}, compiling as little as can be."""
    with open_workers(rooms=request.module.ROOMS) as opened:
        each(opened, lambda worker: worker.ask("hasten"))
        yield opened


@pytest.fixture
def left(workers, tmp_path):
    """left(recipe): {backend: what its first step leaves}; of some backends, by another call, with what it takes."""
    def of(recipe, *backends, call="first_step", **asked):
        def one(worker):
            path = tmp_path / f"{worker.backend}.safetensors"
            worker.ask(call, recipe, path=path, **asked)
            return load_tensors(path)

        return each({name: workers[name] for name in backends or workers}, one)

    return of
