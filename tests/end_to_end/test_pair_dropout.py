"""Stock dropout of a pair's programs that draws from the shared bits."""

from importlib import import_module

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.benchmarks.matching import match
from twinscale.common.errors import BadInput
from twinscale.common.numbers import bits
from twinscale.common.pairs import matching
from twinscale.common.recipe.file import given

pytestmark = [pytest.mark.usefixtures("trusting"), pytest.mark.slow]

KERAS = """
import keras
from keras import layers

def build(first=0.5, second=0.25):
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, padding="same", name="conv")(images)
    x = layers.SpatialDropout2D(first)(layers.Activation("relu")(x))
    x = layers.Dense(20, activation="tanh", name="hidden")(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(10, name="logits")(layers.Dropout(second)(x)))

def branches():
    images = keras.Input((8, 8, 1))
    x = layers.Flatten()(images)
    left = layers.Dropout(0.5)(layers.Dense(20, activation="tanh", name="left")(x))
    right = layers.Dropout(0.25)(layers.Dense(12, activation="tanh", name="right")(x))
    return keras.Model(images, layers.Dense(10, name="logits")(layers.Concatenate()([left, right])))

def noisy():
    images = keras.Input((8, 8, 1))
    x = layers.GaussianNoise(0.1)(layers.Flatten()(images))
    return keras.Model(images, layers.Dense(10, name="logits")(x))
"""
FLAX = """
import jax.numpy as jnp
from flax import linen, nnx

class Port(nnx.Module):
    def __init__(self, rates, axes, rngs):
        self.stem = nnx.Conv(1, 6, (3, 3), rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(384, 20, rngs=rngs), nnx.Linear(20, 10, rngs=rngs)
        self.drops = nnx.List([nnx.Dropout(rates[0], broadcast_dims=axes, rngs=rngs), nnx.Dropout(rates[1], rngs=rngs)])

    def __call__(self, x):
        x = self.drops[0](nnx.relu(self.stem(x)))
        return self.fc2(self.drops[1](jnp.tanh(self.fc1(x.reshape(x.shape[0], -1)))))

def build():
    return Port((0.5, 0.25), (1, 2), nnx.Rngs(0))

def other_rate():
    return Port((0.5, 0.1), (1, 2), nnx.Rngs(0))

def whole_masks():
    return Port((0.5, 0.25), (), nnx.Rngs(0))

def none():
    return Port((0.5, 0.0), (1, 2), nnx.Rngs(0))

class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.relu(linen.Conv(6, (3, 3), name="stem")(x))
        x = linen.Dropout(0.5, broadcast_dims=(1, 2), deterministic=not train)(x)
        x = jnp.tanh(linen.Dense(20, name="fc1")(x.reshape(x.shape[0], -1)))
        return linen.Dense(10, name="fc2")(linen.Dropout(0.25)(x, deterministic=not train))

class Branches(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], -1)
        right = linen.Dropout(0.25, deterministic=not train)(jnp.tanh(linen.Dense(12, name="right")(x)))
        left = linen.Dropout(0.5, deterministic=not train)(jnp.tanh(linen.Dense(20, name="left")(x)))
        return linen.Dense(10, name="logits")(jnp.concatenate([left, right], -1))

def branches():
    return Branches()

def of_linen():
    return Linen()

class Noisy(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        import jax
        x = x.reshape(x.shape[0], -1)
        if train:
            x = x + jax.random.normal(self.make_rng("dropout"), x.shape)
        return linen.Dense(10)(x)

def noisy():
    return Noisy()
"""
RECIPE = """name = "dropped"
[data]
source = "digits"
held_out = 0.2
[model]
family = "pair"
reads = "images"
keras = "mine.py:build"
flax = "theirs.py:build"
match = "match.toml"
dropout = "shared"
[train]
global_batch = 8
[keras]
jit_compile = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("pair")
    (found / "mine.py").write_text(KERAS)
    (found / "theirs.py").write_text(FLAX)
    (found / "pair.toml").write_text(RECIPE)
    return found


@pytest.fixture
def matched(folder, room_of, quickly):
    """matched(): the recipe of the matched pair under overrides."""
    def of(*overrides, precision="float64"):
        if not (folder / "match.toml").exists():
            match_of(folder, room_of, quickly, given(folder / "pair.toml"))
        return given(folder / "pair.toml", [f"train.precision={precision}", "train.steps=3", *overrides])

    return of


def match_of(folder, room_of, quickly, recipe):
    """Writes a recipe's match and first weights into a folder."""
    for room, call, more in (("tfscale", matching.leave_program, {}),
                             ("jaxscale", matching.match_program, {"out": folder / "match.toml"})):
        opened = import_module(f"twinscale.{room}.models.pair").opened
        with quickly(room):
            call(room_of(room), opened, recipe.model_dump(mode="json"), folder / "match.safetensors",
                 folder / "outputs.safetensors", **more)


