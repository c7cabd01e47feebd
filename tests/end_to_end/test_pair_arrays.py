"""Pairs of programs over arrays of any names: drawn ones, those of an archive, and those of a user's function."""

from importlib import import_module

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.benchmarks.matching import match
from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.pairs import matching
from twinscale.common.recipe.file import given, load
from twinscale.common.trust import Untrusted

KERAS = """
import keras
from keras import layers

def masked(width=8):
    ids, mask = (keras.Input((12,), dtype="int32", name=name) for name in ("ids", "mask"))
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(layers.Embedding(100, width, name="tok")(ids))
    x = layers.Dense(2 * width, activation="gelu", name="up")(x)
    pooled = layers.GlobalAveragePooling1D(name="pool")(x, mask=mask)
    return keras.Model({"ids": ids, "mask": mask}, {"pooled": pooled, "scores": layers.Dense(5, name="out")(pooled)})

def table(width=8):
    kind, size = keras.Input((), dtype="int32", name="kind"), keras.Input((6,), name="size")
    x = layers.Concatenate()([layers.Embedding(7, width, name="kinds")(kind), size])
    x = layers.Dense(2 * width, activation="tanh", name="hidden")(x)
    return keras.Model({"kind": kind, "size": size}, layers.Dense(1, name="price")(x))
"""
FLAX = """
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

class Masked(nnx.Module):
    def __init__(self, width, rngs, padding):
        self.embed, self.ln = nnx.Embed(100, width, rngs=rngs), nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.fc, self.proj = nnx.Linear(width, 2 * width, rngs=rngs), nnx.Linear(2 * width, 5, rngs=rngs)
        self.padding = padding

    def __call__(self, input_ids, attention_mask):
        x = jax.nn.gelu(self.fc(self.ln(self.embed(input_ids))), approximate=False)
        m = attention_mask[..., None].astype(x.dtype)
        m = jnp.ones_like(m) if self.padding else m
        pooled = (x * m).sum(1) / m.sum(1)
        return {"scores": self.proj(pooled), "pooled": pooled}

def masked(width=8):
    return Masked(width, nnx.Rngs(0), False)

def padding_counts(width=8):
    return Masked(width, nnx.Rngs(0), True)

class Table(nnx.Module):
    def __init__(self, width, rngs, bends):
        self.emb = nnx.Embed(7, width, rngs=rngs)
        self.fc, self.head = nnx.Linear(width + 6, 2 * width, rngs=rngs), nnx.Linear(2 * width, 1, rngs=rngs)
        self.bends = bends

    def __call__(self, kind, features):
        return self.head(self.bends(self.fc(jnp.concatenate([self.emb(kind), features], -1))))

def table(width=8):
    return Table(width, nnx.Rngs(0), jnp.tanh)

def other_table(width=8):
    return Table(width, nnx.Rngs(0), jax.nn.sigmoid)

def rows():
    drawn = np.random.default_rng(0)
    kind, size = drawn.integers(0, 7, 90), drawn.standard_normal((90, 6))
    return {"kind": kind, "size": size, "labels": size.sum(1) - kind}
"""
MASKED = """name = "masked"
[data]
source = "random"
held_out = 0.2
rows = 80
[data.inputs]
ids = { shape = [12], below = 100 }
mask = { shape = [12], padding = true }
[model]
family = "pair"
reads = "arrays"
keras = "mine.py:masked"
flax = "theirs.py:masked"
match = "match.toml"
inputs = { ids = { flax = "input_ids" }, mask = { flax = "attention_mask" } }
[train]
global_batch = 8
"""
TABLE = """name = "table"
[data]
source = "theirs.py:rows"
held_out = 0.2
[objective]
name = "squared-error"
[model]
family = "pair"
reads = "arrays"
keras = "mine.py:table"
flax = "theirs.py:table"
match = "match.toml"
inputs = { kind = {}, size = { flax = "features" } }
[train]
global_batch = 8
"""
ERRORS = {"masked": "theirs.py:padding_counts", "table": "theirs.py:other_table"}


def left(folder, kind):
    """The recipe of a pair beside its programs."""
    (folder / "mine.py").write_text(KERAS)
    (folder / "theirs.py").write_text(FLAX)
    (folder / "pair.toml").write_text({"masked": MASKED, "table": TABLE}[kind])
    return folder / "pair.toml"


@pytest.fixture(scope="module", params=["masked", "table"])
def file(request, tmp_path_factory):
    return left(tmp_path_factory.mktemp("pair"), request.param)


