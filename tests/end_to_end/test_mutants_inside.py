"""What is planted at a place of somebody's program is there and nowhere else, and gone afterwards."""

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen, nnx

from twinscale.jaxscale import mutants_inside as of_jax
from twinscale.jaxscale import programs as jax_programs
from twinscale.tfscale import mutants_inside as of_keras
from twinscale.tfscale import programs as keras_programs

pytestmark = pytest.mark.usefixtures("hurried")

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
ROUNDED = 4 * 24 * 9 * 2.0**-52
VALUES = {"kernel": np.random.default_rng(1).normal(size=(4, 4)), "bias": np.linspace(-1, 1, 4)}


class Kept(nnx.Linear):
    """A module of its own class, beside one of the class that it has its call of."""


class Nnx(nnx.Module):
    def __init__(self):
        self.first, self.last = Kept(4, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 4, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(4, name="last")(jnp.tanh(linen.Dense(4, name="first")(x)))


def of_layers():
    inputs = keras.Input((4,))
    first = keras.layers.Dense(4, activation="tanh", name="first")(inputs)
    return keras.Model(inputs, keras.layers.Dense(4, name="last")(first))


def functions():
    def init(key):
        return {name: {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)} for name in ("first", "last")}

    def dense(p, x):
        return x @ p["kernel"] + p["bias"]

    return init, lambda p, x: dense(p["last"], jnp.tanh(dense(p["first"], x)))


SIDES = {"keras": (keras_programs, of_keras, of_layers), "nnx": (jax_programs, of_jax, Nnx),
         "linen": (jax_programs, of_jax, Linen), "functions": (jax_programs, of_jax, functions)}


@pytest.fixture(params=SIDES)
def side(request):
    """(what opens a program, its room's changes, a function that makes a program of one shape on each side)."""
    return SIDES[request.param]


def made(side, planted=None, at="first"):
    """(outputs, gradients of their sum, what its modules were seen to make) of a program, anew."""
    programs, room, build = side
    keras.utils.clear_session()

    def run():
        program = programs.open_program(build(), X, precision="float64")
        values = {tensor.path: VALUES[tensor.path.rpartition("/")[2]] for tensor in program.tensors}
        seen = []
        program.call(values, X, seen=seen)
        gradients, outputs = program.gradients(values, X, {name: np.ones_like(x) for name, x in program.call(
            values, X)[0].items()})
        return next(iter(outputs.values())), gradients, {one.module: np.asarray(one.outputs[0]) for one in seen}

    if planted is None:
        return run()
    with room.INSIDE[planted].plant(at):
        return run()


def test_an_output_is_larger_where_it_is_planted_and_nowhere_else(side):
    right, _, seen = made(side)
    scaled, _, others = made(side, "scaled_output", "last")
    np.testing.assert_allclose(scaled, 1.01 * right, rtol=1e-12)
    np.testing.assert_allclose(others["last"], 1.01 * seen["last"], rtol=1e-12)  # who looks sees what was planted
    assert np.array_equal(others["first"], seen["first"])
    _, _, others = made(side, "scaled_output", "first")
    np.testing.assert_allclose(others["first"], 1.01 * seen["first"], rtol=1e-12)
    assert np.array_equal(made(side)[0], right)


def test_a_gradient_ends_at_a_module_whose_output_is_right(side):
    right, gradients, _ = made(side)
    outputs, found, _ = made(side, "missing_gradient")
    assert np.array_equal(outputs, right)
    for name, x in found.items():
        assert np.any(gradients[name])
        assert not np.any(x) if name.startswith("first") else np.array_equal(x, gradients[name]), name


def test_an_equal_einsum_changes_no_number(side):
    """But for what a compiler makes of products and sums: a few roundings of sums of at most 24 terms of at most 9."""
    right, gradients, _ = made(side)
    for module in ("first", "last"):
        outputs, found, _ = made(side, "equal_einsum", module)
        assert np.abs(outputs - right).max() <= ROUNDED
        assert all(np.abs(x - gradients[name]).max() <= ROUNDED for name, x in found.items())


def test_both_rooms_plant_the_same_and_each_says_what_it_is():
    assert list(of_keras.INSIDE) == list(of_jax.INSIDE)
    for name, one in of_keras.INSIDE.items():
        assert vars(one) | {"plant": 0} == vars(of_jax.INSIDE[name]) | {"plant": 0} and one.meaning
