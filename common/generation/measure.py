"""How long a sampler takes for its tokens: a call of a backend's process, for `benchmarks/timing/generation.py`."""

import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data.shapes import data_shape
from twinscale.common.export.formats import Shape
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.generation.loop import Asked, check_room, generate
from twinscale.common.generation.sample import Drawing
from twinscale.common.recipe.schema import Recipe, master_dtype

if TYPE_CHECKING:
    from twinscale.common.training.room import Room

PROMPT = 16  # tokens
SAMPLERS: dict[Recipe, Any] = {}  # of a recipe's first weights, which are as fast as any


def measure_generation(room: "Room", generator: ModuleType, recipe: Any, tokens: int, cached: bool, rows: int = 1
                       ) -> float:
    """Seconds that `tokens` tokens take for each of some rows, the likeliest ones after a prompt of PROMPT; the first
    call compiles.

    Args:
      room: the Room that computes. generator: its module `generate`.
      recipe: as JSON; no data is read.
    Raises BadInput where so many tokens do not fit.
    """
    described = Recipe.model_validate(recipe)
    classes, example_shape = data_shape(described)
    prompts = [np.arange(row, row + PROMPT, dtype=np.int32) % classes for row in range(rows)]
    check_room(prompts, tokens, example_shape[0])
    with room.numerics(described):
        if described not in SAMPLERS:
            tree = parameters(described.model, classes, example_shape)
            values = initial_values(tree, described.seed, master_dtype(described))
            SAMPLERS[described] = generator.sampler(described, Shape(classes, tuple(example_shape)), values)
        start = time.perf_counter()
        generate(SAMPLERS[described], prompts, Asked(tokens, example_shape[0], Drawing(greedy=True), cached))
        return time.perf_counter() - start