@pytest.fixture(scope="module")
def matched(file, room_of, quickly):
    """The recipe of the matched pair in float64."""
    loose = given(file, ["train.precision=float32", "keras.jit_compile=false"])
    outputs = file.with_name("outputs.safetensors")
    for room, call, more in (("tfscale", matching.leave_program, {}),
                             ("jaxscale", matching.match_program, {"out": file.with_name("match.toml")})):
        opened = import_module(f"twinscale.{room}.models.pair").opened
        with quickly(room):
            said = call(room_of(room), opened, loose.model_dump(mode="json"), file.with_name("match.safetensors"),
                        outputs, **more)
    assert said["agrees"]
    return given(file, ["train.precision=float64", "keras.jit_compile=false", "train.steps=3"])


def test_both_rooms_take_the_same_step_and_evaluate_alike(matched, open_room):
    found = {}
    for room in ("tfscale", "jaxscale"):
        with open_room(room, matched) as opened:
            tensors, sums = opened.tensors(), opened.room.make_evaluate(matched, opened.state, opened.devices)(
                opened.state, [opened.batch()])
            found[room] = tensors, sums, opened.batch()
    (ours, sums, batch), (theirs, others, _) = found.values()
    assert set(ours) == set(theirs) and ours["logits"].shape == (8, {"masked": 21, "table": 1}[matched.name])
    for name, x in ours.items():
        assert np.abs(x - theirs[name]).max() <= 1e-12 * np.abs(theirs[name]).max(), name
        assert x.any() or name.endswith("tok.embedding")
    assert abs(sums["loss"] - others["loss"]) <= 1e-12 * abs(sums["loss"])
    assert abs(sums["loss"] / sums["weight"] - float(ours["loss"])) <= 1e-12 * abs(float(ours["loss"]))
    if matched.name == "table":
        wanted = np.square(ours["logits"][:, 0] - batch["labels"]).mean()
        assert abs(wanted - float(ours["loss"])) < 1e-10


def test_an_error_of_the_port_moves_gradients(matched, file, open_room):
    gradients = []
    for name in (ERRORS[matched.name].partition(":")[2], matched.name):
        recipe = given(file, ["train.precision=float64", f"model.flax={file.parent}/theirs.py:{name}"])
        with open_room("jaxscale", recipe) as opened:
            gradients.append(opened.tensors()[f"gradients/{'up' if matched.name == 'masked' else 'hidden'}.kernel"])
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-3 * np.abs(gradients[1]).max()


def test_outputs_that_are_called_otherwise_are_refused_before_they_are_compared(matched, file):
    made, others = {"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "c": np.ones(2)}
    matching.check_names(matched.model, made, dict(reversed(made.items())))
    with pytest.raises(BadInput, match="model.outputs: Keras gives a, b, JAX a, c"):
        matching.check_names(matched.model, made, others)


@pytest.mark.parametrize(("old", "new", "said"), [
    ("inputs = { ids = { flax", "inputs = { idz = { flax", "model.inputs.idz: a batch has no idz: it has ids, mask"),
    ('"mine.py:masked"', '"mine.py:table"', "keras: the model breaks on the given inputs")])
def test_programs_that_do_not_take_the_arrays_are_told_what_there_is(tmp_path, room_of, quickly, old, new, said):
    file = left(tmp_path, "masked")
    file.write_text(MASKED.replace(old, new))
    opened = import_module("twinscale.tfscale.models.pair").opened
    with quickly("tfscale"), pytest.raises(BadInput, match=said):
        matching.leave_program(room_of("tfscale"), opened, given(file).model_dump(mode="json"), tmp_path / "first",
                               tmp_path / "outputs")


def test_rows_of_a_function_are_pinned_and_made_only_where_the_user_has_named_it(tmp_path):
    recipe = given(left(tmp_path, "table"))
    dataset = open_dataset(recipe)
    assert "theirs.py:rows#sha256=" in recipe.data.source and len(dataset.train) + len(dataset.held_out) == 90
    (tmp_path / "theirs.py").write_text(FLAX + "\nraise SystemExit\n")
    with pytest.raises(Untrusted, match="code that you have not named on this machine"):
        load(tmp_path / "pair.toml")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["masked", "table"])
def test_the_whole_ladder_holds_over_arrays_and_an_error_of_the_port_is_caught(tmp_path, kind, precision):
    folder = tmp_path / "pair"
    folder.mkdir()
    file = left(folder, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert match(given(file))["exit_code"] == 0
        steps = [f"train.precision={precision}", "train.steps=20"]
        same = compared(given(file, steps), tmp_path / "same")
        other = compared(given(file, [*steps, f"model.flax={ERRORS[kind]}"]), tmp_path / "other")
    assert same.agrees and not [(rung.name, rung.where) for rung in same.rungs if not rung.agrees]
    assert not other.agrees and next(rung for rung in other.rungs if not rung.agrees).name == "P2"
