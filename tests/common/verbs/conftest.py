"""A directory of weights as the Hugging Face library saves one, and a recipe that may begin with it."""

import pytest

from twinscale.common.export import hugging_face
from twinscale.common.export.formats import Shape
from twinscale.common.families.encoder import Encoder
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.recipe.schema import Recipe

SMALL = {"layers": 1, "width": 8, "heads": 2, "hidden": 12, "vocabulary": 30, "positions": 9, "types": 2}
ENCODER = """name = "e"
[data]
source = "random"
held_out = 0.2
[data.inputs]
ids = { shape = [6], below = 30 }
mask = { shape = [6], padding = true }
types = { shape = [6], below = 2 }
labels = { shape = [], below = 4 }
[model]
family = "encoder"
head = "sequence"
"""


@pytest.fixture
def saved(work):
    """A directory as the Hugging Face library has saved one, of a body alone, and the recipe e.toml of a model that may
    begin with it."""
    m = Encoder(family="encoder", head="embedding", **SMALL)
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "random"}, "model": m.model_dump()})
    tensors = initial_values(parameters(m, 0, (("ids", (6,), "int32"),)), 7, "float32")
    hugging_face.write(recipe, Shape(0, (6,)), tensors, work / "bert")
    (work / "e.toml").write_text(ENCODER)
    return work / "bert"
