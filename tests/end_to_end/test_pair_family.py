"""Two programs of a user's as the model of a recipe: matched, and trained by both rooms from equal weights."""

import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.benchmarks.matching import match, sentence
from twinscale.common.errors import BadInput
from twinscale.common.pairs import matching
from twinscale.common.recipe.file import given

PAIR = Path(__file__).parents[2] / "docs" / "pair"
EPS = 2.0**-52
# A chain of 12 contractions of at most 128 terms, each off by sqrt(128) eps of its scale, some of whose results cancel
# to a tenth; a single rounding to float32 on the way would cost 2^29 eps.
BOUND = 12 * 12 * 10 * EPS
KERAS = """
import keras
from keras import layers

def build(width=8):
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    x = layers.Embedding(257, width, name="tok")(ids)
    h = layers.RMSNormalization(name="norm")(x)
    x = layers.Dropout(0.3)(x + layers.MultiHeadAttention(2, width // 2, name="attention")(h, h, use_causal_mask=True))
    return keras.Model({"token_ids": ids}, {"logits": layers.Dense(257, name="head")(x), "hidden": x})
"""
FLAX = """
import jax
import jax.numpy as jnp

def build(width=8):
    def init(key, input_ids):
        def dense(rows, columns):
            return {"w": jnp.zeros((columns, rows)), "b": jnp.zeros(columns)}

        return {"wte": jnp.zeros((257, width)), "g": jnp.ones(width), "qkv": dense(width, 3 * width),
                "proj": dense(width, width), "head": dense(width, 257)}

    def apply(p, input_ids):
        def dense(of, x):
            return x @ of["w"].T + of["b"]

        x, (B, T) = p["wte"][input_ids], input_ids.shape
        h = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["g"]
        q, k, v = (y.reshape(B, T, 2, -1).swapaxes(1, 2) for y in jnp.split(dense(p["qkv"], h), 3, -1))
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), q @ k.swapaxes(2, 3) * (width // 2) ** -0.5, -jnp.inf)
        x = x + dense(p["proj"], (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(x.shape))
        return dense(p["head"], x)

    return init, apply
"""
TEXT = """name = "text"
[data]
source = "CORPUS"
sequence = 16
held_out = 0.2
[model]
family = "pair"
reads = "text"
keras = "mine.py:build"
flax = "theirs.py:build"
match = "match.toml"
inputs = { inputs = { keras = "token_ids", flax = "input_ids" } }
outputs = { keras = "logits" }
[train]
global_batch = 8
"""


@pytest.fixture(scope="module", params=["images", "text"])
def file(request, corpus, tmp_path_factory):
    """The recipe of a pair beside its programs, outside of the checkout."""
    folder = tmp_path_factory.mktemp("pair")
    if request.param == "images":
        shutil.copytree(PAIR, folder, dirs_exist_ok=True)
        text = (folder / "pair.toml").read_text().replace("digits_flax.py:build", "digits_flax.py:mended")
        (folder / "pair.toml").write_text(text)
    else:
        (folder / "mine.py").write_text(KERAS)
        (folder / "theirs.py").write_text(FLAX)
        (folder / "pair.toml").write_text(TEXT.replace("CORPUS", corpus))
    return folder / "pair.toml"


@pytest.fixture(scope="module")
def matched(file, room_of, quickly):
    """(the recipe of the matched pair in float64, what the rooms said of the match)."""
    loose = given(file, ["train.precision=float32", "keras.jit_compile=false"])
    outputs, said = file.with_name("outputs.safetensors"), []
    for room, call, more in (("tfscale", matching.leave_program, {}),
                             ("jaxscale", matching.match_program, {"out": file.with_name("match.toml")})):
        opened = import_module(f"twinscale.{room}.models.pair").opened
        with quickly(room):
            said.append(call(room_of(room), opened, loose.model_dump(mode="json"),
                             file.with_name("match.safetensors"), outputs, **more))
    return given(file, ["train.precision=float64", "keras.jit_compile=false", "train.steps=3"]), said


def test_the_match_is_found_without_a_rule(matched, file):
    recipe, (keras, flax) = matched
    assert flax["agrees"] and flax["difference"] < 1e-5 and keras["tensors"] >= 9
    text = file.with_name("match.toml").read_text()
    assert ("reshape 4 4 8 16 | transpose 2 0 1 3" if recipe.model.reads == "images" else "join") in text


