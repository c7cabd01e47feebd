"""Jobs of the peers, and how many weights ours has of the same recipe."""

from types import SimpleNamespace

import pytest

from twinscale.benchmarks.timing.peers import job
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.recipe.schema import Recipe

MODELS = {"encoder": {"family": "encoder", "layers": 2, "width": 8, "heads": 2, "vocabulary": 300, "positions": 9,
                      "types": 2, "head": "sequence", "dropout": 0.1},
          "decoder": {"family": "decoder", "layers": 2, "width": 8, "heads": 2}}
DATA = {"encoder": {"source": "csv:x", "tokenizer": "wordpiece", "vocabulary": 300}, "decoder": {}}
SHAPES = {"encoder": (("ids", (6,), "int32"),), "decoder": (6,)}


@pytest.fixture(params=MODELS)
def asked(request):
    """(the job of a tiny model, how many weights ours has)."""
    recipe = Recipe.model_validate({"name": "x", "data": {"sequence": 6} | DATA[request.param],
                                    "model": MODELS[request.param], "train": {"global_batch": 3}})
    shape = SHAPES[request.param]
    described = job(recipe, SimpleNamespace(classes=5, example_shape=shape))
    return described, trained_size(parameters(recipe.model, 5, shape))
