"""What a program may be: its tensors, its modes, its precision, and two of one framework."""

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
from twinscale.common.pairs.program import Fed, Seen
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


# ---- two of one framework

def two_layers():
    return keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)])


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


# ---- fed with another's values

class Chain(nnx.Module):
    def __init__(self, rngs):
        self.one, self.two = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.two(jnp.tanh(self.one(x)))


class LinenChain(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2, name="two")(jnp.tanh(linen.Dense(4, name="one")(x)))


def keras_chain(keras):
    layers = keras.layers
    return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="one"), layers.Activation("tanh"),
                             layers.Dense(2, name="two")])


@pytest.mark.parametrize(("room", "build"), [
    (of_jax, lambda: Chain(nnx.Rngs(0))), (of_jax, LinenChain), (of_keras, lambda: keras_chain(keras)),
    (of_keras, lambda: keras_chain(pytest.importorskip("tf_keras")))], ids=["nnx", "linen", "keras", "tf_keras"])
def test_modules_take_the_values_that_they_are_fed_with_and_pass_others_on(room, build):
    program = room.open_program(build(), ROWS)
    values = values_of(program)
    plain: list = []
    program.call(values, ROWS, seen=plain)
    free = {one.module: one for one in plain}
    calls = Fed([Seen("one", (2 * ROWS,), (3 * ROWS,)), Seen("two", (), ())])
    program.call(values, ROWS, seen=calls)
    one, two = ({one.module: one for one in calls}[name] for name in ("one", "two"))
    assert np.array_equal(one.inputs[0], ROWS)  # what it would have been given
    bias = next(x for path, x in values.items() if path.startswith("one") and x.ndim == 1)
    assert np.allclose(one.outputs[0], 2 * np.asarray(free["one"].outputs[0]) - bias, atol=1e-5)
    assert np.allclose(two.inputs[0], np.tanh(3 * ROWS), atol=1e-6)  # made of what the first one passed on
    assert not np.allclose(two.outputs[0], np.asarray(free["two"].outputs[0]))


class Kin(nnx.Linear):
    """Inherits how it is called."""


class Scaled(nnx.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


class Family(nnx.Module):
    def __init__(self, rngs):
        self.one, self.kin, self.scaled = (kind(4, 4, rngs=rngs) for kind in (nnx.Linear, Kin, Scaled))

    def __call__(self, x):
        return self.scaled(self.kin(self.one(x)))


class LinenScaled(linen.Dense):
    @linen.compact
    def __call__(self, x):
        return 2 * super().__call__(x)


class LinenFamily(linen.Module):
    @linen.compact
    def __call__(self, x):
        return LinenScaled(4, name="scaled")(linen.Dense(4, name="one")(x))


@pytest.mark.parametrize(("build", "wanted"), [(lambda: Family(nnx.Rngs(0)), ["one", "kin", "scaled"]),
                                               (LinenFamily, ["one", "scaled"])], ids=["nnx", "linen"])
def test_a_module_is_seen_once_a_call_whatever_of_its_parents_it_calls(build, wanted):
    program, calls = of_jax.open_program(build(), ROWS), []
    made, _ = program.call(values_of(program), ROWS, seen=calls)
    seen = [one for one in calls if one.module in wanted]
    assert [one.module for one in seen] == wanted
    assert np.array_equal(seen[-1].outputs[0], made["output"])  # what the whole call makes, and not its parent's part


def test_a_mask_stays_with_what_is_fed():
    given = np.where(IDS > 4, 0, IDS)
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Dense(4, name="dense")(keras.layers.Embedding(7, 4, mask_zero=True, name="table")(ids))
    program = of_keras.open_program(keras.Model(ids, keras.layers.GlobalAveragePooling1D()(x)), given)
    values, calls = values_of(program), []
    program.call(values, given, seen=calls)
    wanted, _ = program.call(values, given)
    found, _ = program.call(values, given, seen=Fed([Seen(one.module, tuple(np.asarray(x) for x in one.inputs), tuple(
        np.asarray(x) for x in one.outputs)) for one in calls]))
    assert (given == 0).any() and np.allclose(found["output"], wanted["output"], atol=1e-6)
