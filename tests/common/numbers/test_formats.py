"""One table of machine constants: what it says of each format, that nobody has another, and what bounds come to."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.rungs import ladder, walks
from twinscale.common.families.parameters import dithering
from twinscale.common.numbers.formats import DITHER, EPS, RESOLVED, TINY
from twinscale.common.operations import catalogue as operations_catalogue
from twinscale.common.operations import inputs as operations_inputs
from twinscale.common.operations import points
from twinscale.common.operations.references import FORMATS
from twinscale.common.operations.rounding import Bound, beside, error
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.loop import twin_of

ROOT = Path(__file__).parents[3]
# What bounds came to before there was one table. A change here is a change of the gate.
U = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8}


@pytest.mark.parametrize("name", EPS)
def test_eps_is_the_spacing_above_one_and_half_of_it_a_correct_rounding(name):
    one = np.array([1.0, 1.0 + 0.51 * EPS[name], 1.0 + 0.49 * EPS[name], 1.0 + EPS[name]])
    assert np.array_equal(operations_inputs.rounded(one, FORMATS[name]), [1.0, 1.0 + EPS[name], 1.0, 1.0 + EPS[name]])
    assert (FORMATS[name].eps, FORMATS[name].tiny) == (EPS[name], TINY[name])
    if name != "bfloat16":
        assert (np.finfo(name).eps, np.finfo(name).tiny) == (EPS[name], TINY[name])


def test_nobody_has_constants_of_their_own():
    """No power of two of a format's size, and no finfo(...).eps, stands outside the table: only the range of what a
    dtype holds, which is no rounding."""
    sizes, own = {str(-n) for n in (52, 53, 23, 24, 7, 8, 9, 126, 1022)}, []
    for path in (p for folder in ("benchmarks", "common", "tfscale", "jaxscale", "kerasjax", "swap")
                 for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
            if power and ast.unparse(node.left) in ("2.0", "2") and ast.unparse(node.right) in sizes:
                own.append(path.relative_to(ROOT))
            if isinstance(node, ast.Attribute) and node.attr == "eps" and "finfo(np." in ast.unparse(node):
                own.append(path.relative_to(ROOT))
    assert {str(path) for path in own} == {"common/numbers/formats.py"}


@pytest.mark.parametrize("name", EPS)
def test_bounds_of_the_ladder_are_what_they_were(name):
    assert RESOLVED[name] == U[name]
    summed = 2.0**-52 if name == "float64" else 2.0**-23
    assert ladder.resolved(name, 3.0, 64) == 3.0 * max(8 * summed, U[name] / 8)
    loss = {"loss": np.ones(3)}
    for parted, horizon in ((0.99, None), (1.01, 1)):
        twin = {"loss": 1 + np.array([0, parted * math.sqrt(U[name]), 0])}
        curve = ladder.loss_curve({"keras": loss, "jax": loss, "keras-twin": twin, "positions": 64}, name, 4)
        assert curve["horizon"] == horizon
    states = {name: {b: {"clipped/w": np.ones(2), "2/weights/w": np.ones(2)} for b in ladder.SIDES}}
    dtype = 2.0**-52 if name == "float64" else 2.0**-23  # masters'
    bounds = {c["where"]: c["bound"] for c in ladder.optimizer_rung(states)["checks"]}
    assert bounds == {"clipped/w": 8 * dtype, "weights/w after update 3": 24 * dtype}


def test_twins_are_set_apart_by_what_they_were():
    assert DITHER == {"bfloat16": 2.0**-9, "float32": 2.0**-24, "float64": 2.0**-53}
    for name, size in DITHER.items():
        recipe = Recipe.model_validate({"name": "d", "data": {"source": "digits"}, "model": {"family": "mlp"},
                                        "train": {"precision": name}})
        assert twin_of(recipe)["dither"] == size
    tensors = {"weights/w": np.ones(64)}
    wide, narrow = (points.generic_tensors(tensors, 1, d)["weights/w"] for d in (2.0**-10, 2.0**-9))
    assert not np.array_equal(wide, operations_inputs.rounded(wide, FORMATS["bfloat16"]))
    assert np.array_equal(narrow, operations_inputs.rounded(narrow, FORMATS["bfloat16"]))
    assert abs(dithering(1, "w", DITHER["bfloat16"], (999,)) - 1).max() <= 2.0**-9


def test_bounds_of_operations_are_what_they_were():
    assert operations_catalogue.NARROWING == 2.0**-16
    for name, u in (("float64", 2.0**-52), ("float32", 2.0**-23), ("bfloat16", 2.0**-7)):
        wide = 2.0**-23 if name == "bfloat16" else u
        bound = Bound(3, 0.5)
        allowed = 3 * wide + (0.5 * u if name == "bfloat16" else 0) + TINY[name]
        worst, nominal = error(np.array([1 + allowed]), np.ones(1), bound, name)
        assert nominal == 3 * wide / u + 0.5 * (name == "bfloat16")
        assert worst == pytest.approx(nominal, rel=1e-6 if name == "float64" else 1e-12, abs=0.2 * (name == "float64"))
    _, share = beside(np.ones(2**16), np.ones(2**16), Bound(3, 0.5))
    expected = 2 * 3 * 2.0**-23 / 2.0**-8
    assert share == pytest.approx(expected + 7 * math.sqrt(expected / 2**16))


def test_walks_and_null_directions_are_bounded_by_what_they_were():
    found = Recipe.model_validate({"name": "w", "data": {"source": "digits"}, "model": {"family": "mlp"},
                                   "optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}}).optimizer
    apart = walks.parting(found, np.full(2, 0.5), np.zeros(2), "a.kernel", np.array([4.0]))
    assert apart == 8 * 2 * 2.0**-52 * 4.0
