"""Products in 8 bits: each in its place within the bound of its grid, a wrong rounding found, and trained with."""

from unittest.mock import patch

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from twinscale.benchmarks.products import judged_products
from twinscale.benchmarks.rungs.operations import part
from twinscale.common.data import training_batches
from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import load_tensors
from twinscale.common.numbers.formats import EPS, walk
from twinscale.common.operations.in_place import place_rows
from twinscale.common.operations.quantised import E4M3, E5M2, PRODUCTS, carried
from twinscale.common.training import session
from twinscale.common.training.trace import places_at, quanta_at, taps_at
from twinscale.jaxscale.models import products

CASES = [("int8", "bfloat16"), ("fp8", "bfloat16"), ("fp8", "float32")]


@pytest.fixture(scope="module", params=CASES, ids=" in ".join)
def recipe(request, recipe_of):
    kind, precision = request.param
    return recipe_of("decoder", model={"layers": 1, "norm": "rms", "positions": "rotary", "activation": "swiglu",
                                       "bias": False}, train={"precision": precision, "products": kind})


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


def above(recipe, made, dataset, healthy, quanta):
    """({tensor} above their bounds, the verdict) of what was made."""
    given, wide, _ = healthy
    own = place_rows(recipe, dataset, (given, made, wide), recipe.train.precision, quanta=quanta)
    return {row["tensor"] for row in own if part(row) > 1}, judged_products(recipe, {"generic": {
        "own": own, "float64": []}})


def one_product(quanta):
    """The tensors that one product makes. What several hand back to a norm is rounded to bfloat16 by each, and may hide
    what int8 rounds."""
    assert len(quanta) == 11
    return {name for name in quanta if "norm" not in name}


def test_each_product_is_within_its_bound_and_far_from_the_full_one(found, healthy, recipe, open_room):
    result = judged_products(recipe, {"generic": found[0]})
    assert result["agrees"], result["checks"]
    rows = [row for row in found[0]["own"] if row["operation"] == "linear" and row["way"] == "forward"]
    assert len(rows) == 8
    with open_room("jaxscale", recipe) as opened:
        made, dataset = taps_at(opened.room, recipe, "generic", healthy[0])
    session.SESSIONS.clear()
    assert one_product(healthy[2]) <= above(recipe, made, dataset, healthy, {})[0] <= set(healthy[2])
    assert all(np.median(more) < 1e-3 * np.median(np.abs(far)) for far, more in healthy[2].values())  # few ties


ROUNDED = products.rounded
WRONG = {"a step that is a tenth off": lambda values, step, x, grid: (values, step * 1.1),
         "no step": lambda values, step, x, grid: (x.astype(jnp.float32).astype(grid.name), jnp.ones_like(step)),
         "other values": lambda values, step, x, grid: ROUNDED(x, -1, E5M2 if grid != E5M2 else E4M3),
         "no rounding": lambda values, step, x, grid: (x.astype(jnp.float32) / step, step)}


@pytest.mark.parametrize("error", WRONG)
def test_a_wrong_rounding_is_found_at_each_product_and_nowhere_else(error, healthy, recipe, open_room):
    def wrong(x, axis, grid):
        if axis == 0:  # of one factor alone
            return ROUNDED(x, axis, grid)
        values, step = WRONG[error](*ROUNDED(x, axis, grid), x, grid)
        return values.astype(jnp.float32), step  # which has them all, and what is not rounded too

    with open_room("jaxscale", recipe) as opened, patch.object(products, "rounded", wrong):
        made, dataset = taps_at(opened.room, recipe, "generic", healthy[0])
    session.SESSIONS.clear()
    off, result = above(recipe, made, dataset, healthy, healthy[2])
    assert one_product(healthy[2]) <= off <= set(healthy[2])
    assert not result["agrees"] and all("block_0" in check["where"] for check in result["checks"])


def numbers(dtype):
    """x (2, 5, 48), w (48, 24), dy (2, 5, 24) in a dtype, of rows of several sizes."""
    rng = np.random.default_rng(3)
    x, w, dy = (rng.standard_normal(shape) for shape in ((2, 5, 48), (48, 24), (2, 5, 24)))
    return tuple(jnp.asarray(a, dtype) for a in (x * 10.0 ** rng.integers(-6, 6, (2, 5, 1)), 0.02 * w, 1e-5 * dy))