def test_a_pair_that_is_matched_again_has_the_same_first_weights(matched, file, room_of, quickly):
    opened, again = import_module("twinscale.tfscale.models.pair").opened, file.with_name("again.safetensors")
    opened.cache_clear()
    loose = given(file, ["train.precision=float32", "keras.jit_compile=false"]).model_dump(mode="json")
    with quickly("tfscale"):
        matching.leave_program(room_of("tfscale"), opened, loose, again, file.with_name("outputs.safetensors"))
    assert again.read_bytes() == file.with_name("match.safetensors").read_bytes()


def test_both_rooms_take_the_same_step_from_the_same_weights(matched, open_room):
    recipe, found = matched[0], {}
    for room in ("tfscale", "jaxscale"):
        with open_room(room, recipe) as opened:
            first, tensors, state = opened.weights(), opened.tensors(), opened.state
            step = opened.room.make_step(recipe, state, opened.devices)
            for number in range(3):
                state, metrics = step(state, number, opened.batch(number))
            found[room] = first, tensors, opened.room.state_tensors(state), float(metrics["loss"])
    (first, ours, after, loss), (others, theirs, then, lost) = found.values()
    assert all(first[name].tobytes() == others[name].tobytes() for name in first | others)
    assert set(ours) == set(theirs) and set(after) == set(then)
    largest = max(float(np.abs(x).max()) for name, x in ours.items() if name.startswith("gradients/"))
    for name, x in ours.items():  # a key's bias moves no loss
        size = largest if name.endswith("key.bias") else np.abs(theirs[name]).max()
        assert np.abs(x - theirs[name]).max() <= BOUND * size, name
    assert abs(loss - lost) < 1e-9
    statistics = [name for name in first if name.endswith(".var")]
    assert bool(statistics) == (recipe.model.reads == "images")
    assert not any(np.array_equal(after[f"weights/{name}"], first[name]) for name in statistics)
    for name in (name for name in then if name.startswith("weights/") and not name.endswith("key.bias")):
        assert np.abs(after[name] - then[name]).max() <= 1e-9 * max(np.abs(then[name]).max(), 1e-3), name


def test_a_port_that_errs_takes_another_step(matched, file, open_room):
    if matched[0].model.reads == "text":
        pytest.skip("the port of text has no other version")
    gradients = {}
    for name in ("mended", "build"):
        recipe = given(file, ["train.precision=float64", f"model.flax={file.parent}/digits_flax.py:{name}"])
        with open_room("jaxscale", recipe) as opened:
            gradients[name] = opened.tensors()["gradients/hidden.kernel"]
    assert np.abs(gradients["mended"] - gradients["build"]).max() > 1e-4 * np.abs(gradients["mended"]).max()


def test_what_a_pair_cannot_be_trained_with_is_said_before_anything_compiles(matched, file, open_room):
    weights = file.with_name("match.safetensors")
    text = file.with_name("match.toml").read_text()
    other = file.with_name("other.toml")
    other.write_text("".join(line for line in text.splitlines(keepends=True) if not re.search("head|fc2", line)))
    recipe = given(file, ["train.precision=float64", f"model.match={other}", f"model.weights={weights}"])
    with pytest.raises(BadInput, match="nothing is said of this tensor of b"), open_room("jaxscale", recipe):
        pass
    missing = given(file, ["train.precision=float64", f"model.weights={file.parent}/none.safetensors"])
    with pytest.raises(BadInput, match="`twinscale match RECIPE` makes it"), open_room("tfscale", missing):
        pass
    with pytest.raises(BadInput, match="is there already: .* --overwrite replaces it"):
        match(given(file))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_the_whole_ladder_holds_on_a_pair_and_an_error_of_the_port_is_caught(tmp_path, precision):
    shutil.copytree(PAIR, tmp_path / "pair")
    file, mended = tmp_path / "pair" / "pair.toml", "model.flax=digits_flax.py:mended"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        found = match(given(file, [mended]))
        assert found["exit_code"] == 0 and "9 tensors matched" in sentence(found)
        same = compared(given(file, [mended, f"train.precision={precision}"]), tmp_path / "same")
        other = compared(given(file, [f"train.precision={precision}"]), tmp_path / "other")
    assert same.agrees and not [(rung.name, rung.where) for rung in same.rungs if not rung.agrees]
    assert all(inside.place == "" and len(inside.modules) == 4 for inside in same.inside.values())
    assert not other.agrees and next(rung for rung in other.rungs if not rung.agrees).name == "P2"
    inside = other.inside["float64"]
    assert inside.place == "between hidden and logits, whose inputs differ"
    assert inside.cause == "a applies the exact GELU, b the tanh GELU." and inside.cause in other.sentence
    assert inside.others == [] and inside.modules[-1].outputs is not None  # the port has one mistake




