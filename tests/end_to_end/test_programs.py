"""What a program may be: its tensors, its modes, its precision, and two of one framework."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
from flax import linen, nnx

import twinscale
from twinscale.common.errors import BadInput
from twinscale.jaxscale import programs as of_jax
from twinscale.tfscale import programs as of_keras

pytestmark = pytest.mark.usefixtures("hurried")

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(6, 4)).astype(np.float32)
IDS = RNG.integers(0, 7, (3, 5)).astype(np.int32)


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def values_of(program):
    return {path: np.asarray(x) + 0.1 for path, x in program.start.items()}


def paths(program):
    return [tensor.path for tensor in program.tensors]


# ---- Flax

class Mixed(linen.Module):
    """Dropout, attention with dropout and running statistics."""

    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(4)(x))
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.MultiHeadDotProductAttention(2, dropout_rate=0.5)(x[:, None], deterministic=not train)[:, 0]


class Wrapped:
    """As the transformers library's models are."""

    def __init__(self, module, x):
        self._module, self.params = module, dict(module.init(jax.random.key(0), x))

    @property
    def module(self):
        return self._module

    def __call__(self, x, params=None, train=False, dropout_rng=None):
        return self.module.apply(params, x, train, rngs={"dropout": dropout_rng} if train else None,
                                 mutable=["batch_stats"] if train else False)


class Normed(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(4)(x))
        return linen.Dropout(0.5, deterministic=not train)(x)


@pytest.mark.parametrize("built", [Normed(), Wrapped(Normed(), ROWS)], ids=["linen", "wrapped"])
def test_a_linen_module_moves_its_statistics_in_training_and_drops_nothing(built):
    program = of_jax.open_program(built, ROWS)
    assert [tensor.path for tensor in program.tensors if not tensor.trained] == ["BatchNorm_0/mean", "BatchNorm_0/var"]
    values = values_of(program)
    first, moved = program.call(values, ROWS, True)
    again, _ = program.call(values, ROWS, True)
    assert np.array_equal(first["output"], again["output"]) and np.all(first["output"])
    assert not np.allclose(moved["BatchNorm_0/mean"], values["BatchNorm_0/mean"])
    plain, still = program.call(values, ROWS)
    assert not still and not np.allclose(plain["output"], first["output"])


def test_a_sequential_model_and_a_subclass_part_in_training_where_a_flag_is_not_passed_on():
    def layers():
        return keras.layers.Dense(5, name="one"), keras.layers.BatchNormalization(name="norm"), keras.layers.Dropout(
            0.5), keras.layers.Dense(2, name="two")

    class Subclass(keras.Model):
        def __init__(self, flag):
            super().__init__()
            (self.one, self.norm, self.drop, self.two), self.flag = layers(), flag

        def call(self, x, training=False):
            x = self.norm(self.one(x), training=training if self.flag else False)
            return self.two(self.drop(x, training=training))

    model = keras.Sequential(layers())
    for flag, training, agrees in ((True, False, True), (False, False, True), (True, True, True), (False, True, False)):
        verdict = twinscale.check(model, Subclass(flag), ROWS, training=training)
        assert bool(verdict) == agrees, verdict
        statistics = [row for row in verdict.rows if row.what.startswith("statistic")]
        assert len(statistics) == (2 if training else 0)
    assert "at norm" in verdict.place and not any(row.agrees for row in statistics)