@pytest.mark.parametrize("flax", ["build", "of_linen"])
def test_both_sides_drop_the_same_elements_at_each_step_and_none_in_evaluation(matched, open_room, flax):
    overrides = [f"model.flax={{}}/theirs.py:{flax}"]
    found, off, evaluated = {}, {}, {}
    for name in ("tfscale", "jaxscale"):
        recipe = matched()
        recipe = matched(overrides[0].format(recipe.model.match.rpartition("/")[0]))
        with open_room(name, recipe) as opened:
            found[name] = [opened.tensors(opened.batch(number), number) for number in (0, 1)]
            found[name].append(opened.tensors(opened.batch(0), 1))
            evaluated[name] = opened.room.make_evaluate(recipe, opened.state, opened.devices)(
                opened.state, [opened.batch()])
        with open_room(name, recipe.with_values(model={"dropout": "off"})) as opened:
            off[name] = opened.tensors()
    for ours, theirs in zip(found["tfscale"], found["jaxscale"], strict=True):
        for name, x in ours.items():
            assert np.abs(x - theirs[name]).max() <= 1e-12 * np.abs(theirs[name]).max(), name
            assert x.any()
    for name, (first, _, later) in found.items():
        assert np.abs(first["logits"] - later["logits"]).max() > 1e-3  # of one batch, at another step
        assert np.abs(first["logits"] - off[name]["logits"]).max() > 1e-3
    assert abs(evaluated["tfscale"]["loss"] - evaluated["jaxscale"]["loss"]) <= 1e-12 * evaluated["tfscale"]["loss"]


def test_a_port_that_calls_its_dropout_in_another_order_drops_the_same_by_a_line_of_the_match(tmp_path, room_of,
                                                                                              quickly, open_room):
    (tmp_path / "mine.py").write_text(KERAS)
    (tmp_path / "theirs.py").write_text(FLAX)
    (tmp_path / "pair.toml").write_text(RECIPE.replace(":build", ":branches"))
    match_of(tmp_path, room_of, quickly, given(tmp_path / "pair.toml"))
    assert "order = [2, 1]\n" in (tmp_path / "match.toml").read_text()
    recipe, found = given(tmp_path / "pair.toml", ["train.precision=float64"]), []
    for name in ("tfscale", "jaxscale"):
        with open_room(name, recipe) as opened:
            found.append(opened.tensors(opened.batch(1), 1))
    for name, x in found[0].items():
        assert np.abs(x - found[1][name]).max() <= 1e-12 * np.abs(found[1][name]).max(), name
    text = (tmp_path / "match.toml").read_text()
    (tmp_path / "match.toml").write_text(text.replace("order = [2, 1]", "order = [1, 2]"))
    with pytest.raises(BadInput, match="the same ones, in another order.*--overwrite. writes it down"), open_room(
            "jaxscale", given(tmp_path / "pair.toml", ["train.precision=float64"])):
        pass


def test_what_is_dropped_is_what_the_shared_bits_say(matched, open_room):
    """A hidden unit that is dropped in a row sends that row nothing: the gradient of its row of the last kernel is the
    sum over the rows that keep it."""
    with open_room("tfscale", matched()) as opened:
        batch, gradient = opened.batch(3), opened.tensors(opened.batch(3), 3)["gradients/logits.kernel"]
    key = bits.fold_in(bits.step_key(bits.key(0), 3), bits.name_word("dropout_1"))
    kept = bits.draw(key, batch["row"], 20) >> np.uint32(9) < bits.keep_below(0.25)
    assert 0.6 < kept.mean() < 0.9 and not kept.all(0).all()
    assert np.array_equal(gradient.any(1), kept.any(0))


@pytest.mark.parametrize("flax,said", [
    ("other_rate", r"dropout number 2 of a forward pass drops 0.1 of \(20,\) a row, .* drops 0.25 of \(20,\)"),
    ("whole_masks", r"dropout number 1 .* drops 0.5 of \(8, 8, 6\) a row, .* 0.5 of \(1, 1, 6\) a row"),
    ("none", "dropout number 2 of a forward pass is not there, .*make them alike, or set model.dropout = .off.")])
def test_dropout_that_is_another_is_refused_with_the_first_that_is(matched, open_room, flax, said):
    folder = matched().model.match.rpartition("/")[0]
    recipe = matched(f"model.flax={folder}/theirs.py:{flax}")
    with pytest.raises(BadInput, match=said), open_room("jaxscale", recipe):
        pass


def test_whatever_else_draws_is_refused_by_name(tmp_path, room_of, quickly):
    (tmp_path / "mine.py").write_text(KERAS)
    (tmp_path / "theirs.py").write_text(FLAX)
    (tmp_path / "pair.toml").write_text(RECIPE)
    plain = "model.keras=mine.py:noisy", "model.flax=theirs.py:noisy"
    keras, flax = (f"{text.partition('=')[0]}={tmp_path}/{text.partition('=')[2]}" for text in plain)
    with pytest.raises(BadInput, match=r"model.keras: a layer by tf.random.stateless_normal draws random numbers"):
        match_of(tmp_path, room_of, quickly, given(tmp_path / "pair.toml", [keras]))
    with pytest.raises(BadInput, match=r"model.flax: the program \(Noisy\) draws random numbers of its own"):
        match_of(tmp_path, room_of, quickly, given(tmp_path / "pair.toml", [flax]))


def test_a_match_of_before_says_to_match_again(matched, open_room, tmp_path):
    from twinscale.common.pairs.first import read_first, write_first

    recipe = matched()
    tensors, values = read_first(recipe.model.weights)
    write_first(tmp_path / "old.safetensors", tensors, values)
    old = matched(f"model.weights={tmp_path}/old.safetensors")
    said = "does not say what dropout the first program has: .twinscale match RECIPE. again"
    with pytest.raises(BadInput, match=said), open_room("tfscale", old):
        pass


@pytest.mark.slow
def test_the_whole_ladder_holds_with_dropout_and_another_rate_is_refused(folder, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recipe = given(folder / "pair.toml", ["train.steps=20", "train.accumulate=2", "keras.jit_compile=true"])
        assert match(recipe, overwrite=True)["exit_code"] == 0
        found = compared(given(folder / "pair.toml", ["train.steps=20", "train.accumulate=2"]), tmp_path / "same")
    assert found.agrees and not [(rung.name, rung.where) for rung in found.rungs if not rung.agrees]
