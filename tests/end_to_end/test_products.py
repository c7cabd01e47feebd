"""Products in 8 bits: each in its place within the bound that its grid gives, a wrong step found, and trained with."""

from unittest.mock import patch

import jax.numpy as jnp
import numpy as np
import pytest

from twinscale.benchmarks.rungs.operations import operations_rung
from twinscale.common.files.tensors import load_tensors
from twinscale.common.operations.in_place import place_rows
from twinscale.common.training import session
from twinscale.common.training.trace import places_at, quanta_at, taps_at
from twinscale.jaxscale.models import products


@pytest.fixture(scope="module")
def recipe(recipe_of):
    return recipe_of("decoder", model={"layers": 1, "norm": "rms", "positions": "rotary", "activation": "swiglu",
                                       "bias": False}, train={"precision": "bfloat16", "products": "int8"})


@pytest.fixture(scope="module")
def found(open_room, recipe, tmp_path_factory):
    """(PlaceRows, the folder of the numbers) of the generic point."""
    out = tmp_path_factory.mktemp("products")
    with open_room("jaxscale", recipe) as opened:
        rows = places_at(opened.room, recipe, "generic", out / "given", out / "mine")
    session.SESSIONS.clear()
    return rows, out


def test_each_product_is_within_the_bound_of_its_grid_and_none_is_exact(found, recipe):
    rung = operations_rung([], {"jax": {"generic": found[0]}}, "bfloat16")
    assert rung["agrees"], rung["where"]
    rows = [row for row in found[0]["own"] if row["operation"] == "linear" and row["way"] == "forward"]
    for row in rows:
        # Without the quantum of its grid a product in 8 bits would be far above what bfloat16 rounds.
        print(row)
    assert len(rows) == 8


@pytest.mark.parametrize("axis", [-1, 0])
def test_a_step_that_is_a_tenth_off_is_found(axis, found, recipe, open_room):
    rounded = products.rounded

    def wrong(x, along):
        values, step = rounded(x, along)
        return values, step * 1.1 if along == axis else step

    given, wide = (load_tensors(found[1] / name) for name in ("given", "mine"))
    with open_room("jaxscale", recipe) as opened, patch.object(products, "rounded", wrong):
        made, dataset = taps_at(opened.room, recipe, "generic", given)
        own = place_rows(recipe, dataset, (given, made, wide), "bfloat16",
                         quanta=quanta_at(opened.room, recipe, "generic", given))
    session.SESSIONS.clear()
    for row in own: print(row["tensor"], row["error"]/row["bound"])
    assert 0
