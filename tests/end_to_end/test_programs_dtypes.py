"""What a program computes in: bounds by precision, what computes in less whatever comes in, digits that are kept."""

import re

import jax
import jax.numpy as jnp
import keras
import pytest
import tensorflow as tf
from flax import linen, nnx

import twinscale
from tests.end_to_end.test_programs import IDS, ROWS, dense, two_layers, weights
from twinscale.common.errors import BadInput
from twinscale.jaxscale import programs as of_jax

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def attending():
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 6)(inputs)
    x = keras.layers.Dense(6, activation="gelu")(keras.layers.MultiHeadAttention(2, 3)(x, x))
    return keras.Model(inputs, keras.layers.LayerNormalization()(x))


class Attending(linen.Module):
    @linen.compact
    def __call__(self, ids):
        x = linen.MultiHeadDotProductAttention(2)(linen.Embed(7, 6)(ids))
        return linen.LayerNorm(epsilon=1e-3)(linen.gelu(linen.Dense(6)(x), approximate=False))


class AttendingInNnx(nnx.Module):
    """Whose attention takes its softmax in float32."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.table, self.mix = nnx.Embed(7, 6, rngs=rngs), nnx.MultiHeadAttention(2, 6, rngs=rngs, decode=False)
        self.dense, self.norm = nnx.Linear(6, 6, rngs=rngs), nnx.LayerNorm(6, epsilon=1e-3, rngs=rngs)

    def __call__(self, ids):
        return self.norm(nnx.gelu(self.dense(self.mix(self.table(ids))), approximate=False))


@pytest.mark.parametrize("precision, low, high", [("auto", 1e-15, 1e-12), ("float64", 1e-15, 1e-12),
                                                  ("float32", 1e-7, 1e-4), ("bfloat16", 1e-3, 0.5)])
def test_bounds_are_those_of_the_precision_and_models_that_can_choose_are_told(precision, low, high):
    verdict = twinscale.check(attending(), Attending(), IDS, precision=precision)
    assert verdict and not verdict.notes, verdict
    assert low < min(row.bound for row in verdict.rows) < high


class Rounded(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2, name="last")(linen.Dense(4, name="first", dtype=jnp.float32)(x))


class Halved(keras.Model):
    def __init__(self):
        super().__init__(name="halved")
        self.one, self.two = keras.layers.Dense(4, name="one"), Careful(name="two")

    def call(self, x):
        return self.two(self.one(x))


class Careful(keras.layers.Dense):
    def __init__(self, **options):
        super().__init__(2, **options)

    def call(self, x):
        return super().call(keras.ops.cast(keras.ops.cast(x, "float32"), x.dtype))


def test_nnx_attention_takes_its_softmax_in_float32_and_tables_do_not():
    verdict = twinscale.check(attending(), AttendingInNnx(), IDS)
    assert verdict and "b (Flax) computes in less than float64 whatever comes in, first at AttendingInNnx/mix (f" in (
        verdict.notes[0])
    table = nnx.Sequential(nnx.Embed(7, 6, rngs=nnx.Rngs(0)), nnx.Linear(6, 2, rngs=nnx.Rngs(0)))
    assert of_jax.open_program(table, IDS, None, "float64").lower == ""
    assert table.layers[0].dtype == jnp.float32


@pytest.mark.parametrize("a, b, said", [
    (two_layers, Rounded, r"b \(Flax\) computes in less than float64 whatever comes in, first at .*first \(float32\)"),
    (Halved, lambda: linen.Sequential([linen.Dense(4), linen.Dense(2)]),
     r"a \(Keras\) computes in less than float64 whatever comes in, first at halved.*two.* \(float32\)")])
def test_what_computes_in_float32_whatever_comes_in_is_said_with_its_place(a, b, said):
    verdict = twinscale.check(a(), b(), ROWS)
    assert verdict and re.search(said, verdict.notes[0]), verdict
    assert verdict.notes[0] in str(verdict) and min(row.bound for row in verdict.rows) > 1e-7
    with pytest.raises(BadInput, match="precision: " + said):
        twinscale.check(a(), b(), ROWS, precision="float64")
    with pytest.raises(BadInput, match="precision: half: one of auto, float64"):
        twinscale.check(a(), b(), ROWS, precision="half")


class Slanted(keras.layers.Layer):
    def call(self, x):
        return tf.raw_ops.LeakyRelu(features=x, alpha=0.3)


def slanted(slope):
    model = keras.Sequential([keras.layers.Dense(4), Slanted()])

    class Port(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.leaky_relu(linen.Dense(4)(x), slope)

    return model, Port()


def test_a_number_that_tensorflow_keeps_in_float32_is_seen():
    verdict = twinscale.check(*slanted(0.3), ROWS)
    assert verdict and re.search(r"first at .*LeakyRelu \(a number of float32\)", verdict.notes[0]), verdict


def test_what_differs_by_less_than_float32_can_show_is_a_note_and_an_error_where_float64_is_asked_for():
    def port(factor):
        return lambda key: weights(), lambda p, x: dense(p, x) * factor

    model = keras.Sequential([keras.layers.Dense(2)])
    for factor in (1.0, 1 + 1e-9):
        verdict = twinscale.check(model, port(factor), ROWS)
        assert verdict and len(verdict.notes) == (factor > 1), verdict
    assert verdict.notes[0].startswith("in float64 they differ, by less than float32 can show: Not one function: 3 of")
    assert not twinscale.check(model, port(factor), ROWS, precision="float64")
    assert not twinscale.check(model, port(1 + 1e-5), ROWS)


def test_a_model_of_tf_keras_is_made_anew_in_float64_and_one_that_cannot_is_said():
    import tf_keras

    class Own(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = tf_keras.layers.Dense(4, name="one"), tf_keras.layers.Dense(2, name="two")

        def call(self, x):
            return self.two(self.one(x))

        def get_config(self):
            raise NotImplementedError("none")

    port = linen.Sequential([linen.Dense(4), linen.Dense(2)])
    model = tf_keras.Sequential([tf_keras.layers.Dense(4), tf_keras.layers.Dropout(0.5), tf_keras.layers.Dense(2)])
    for training in (False, True):
        verdict = twinscale.check(model, port, ROWS, training=training)
        assert verdict and not verdict.notes and min(row.bound for row in verdict.rows) < 1e-12, verdict
    verdict = twinscale.check(Own(), port, ROWS)
    assert verdict and "Own of tf_keras cannot be made anew in float64" in verdict.notes[0]
    assert tf_keras.backend.floatx() == keras.backend.floatx() == "float32"


def test_constants_of_tensorflows_own_operations_keep_their_digits_in_float64():
    """A leaky ReLU has its slope as an attribute of float32, and a GELU its root of 2."""
    model = keras.Sequential([keras.layers.Dense(6), keras.layers.LeakyReLU(0.2), keras.layers.Dense(5),
                              keras.layers.Activation("gelu"), keras.layers.Dense(2)])

    def init(key, x):
        return [{"w": jnp.zeros(shape), "b": jnp.zeros(shape[1])} for shape in ((4, 6), (6, 5), (5, 2))]

    def apply(p, x):
        one, two, three = (lambda x, of=of: x @ of["w"] + of["b"] for of in p)
        return three(jax.nn.gelu(two(jax.nn.leaky_relu(one(x), 0.2)), approximate=False))

    verdict = twinscale.check(model, (init, apply), ROWS, precision="float64")
    assert verdict and max(row.difference for row in verdict.rows) < 1e-13
