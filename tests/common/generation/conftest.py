"""A state of a small decoder's run, and a backend in NumPy that goes on from it."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.data.tokenizers import byte_tokenizer
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.generation.loop import Sampler
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import canonical
from twinscale.common.training.run import open_run

SEQUENCE, TEXT = 16, b" once upon a time there"
MANIFEST = {"tokenizer": {"kind": "bytes", "vocabulary": 257, "sha256": byte_tokenizer().hash}}


@pytest.fixture
def state(tmp_path):
    """state(manifest, **model): the directory of what `convert` makes of a run of such a model."""
    def make(manifest=MANIFEST, **model):
        recipe = Recipe.model_validate({
            "name": "x", "model": model or {"family": "decoder", "layers": 1, "width": 8, "heads": 2},
            "data": {"source": "stdlib" if model.get("family", "decoder") == "decoder" else "digits",
                     "sequence": SEQUENCE}})
        with open_run(tmp_path / "run", recipe, "jax") as run:
            run.info["data"] = manifest
        shape = (257, (SEQUENCE,)) if recipe.model.family == "decoder" else (10, (8, 8, 1))
        values = initial_values(parameters(recipe.model, *shape), 0, "float32")
        canonical.write(tmp_path / "state", recipe, run, 12, {f"weights/{name}": x for name, x in values.items()})
        return tmp_path / "state"

    return make


@pytest.fixture
def backend():
    """(a room, its module `generate`) whose decoder writes TEXT by heart, at the position at which it is. With a cache
    it is `off` by as many logits, a key of the room."""
    def after(positions, off=0.0):
        at = (np.asarray(positions) + 1) % len(TEXT)
        logits = 5.0 * (np.arange(257) == np.frombuffer(TEXT, np.uint8)[at][..., None])
        logits[..., 256] += off
        return logits

    @contextmanager
    def numerics(recipe):
        yield

    room = SimpleNamespace(backend="jax", numerics=numerics, off=0.0, dtypes=set())

    def sampler(recipe, shape, tensors):
        room.dtypes = {str(x.dtype) for x in tensors.values()}
        return Sampler(lambda ids, lengths, slots: (after(lengths - 1), None),
                       lambda ids, positions, cache: (after(positions, room.off), None))

    def trainer(recipe, shape):
        return lambda tensors, ids: np.broadcast_to(after(np.arange(ids.shape[1])), (*ids.shape, 257))

    return room, SimpleNamespace(sampler=sampler, trainer=trainer)
