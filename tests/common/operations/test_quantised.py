"""How far 8 bits carry a product is what NumPy's own casts say, each within half an ulp, and no more is forgiven."""

import ml_dtypes
import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.numbers.formats import EPS, walk
from twinscale.common.operations.quantised import E4M3, E5M2, INT8, PRODUCTS, carried, on_grid, quanta
from twinscale.common.recipe.schema import Recipe

HALF_ULP = {INT8: 0.0, E4M3: 2.0**-4, E5M2: 2.0**-3}  # of a value, at most, where it is above the smallest steps
FACTORS = [(INT8, INT8), (E4M3, E4M3), (E5M2, E4M3)]
TERMS = (1, 2, 16, 700)


def cast(x, axis, grid, scaled=True):
    """(as NumPy's extension rounds float32's quotients, the steps)."""
    x = np.asarray(x, np.float32)
    step = np.abs(x).max(axis, keepdims=True) / np.float32(grid.largest) if scaled else np.ones_like(x[:1, :1])
    quotient = x / step
    return (quotient if grid.eps else np.round(quotient)).astype(grid.name).astype(np.float32), step


def used(x, w, grids, wrong=None, factor=1.0, scaled=True):
    """The largest share of what is forgiven that NumPy's float32 product takes, of which float32's sum is a part."""
    x, w = np.asarray(x, np.float32), np.asarray(w, np.float32)
    (a, s), (b, t) = cast(x, -1, wrong or grids[0], scaled), cast(w, 0, wrong or grids[1], scaled)
    found = (a @ b) * s * t * np.float32(factor)
    far, more = carried(x, w, *grids)
    sums = walk(x.shape[-1]) * EPS["float32"] * (np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64))
    return (np.abs(found - (x.astype(np.float64) @ w.astype(np.float64) + far)) / (more + sums)).max()


def factors(terms):
    rng = np.random.default_rng(3)
    return rng.standard_normal((40, terms)), 0.02 * rng.standard_normal((terms, 50))


@pytest.mark.parametrize("grid", [INT8, E4M3, E5M2])
def test_values_of_all_sizes_are_rounded_as_numpys_extension_rounds_them(grid):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((50, 400)) * 2.0 ** rng.uniform(-30, 0, (50, 400))).astype(np.float32)
    x[:, 0], x[0] = grid.largest, np.linspace(-1, 1, 400) * grid.largest  # steps of 1: quotients are exact
    x[1] = np.resize(np.arange(-127, 128) / 2, 400) * grid.least  # ties, in which the even one is taken
    x[1, 0] = grid.largest
    near, _ = on_grid(x, -1, grid)
    values = (x if grid.eps else np.round(x)).astype(grid.name).astype(np.float64)
    np.testing.assert_array_equal(near, values)
    off, half = np.abs(near - x), np.maximum(HALF_ULP[grid] * np.abs(x), grid.least / 2)
    assert (off <= half).all() and (off > 0.9 * half).any() and np.abs(near).max() == grid.largest


def test_the_grids_are_those_of_numpys_extension():
    for grid in (E4M3, E5M2):
        said = ml_dtypes.finfo(grid.name)
        assert (grid.largest, grid.eps, grid.least) == (said.max, said.eps, said.smallest_subnormal)
    assert INT8.largest == np.iinfo("int8").max


@pytest.mark.parametrize("grids", FACTORS)
def test_a_product_of_rounded_factors_is_where_it_is_said_to_be_and_that_is_far_from_the_full_one(grids):
    for terms in TERMS:
        x, w = factors(terms)
        assert used(x, w, grids) <= 0.9, terms
        far, more = carried(x, w, *grids)
        halves = [np.maximum(HALF_ULP[grid] * np.abs(f), grid.least / 2 * np.abs(f).max(axis, keepdims=True)
                             / grid.largest) for f, axis, grid in ((x, -1, grids[0]), (w, 0, grids[1]))]
        worst = np.abs(x) @ halves[1] + halves[0] @ np.abs(w) + halves[0] @ halves[1]
        assert (np.abs(far) <= worst * (1 + 1e-9)).all(), terms
        assert terms == 1 or np.median(np.abs(far) / more) > 1000, terms


@pytest.mark.parametrize("grids", FACTORS)
def test_what_is_rounded_otherwise_is_outside_at_every_length(grids):
    for terms in TERMS[1:]:
        x, w = factors(terms)
        others = {INT8, E4M3, E5M2} - {*grids}
        assert all(used(x, w, grids, wrong=grid) > 10 for grid in others), terms
        assert used(x, w, grids, scaled=False) > 10 and used(x, w, grids, factor=1.001) > 10, terms


def test_a_tie_may_go_either_way():
    x, w = np.array([[127.0, 0.5, 3.4]]), np.ones((3, 1))
    far, more = carried(x, w, INT8, INT8)
    assert far[0, 0] == pytest.approx(-0.9) and 1 <= more[0, 0] < 1.001  # 0.5 to 0, or to 1; 3.4 to 3


@pytest.mark.parametrize("grids", FACTORS)
def test_rows_of_zeros_are_zeros(grids):
    x, w = factors(16)
    x[3], w[:, 7] = 0, 0
    far, more = carried(x, w, *grids)
    assert not far[3].any() and not far[:, 7].any() and not more[3].any() and not more[:, 7].any()


def test_the_sums_of_whole_numbers_hold_the_longest_sum_that_is_let_through():
    most = PRODUCTS["int8"].most_terms * INT8.largest**2
    assert most < 2**31 <= most + INT8.largest**2
    assert PRODUCTS["fp8"].sums == "float32" and 1e20 * E4M3.largest * E5M2.largest < np.finfo(np.float32).max


@pytest.mark.parametrize("kind", PRODUCTS)
def test_what_several_products_read_is_carried_by_all_and_the_head_by_none(kind):
    model = Recipe.model_validate({"name": "q", "model": {"family": "decoder", "layers": 1, "width": 8, "heads": 2}}
                                  ).model
    names = [f"attention.{name}" for name in ("query", "key", "value", "output")] + ["feedforward.up"]
    shapes = dict.fromkeys(names, (8, 8)) | {"feedforward.up": (8, 32), "feedforward.down": (32, 8)}
    rng = np.random.default_rng(3)
    weights = {f"weights/block_0.{name}.kernel": rng.standard_normal(shape) for name, shape in shapes.items()}

    class Given(dict):
        def __missing__(self, key):
            wide = key.endswith("activation") or key == "backward/block_0.feedforward.up"
            self[key] = rng.standard_normal((2, 3, 32 if wide else 8))
            return self[key]

    given, of = Given(), PRODUCTS[kind]
    found = quanta(model, given, weights, "float32", kind)
    forward = {key.partition("/")[2] for key in found if key.startswith("forward/")}
    assert forward == {f"block_0.{name}" for name in shapes}
    three = [carried(given[f"backward/block_0.attention.{name}"],
                     weights[f"weights/block_0.attention.{name}.kernel"].T.astype(np.float32), of.back, of.forward)
             for name in ("query", "key", "value")]
    for mine, theirs in zip(found["backward/block_0.norm_1"], zip(*three, strict=True), strict=True):
        np.testing.assert_allclose(mine, sum(theirs), rtol=1e-6)


def test_another_name_is_refused():
    with pytest.raises(BadInput, match="int4"):
        quanta(None, {}, {}, "float32", "int4")