def test_rows_on_two_devices_are_normed_together_and_nothing_is_set_back_too_early(matched, open_room):
    """A replica waits for the others inside the user's model, while it is in another format and without dropout."""
    found = []
    for devices in ({}, {"data": 2, "virtual": 4, "strategy": "mirrored"}):
        with open_room("tfscale", matched[0].with_values(devices=devices), optimised=True) as opened:
            assert opened.devices.replicas == (2 if devices else 1)
            step = opened.room.make_step(opened.recipe, opened.state, opened.devices)
            losses = [float(step(opened.state, number, opened.batch(number))[1]["loss"]) for number in range(2)]
            found.append((losses, opened.room.state_tensors(opened.state)))
    (one, tensors), (several, others) = found
    assert np.allclose(one, several, rtol=1e-12)
    for name, x in tensors.items():
        assert np.abs(others[name] - x).max() <= 1e-9 * max(np.abs(x).max(), 1e-3), name  # a key's bias moves no loss


NARROW = """
import jax
import jax.numpy as jnp


def init(key, inputs):
    return {name: {"kernel": jax.random.normal(key, shape) / 8, "bias": jnp.zeros(shape[1])}
            for name, shape in (("hidden", (64, 12)), ("logits", (12, 10)))}


def apply(params, inputs, error):
    x = inputs.reshape(inputs.shape[0], -1)
    x = (x @ params["hidden"]["kernel"] + params["hidden"]["bias"]).astype(jnp.float32)
    x = jax.nn.gelu(x, approximate=error).astype(inputs.dtype)
    return x @ params["logits"]["kernel"] + params["logits"]["bias"]


def right():
    return init, lambda params, inputs: apply(params, inputs, False)


def wrong():
    return init, lambda params, inputs: apply(params, inputs, True)
"""
WIDE = """
import keras


def build():
    images = keras.Input((8, 8, 1))
    x = keras.layers.Dense(12, activation="gelu", name="hidden")(keras.layers.Flatten()(images))
    return keras.Model(images, keras.layers.Dense(10, name="logits")(x))
"""
OF_FLOAT32 = """
name = "narrow"
[data]
source = "digits"
[model]
family = "pair"
reads = "images"
keras = "wide.py:build"
flax = "narrow.py:right"
match = "match.toml"
[train]
steps = 6
global_batch = 8
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_ladder_goes_on_in_float32_where_a_program_computes_in_it_whatever_comes_in(tmp_path, monkeypatch,
                                                                                        precision):
    for name, text in (("narrow.py", NARROW), ("wide.py", WIDE), ("pair.toml", OF_FLOAT32)):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    found = match(given("pair.toml"))
    assert found["exit_code"] == 0 and "its port computes in less than float64" in found["narrow"][0]
    assert 'computes = "float32"' in (tmp_path / "match.toml").read_text()
    right = compared(given("pair.toml", [f"train.precision={precision}"]), tmp_path / "right")
    assert right.agrees and [rung["name"] for rung in right["rungs"]] == ["P0", "P2", "P3", "P5"]
    assert "nothing was compared in float64" in right["sentence"]
    planted = given("pair.toml", ["model.flax=narrow.py:wrong"])
    wrong = compared(planted, tmp_path / "wrong", place=True)
    assert not wrong.agrees and "a applies the exact GELU, b the tanh GELU" in wrong["sentence"]
    with pytest.raises(BadInput, match="computes in less than float64 whatever comes in, first at .*train it in"):
        compared(given("pair.toml", ["train.precision=float64"]), tmp_path / "wide")