def cast(x, axis, name, largest):
    x = np.asarray(x, np.float32)
    step = np.abs(x).max(axis, keepdims=True) / np.float32(largest)
    return (x / step).astype(name).astype(np.float64) * step


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_fp8_is_e4m3_forward_and_e5m2_for_what_comes_from_behind_as_numpys_extension_casts(dtype):
    x, w, dy = numbers(dtype)
    y, back = jax.vjp(lambda x, w: products.eight_bit_matmul(x, w, "fp8"), x, w)
    dx, dw = back(dy)
    e4m3, e5m2 = (ml_dtypes.float8_e4m3fn, 448), (ml_dtypes.float8_e5m2, 57344)
    wanted = {"y": (cast(x, -1, *e4m3) @ cast(w, 0, *e4m3), carried(x, w, E4M3, E4M3)[1]),
              "dx": (cast(dy, -1, *e5m2) @ cast(w.T, 0, *e4m3), carried(dy, w.T, E5M2, E4M3)[1]),
              "dw": (np.einsum("btk,btm->km", np.asarray(x, np.float64), np.asarray(dy, np.float64)), 0)}
    near = EPS["bfloat16"] if dtype == jnp.bfloat16 else walk(48) * EPS["float32"]
    for (name, (value, ties)), made in zip(wanted.items(), (y, dx, dw), strict=True):
        assert made.dtype == dtype and np.mean(ties > near * np.abs(value)) < 0.1
        rows = np.abs(value).max(-1, keepdims=True)  # whose largest values sums are relative to
        assert (np.abs(np.asarray(made, np.float64) - value) <= near * rows + ties).all(), name


def test_the_product_of_floating_8_bits_adds_up_in_float32():
    """What is left over of terms that cancel would not be in any sum of fewer bits."""
    x = jnp.concatenate([jnp.full((1, 1024), 448.0), jnp.full((1, 1024), -448.0), jnp.full((1, 1), 1.0)], 1)
    y = jax.jit(lambda x: products.product(x, jnp.ones((x.shape[1], 1)), "fp8"))(x)
    assert y[0, 0] == 1


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_and_stays_in_its_row(kind, bad):
    x, w, dy = numbers(jnp.float32)
    with np.errstate(invalid="ignore"):
        y = products.eight_bit_matmul(x.at[0, 1, 3].set(bad), w, kind)
        _, back = jax.vjp(lambda x: products.eight_bit_matmul(x, w.at[:, 5].set(bad), kind), x)
        dx = back(dy.at[1, 2, 0].set(bad))[0]
    assert not np.isfinite(y[0, 1]).any() and np.isfinite(np.delete(np.asarray(y).reshape(10, 24), 1, 0)).all()
    assert not np.isfinite(dx).any()  # every column of what goes back reads the kernel's


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-37, 1e30])
def test_rows_of_zeros_and_of_any_size_are_finite_and_near(kind, size):
    x, w, _ = numbers(jnp.float32)
    x = x.at[0, 1].set(size * np.sign(x[0, 1]))
    y, (far, _) = products.eight_bit_matmul(x, w, kind), carried(x, w, PRODUCTS[kind].forward, PRODUCTS[kind].forward)
    assert np.isfinite(y).all()
    wanted = np.asarray(x, np.float64) @ np.asarray(w, np.float64) + far
    np.testing.assert_allclose(y[0, 1], wanted[0, 1], rtol=1e-4, atol=1e-5 * size + 1e-36)


def test_a_fused_product_is_refused_since_it_would_round_several_together(recipe):
    with pytest.raises(ValueError, match="jax.fused=true"):
        recipe.with_values(jax={"fused": True})


@pytest.mark.slow
def test_training_in_eight_bits_follows_that_in_full(recipe, open_room):
    losses = {}
    for kind in ("full", recipe.train.products):
        described = recipe.with_values(train={"products": kind, "steps": 30}, jax={"scan": kind != "full"})
        with open_room("jaxscale", described) as opened:
            state = opened.state
            step = opened.room.make_step(described, state, opened.devices)
            losses[kind] = []
            for number, batch, _ in training_batches(opened.dataset, described, 0, 30):
                state, metrics = step(state, number, batch)
                losses[kind].append(float(metrics["loss"]))
    full, eight = (np.array(found) for found in losses.values())
    assert (full != eight).any() and full[-5:].mean() < full[:5].mean()
    assert abs(eight[-5:].mean() - full[-5:].mean()) < 0.1 * (full[:5].mean() - full[-5:].mean())


def test_keras_refuses_what_it_does_not_have(recipe, open_room):
    with pytest.raises(BadInput, match=f'train.products="{recipe.train.products}": JAX alone'), \
            open_room("tfscale", recipe):
        pass
