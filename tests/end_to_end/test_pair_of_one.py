"""Two programs of one framework as a pair: a Sequential against a subclass, a refactor against yesterday's."""

from importlib import import_module

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.benchmarks.matching import match
from twinscale.common.pairs import matching
from twinscale.common.recipe.file import given

ROOMS = {"keras": "tfscale", "flax": "jaxscale"}
PROGRAMS = {"keras": """
import keras
from keras import layers

def sequential(width=12):
    return keras.Sequential([
        keras.Input((8, 8, 1)), layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv"),
        layers.BatchNormalization(momentum=0.9, name="norm"), layers.ReLU(), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(width, activation="gelu", name="hidden"), layers.Dense(10, name="logits")])

class Stem(layers.Layer):
    def __init__(self, told):
        super().__init__()
        self.conv, self.norm = layers.Conv2D(4, 3, padding="same", use_bias=False), layers.BatchNormalization(
            momentum=0.9)
        self.told = told

    def call(self, x, train=False):  # Keras hands on `training`, and knows no `train`
        x = self.conv(x)
        return keras.ops.relu(self.norm(x) if self.told else self.norm(x, training=train))

class Digits(keras.Model):
    def __init__(self, width, told):
        super().__init__()
        self.stem, self.pool = Stem(told), layers.MaxPooling2D(2)
        self.fc1, self.fc2 = layers.Dense(width, activation="gelu"), layers.Dense(10)

    def call(self, images, training=False):
        x = self.pool(self.stem(images))
        return self.fc2(self.fc1(keras.ops.reshape(x, (-1, 64))))

def rewritten(width=12):
    return Digits(width, True)

def untold(width=12):
    return Digits(width, False)
""", "flax": """
import jax
import jax.numpy as jnp
from flax import nnx

class Yesterday(nnx.Module):
    def __init__(self, width, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.hidden, self.head = nnx.Linear(64, width, rngs=rngs), nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.bn(self.conv(x))), (2, 2), (2, 2))
        return self.head(nnx.gelu(self.hidden(x.reshape(x.shape[0], -1)), approximate=False))

class Head(nnx.Module):
    def __init__(self, width, rngs):
        self.up = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (width, 64)))
        self.up_bias, self.down = nnx.Param(jnp.zeros(width)), nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        x = jnp.einsum("bi,oi->bo", x, self.up[...]) + self.up_bias[...]
        return self.down(jax.nn.gelu(x, approximate=False))

class Today(nnx.Module):
    def __init__(self, width, rngs):
        self.stem = nnx.Sequential(nnx.Conv(1, 4, (3, 3), use_bias=False, rngs=rngs),
                                   nnx.BatchNorm(4, momentum=0.9, rngs=rngs), nnx.relu)
        self.head = Head(width, rngs)

    def __call__(self, x):
        return self.head(nnx.max_pool(self.stem(x), (2, 2), (2, 2)).reshape(x.shape[0], -1))

def sequential(width=12):
    return Yesterday(width, nnx.Rngs(0))

def rewritten(width=12):
    return Today(width, nnx.Rngs(1))
"""}
RECIPE = """name = "refactor"
[data]
source = "digits"
[model]
family = "pair"
reads = "images"
match = "match.toml"
options = { width = 16 }
[programs]
framework = "FRAMEWORK"
a = "programs.py:sequential"
b = "programs.py:rewritten"
[train]
steps = 6
global_batch = 8
"""


@pytest.fixture(scope="module", params=ROOMS)
def file(request, tmp_path_factory):
    """(the framework, the recipe of a pair of its programs beside them)."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "programs.py").write_text(PROGRAMS[request.param])
    (folder / "pair.toml").write_text(RECIPE.replace("FRAMEWORK", request.param))
    return request.param, folder / "pair.toml"


def test_a_is_matched_with_b_and_both_take_the_same_step_in_one_room(file, room_of, open_room, quickly):
    framework, recipe = file
    room, said, values = ROOMS[framework], [], ["train.precision=float32", "keras.jit_compile=false"]
    opened, outputs = import_module(f"twinscale.{room}.models.pair").opened, recipe.with_name("outputs.safetensors")
    for side, call, more in (("a", matching.leave_program, {}),
                             ("b", matching.match_program, {"out": recipe.with_name("match.toml")})):
        with quickly(room):
            loose = given(recipe, [*values, f"programs.side={side}"]).model_dump(mode="json")
            said.append(call(room_of(room), opened, loose, recipe.with_name("match.safetensors"), outputs, **more))
    assert said[1]["agrees"] and said[1]["difference"] < 1e-6 and said[1]["tried"] == 1
    steps = {}
    for side in ("a", "b"):
        described = given(recipe, [*values, "train.precision=float64", f"programs.side={side}"])
        with open_room(room, described) as at:
            first, tensors = at.weights(), at.tensors()
            state, _ = at.room.make_step(described, at.state, at.devices)(at.state, 0, at.batch())
            steps[side] = first, tensors, {name: np.array(x) for name, x in at.room.state_tensors(state).items()}
    (first, ours, after), (others, theirs, then) = steps.values()
    assert all(first[name].tobytes() == others[name].tobytes() for name in first | others)
    for one, other in ((ours, theirs), (after, then)):
        assert set(one) == set(other)
        for name, x in one.items():
            assert np.abs(x - other[name]).max() <= 1e-9 * max(np.abs(x).max(), 1e-3), name
    assert not np.array_equal(then["weights/" + next(name for name in first if name.endswith(".var"))],
                              next(x for name, x in first.items() if name.endswith(".var")))


@pytest.mark.slow
def test_equal_programs_agree_on_the_whole_ladder_and_a_flag_that_is_not_passed_on_is_placed(file, tmp_path, capfd):
    framework, recipe = file
    assert match(given(recipe), overwrite=True)["exit_code"] == 0
    same = compared(given(recipe), tmp_path / "same", seeds=2)
    assert same.agrees and not [(rung.name, rung.where) for rung in same.rungs if not rung.agrees]
    assert same.sentence.startswith("a and b train the same") and "loss: a - b = " in same.sentence
    assert same.sides == {"keras": "a (programs.py:sequential)", "jax": "b (programs.py:rewritten)"}
    assert all(inside.place == "" and len(inside.modules) >= 3 for inside in same.inside.values())
    page, told = (tmp_path / "same" / "report.md").read_text(), capfd.readouterr().err
    other = {"keras": "JAX", "flax": "Keras"}[framework]
    assert f"{other} and" not in page and f" in {other}" not in page and "b-twin  float64" in told
    assert "  jax" not in told and "keras" not in told.replace("programs", "")
    if framework == "keras":
        wrong = given(recipe, [f"programs.b={recipe.parent}/programs.py:untold"])
        parted = compared(wrong, tmp_path / "other", place=True)
        assert not parted.agrees and next(rung for rung in parted.rungs if not rung.agrees).name == "P2"
        assert parted.cause["where"] == "norm" and "`training` is not passed on" in parted.cause["sentence"]
        assert parted.sentence.startswith("a and b do not agree")
