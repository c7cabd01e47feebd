"""What is seen of pure functions is what their lines do, in every way in which people write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscale.common.pairs.program import Fed, Seen
from twinscale.jaxscale.program_sight import called_and_seen

pytestmark = pytest.mark.usefixtures("hurried")

RNG = np.random.default_rng(0)


def array(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


X = array(3, 5)
NORM = {"n/g": array(5), "n/b": array(5)}
RMS = {"n/g": NORM["n/g"]}


def mean(x):
    return x.mean(-1, keepdims=True)


NORMS = {
    "by a product with the root": lambda t, x: (x - mean(x)) * (jax.lax.rsqrt(
        mean(x**2) - mean(x)**2 + 1e-5) * t["n/g"]) + t["n/b"],
    "by a quotient": lambda t, x: t["n/g"] * (x - mean(x)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) + t["n/b"],
    "by a deviation": lambda t, x: t["n/g"] * (x - mean(x)) / x.std(-1, keepdims=True) + t["n/b"],
    "by a function of JAX": lambda t, x: jax.nn.standardize(x) * t["n/g"] + t["n/b"],
    "by a recomputed function": jax.checkpoint(lambda t, x: jax.nn.standardize(x) * t["n/g"] + t["n/b"]),
    "without a mean": lambda t, x: x * jax.lax.rsqrt(mean(x * x) + 1e-6) * t["n/g"]}


def seen_of(function, tensors, x):
    seen = []
    made = called_and_seen(function, tensors, x, seen)
    np.testing.assert_allclose(made, function(tensors, x), rtol=1e-6, atol=1e-6)
    return seen


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_one_place_from_its_input_on(name):
    tensors = RMS if name == "without a mean" else NORM
    (one,) = seen_of(lambda t, x: NORMS[name](t, x + jnp.tanh(x)), tensors, X)
    assert one.module == "n" and np.array_equal(one.inputs[0], X + jnp.tanh(X))
    np.testing.assert_allclose(one.outputs[0], NORMS[name](tensors, X + jnp.tanh(X)), rtol=1e-6, atol=1e-6)


def test_layers_of_one_row_are_seen_with_all_rows():
    tensors = {"one/w": array(4, 5), "one/b": array(4), "two/w": array(2, 4)}
    one, two = seen_of(lambda t, x: jax.vmap(lambda row: t["two/w"] @ jax.nn.relu(t["one/w"] @ row + t["one/b"]))(x),
                       tensors, X)
    assert (one.module, two.module) == ("one", "two") and np.array_equal(one.inputs[0], X)
    np.testing.assert_allclose(two.inputs[0], jax.nn.relu(one.outputs[0]))


def test_what_is_within_a_loop_is_one_operation_and_what_is_behind_it_is_seen():
    tensors = {"layers/w": array(3, 5, 5), "out/w": array(5, 2)}
    (one,) = seen_of(lambda t, x: jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, t["layers/w"])[0] @ t["out/w"],
                     tensors, X)
    assert one.module == "out"


def test_a_place_that_is_fed_goes_on_with_what_it_is_given_and_all_else_with_its_own():
    tensors = {"one/w": array(5, 4), "one/b": array(4), "two/w": array(4, 5)}

    def block(t, x):
        return x + jnp.tanh(x @ t["one/w"] + t["one/b"]) @ t["two/w"]

    given, made = array(3, 5), array(3, 4)
    calls = Fed([Seen("one", (given,), ()), Seen("two", (made,), ())])
    np.testing.assert_allclose(called_and_seen(block, tensors, X, calls), X + made @ tensors["two/w"], rtol=1e-6)
    assert np.array_equal(calls[0].inputs[0], X)  # what it would have been given
    np.testing.assert_allclose(calls[0].outputs[0], given @ tensors["one/w"] + tensors["one/b"], rtol=1e-6)
    calls = Fed([Seen("one", (), (made,))])
    np.testing.assert_allclose(called_and_seen(block, tensors, X, calls), X + jnp.tanh(made) @ tensors["two/w"],
                               rtol=1e-6)
