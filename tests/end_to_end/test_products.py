"""Products in 8 bits: each in its place within the bound that its grid gives, a wrong step found, and trained with."""

from unittest.mock import patch

import numpy as np
import pytest

from twinscale.benchmarks.products import judged_products
from twinscale.benchmarks.rungs.operations import part
from twinscale.common.data import training_batches
from twinscale.common.errors import BadInput
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


@pytest.fixture(scope="module")
def healthy(found, open_room, recipe):
    """(given, float64, quanta) of the numbers that were left."""
    given, wide = (load_tensors(found[1] / name) for name in ("given", "mine"))
    with open_room("jaxscale", recipe) as opened:
        quanta = quanta_at(opened.room, recipe, "generic", given)
    session.SESSIONS.clear()
    return given, wide, quanta


def test_each_product_is_within_the_bound_of_its_grid_and_only_by_it(found, recipe):
    result = judged_products(recipe, {"generic": found[0]})
    assert result["agrees"], result["checks"]
    rows = [row for row in found[0]["own"] if row["operation"] == "linear" and row["way"] == "forward"]
    assert len(rows) == 8 and all(part(row) > 0.05 for row in rows)  # as large as the grid's own rounding


def test_a_step_that_is_a_tenth_off_is_found_at_each_product_and_nowhere_else(found, healthy, recipe, open_room):
    rounded, (given, wide, quanta) = products.rounded, healthy

    def wrong(x, along):
        values, step = rounded(x, along)
        return values, step * 1.1 if along == -1 else step

    with open_room("jaxscale", recipe) as opened, patch.object(products, "rounded", wrong):
        made, dataset = taps_at(opened.room, recipe, "generic", given)
    session.SESSIONS.clear()
    own = place_rows(recipe, dataset, (given, made, wide), "bfloat16", quanta=quanta)
    assert {row["tensor"] for row in own if part(row) > 1} == set(quanta)
    result = judged_products(recipe, {"generic": {"own": own, "float64": []}})
    assert not result["agrees"] and all("block_0" in check["where"] for check in result["checks"])


@pytest.mark.slow
def test_training_in_eight_bits_follows_that_in_full(recipe, open_room):
    losses = {}
    for kind in ("full", "int8"):
        described = recipe.with_values(train={"products": kind, "steps": 30}, jax={"scan": kind == "int8"})
        with open_room("jaxscale", described) as opened:
            state = opened.state
            step = opened.room.make_step(described, state, opened.devices)
            losses[kind] = []
            for number, batch, _ in training_batches(opened.dataset, described, 0, 30):
                state, metrics = step(state, number, batch)
                losses[kind].append(float(metrics["loss"]))
    full, int8 = (np.array(losses[kind]) for kind in ("full", "int8"))
    assert (full != int8).any() and full[-5:].mean() < full[:5].mean()
    assert abs(int8[-5:].mean() - full[-5:].mean()) < 0.1 * (full[:5].mean() - full[-5:].mean())


def test_keras_refuses_what_it_does_not_have(recipe, open_room):
    with pytest.raises(BadInput, match='train.products="int8": JAX alone'), open_room("tfscale", recipe):
        pass