def test_batch_normalization_of_both_frameworks_is_one_in_training():
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.BatchNormalization(epsilon=1e-5),
                              keras.layers.Dropout(0.5)])

    class Port(nnx.Module):
        def __init__(self, momentum):
            rngs = nnx.Rngs(0)
            self.one, self.drop = nnx.Linear(4, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.norm = nnx.BatchNorm(4, momentum=momentum, rngs=rngs)

        def __call__(self, x):
            return self.drop(self.norm(self.one(x)))

    assert twinscale.check(model, Port(0.99), ROWS, training=True)
    wrong = twinscale.check(model, Port(0.9), ROWS, training=True)
    assert {row.what.split()[0] for row in wrong.rows if not row.agrees} == {"statistic", "momentum"}


def test_attention_of_linen_draws_nothing_in_training():
    program = of_jax.open_program(Mixed(), ROWS)
    values = values_of(program)
    assert np.array_equal(*(program.call(values, ROWS, True)[0]["output"] for _ in range(2)))


def test_tensors_that_two_modules_of_nnx_share_are_one():
    class Tied(nnx.Module):
        def __init__(self):
            self.one = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
            self.two = nnx.Linear(4, 4, rngs=nnx.Rngs(1))
            self.two.kernel = self.one.kernel

        def __call__(self, x):
            return self.two(self.one(x))

    program = of_jax.open_program(Tied(), ROWS)
    assert sorted(paths(program)) == ["one/bias", "one/kernel", "two/bias"]
    gradients, _ = program.gradients(values_of(program), ROWS, {"output": np.ones((6, 4), np.float32)})
    assert np.all(gradients["one/kernel"])


# ---- functions

def dense(p, x):
    return x @ p["w"] + p["b"]


def weights():
    return {"w": jnp.ones((4, 2)), "b": jnp.zeros(2)}


def normed(params, state, x, is_training=False):
    mean = x.mean(0) if is_training else state["mean"]
    return dense(params, x - mean), {"mean": 0.9 * state["mean"] + 0.1 * x.mean(0), "steps": state["steps"] + 1}


@pytest.mark.parametrize("init, apply", [
    (lambda key: weights(), dense), (lambda key, x: weights(), dense), (lambda *_: weights(), dense),
    (lambda key: weights(), lambda p, rng, x: dense(p, x))], ids=["key", "key and inputs", "any", "draws"])
def test_functions_begin_with_a_key_alone_or_with_inputs(init, apply):
    program = of_jax.open_program((init, apply), ROWS)
    assert sorted(paths(program)) == ["b", "w"]
    assert np.allclose(program.call(program.start, ROWS)[0]["output"], ROWS.sum(-1, keepdims=True), atol=1e-6)


def test_functions_may_have_a_state_beside_their_parameters():
    def begin(key, x):
        return weights(), {"mean": jnp.ones(4), "steps": jnp.zeros((), int)}

    program = of_jax.open_program((begin, normed), ROWS)
    assert [(tensor.path, tensor.trained) for tensor in program.tensors] == [("b", True), ("w", True), ("mean", False)]
    _, still = program.call(program.start, ROWS)
    _, moved = program.call(program.start, ROWS, True)
    assert not still and list(moved) == ["mean"] and np.allclose(moved["mean"], 0.9 + 0.1 * ROWS.mean(0), atol=1e-6)


class Layer(NamedTuple):
    """A tree with leaves that are no tensors, as a module of Equinox is."""

    w: jax.Array
    count: jax.Array
    act: object
    slope: float

    def __call__(self, x):
        return self.act(x @ self.w) * self.slope


def test_leaves_that_are_no_tensors_are_left_alone():
    tree = [Layer(jnp.ones((4, 3)), jnp.arange(3), jnp.tanh, 2.0)]
    program = of_jax.open_program((lambda key: tree, lambda p, x: p[0](x)), ROWS)
    assert paths(program) == ["0/w"]
    alone = of_jax.open_program(tree[0], ROWS)
    assert paths(alone) == ["w"] and alone.kind == "a callable pytree"
    assert np.array_equal(*(one.call(one.start, ROWS)[0]["output"] for one in (program, alone)))


def test_a_jax_program_is_compiled_once():
    traced = []

    def apply(p, x):
        traced.append(1)
        return dense(p, x)

    program = of_jax.open_program((lambda key: weights(), apply), ROWS)
    for _ in range(3):
        program.call(program.start, ROWS)
        program.gradients(program.start, ROWS, {"output": np.ones((6, 2), np.float32)})
    assert len(traced) == 2


# ---- Keras

def test_paths_that_repeat_in_nested_models_are_told_apart_by_layer():
    def part():
        inputs = keras.Input((4,))
        return keras.Model(inputs, keras.layers.Dense(4, name="dense")(inputs), name="part")

    inputs = keras.Input((4,))
    model = keras.Sequential([keras.layers.Dense(4, name="dense")], name="other")
    program = of_keras.open_program(keras.Model(inputs, keras.Sequential([part(), model], name="all")(part()(inputs))),
                                    ROWS)
    assert len(program.tensors) == 6 and {tensor.role for tensor in program.tensors} == {"kernel", "bias"}
    assert len({tensor.module for tensor in program.tensors}) == 3
    seen = []
    program.call(values_of(program), ROWS, seen=seen)
    assert {one.module for one in seen} == {tensor.module for tensor in program.tensors}


class Counting(keras.layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")
        self.seen = self.add_weight(shape=(), dtype="int32", trainable=False, initializer="zeros", name="seen")
        self.on = self.add_weight(shape=(), dtype="bool", trainable=False, initializer="ones", name="on")

    def call(self, x, training=False):
        if training:
            self.seen.assign(self.seen + 1)
        return keras.ops.where(self.on, x @ self.w, 0.0)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_whole_numbers_are_no_tensors_and_a_frozen_layer_is_no_statistic(precision):
    frozen = keras.layers.Dense(4, trainable=False, name="frozen")
    model = keras.Sequential([frozen, keras.layers.BatchNormalization(name="norm"), Counting(name="last")])
    program = of_keras.open_program(model, ROWS, None, precision)
    assert [tensor.path for tensor in program.tensors if not tensor.trained] == [
        "frozen/kernel", "frozen/bias", "norm/moving_mean", "norm/moving_variance"]
    _, moved = program.call(values_of(program), ROWS, True)
    assert list(moved) == ["norm/moving_mean", "norm/moving_variance"]
    assert int(model.layers[2].seen.numpy()) == 0 and model.layers[0].dtype_policy.name == "float32"
    gradients, _ = program.gradients(values_of(program), ROWS, {"output": np.ones((6, 3))})
    assert sorted(gradients) == ["last/w", "norm/beta", "norm/gamma"]
    assert gradients["last/w"].dtype == precision


def test_a_layer_that_one_side_has_frozen_agrees_in_what_both_train():
    model = keras.Sequential([keras.layers.Dense(4, trainable=False, name="one"), keras.layers.Dense(2, name="two")])
    port = linen.Sequential([linen.Dense(4), linen.Dense(2)])
    for a, b in ((model, port), (port, model)):
        verdict = twinscale.check(a, b, ROWS)
        assert verdict and len(verdict.rows) == 3, verdict


# ---- precision

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


def two_layers():
    return keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)])


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


# ---- two of one framework

def test_two_of_flax_are_checked_and_sides_are_named():
    class Other(nnx.Module):
        def __init__(self, width=4):
            self.a, self.b = nnx.Linear(4, width, rngs=nnx.Rngs(2)), nnx.Linear(width, 2, rngs=nnx.Rngs(3))

        def __call__(self, x):
            return self.b(self.a(x))

    assert twinscale.check(linen.Sequential([linen.Dense(4), linen.Dense(2)]), Other(), ROWS)
    with pytest.raises(BadInput, match=r"partner: b \(Flax\): a/bias \(3,\), a/kernel \(4, 3\): give"):
        twinscale.check((lambda key: weights(), dense), Other(3), ROWS)
    with pytest.raises(BadInput, match="^b: keras: the model breaks on the given inputs: "):
        twinscale.check(two_layers(), keras.Sequential([keras.Input((9,)), keras.layers.Dense(2)]), ROWS)
    assert tf.executing_eagerly()


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
