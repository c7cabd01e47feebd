"""Causal attention piece by piece is causal attention: values and gradients of both backends, and its places whole."""

import importlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from twinscale.common.families.decoder import pieces
from twinscale.common.recipe.schema import Recipe
from twinscale.jaxscale.models import layers
from twinscale.jaxscale.taps import tapped

pytestmark = pytest.mark.usefixtures("hurried")

LENGTH, EPS = 128, 2.0**-53
# What is left out is 0, so that only the order of sums is another: each of T terms is off by (T - 1) eps of the sum of
# their sizes, which random signs make sqrt(T) times the sum itself. Scores, softmax, values and their three gradients
# are six such sums in a row, on two sides.
BOUND = 2 * 6 * LENGTH * LENGTH**0.5 * EPS


def near(found, wanted):
    """Relative to the largest of all, for a key's bias has a gradient of 0."""
    scale = max(np.abs(x).max() for x in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == np.float64 and ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < BOUND * scale


def no_further(found, whole, exact):
    """In bfloat16 every product is rounded, and the order of sums is lost in that: pieces are as near to float64 as the
    whole is, but for 4 times, as P5 has it of what a backend costs itself. A key's gradient adds up four pieces."""
    scale, moved = max(np.abs(x).max() for x in exact), 0
    for ours, theirs, wanted in zip(found, whole, exact, strict=True):
        ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
        assert np.abs(ours - wanted).max() <= 4 * np.abs(theirs - wanted).max() < scale / 8  # or it would tell nothing
        moved += (ours != theirs).any()
    assert moved  # else nothing went in pieces


@pytest.mark.parametrize("documents", [False, True])
def test_jax_computes_in_pieces_what_it_computes_whole(documents):
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    given = [np.asarray(jnp.asarray(rng.normal(size=(2, LENGTH, heads, 4)), jnp.bfloat16)) for heads in (4, 2, 2, 4)]
    segments = np.sort(rng.integers(0, 4, (2, LENGTH)), 1).astype(np.int32) if documents else None

    def outcome(places, dtype=np.float64):
        q, k, v, g = (x.astype(dtype) for x in given)

        def compute(q, k, v):
            if places is None:
                return layers.causal_attention(q, k, v, segments)
            with tapped(None, lambda place, x: places.setdefault(place, x)):
                return layers.causal_attention(q, k, v, segments)

        @jax.jit
        def both(q, k, v, g):
            mixed, back = jax.vjp(compute, q, k, v)
            return mixed, *back(g.reshape(mixed.shape))

        return [np.asarray(x) for x in both(q, k, v, g)]

    with jax.enable_x64(True):
        whole = {}
        exact = outcome(whole)
        near(outcome(None), exact)
        assert whole["scores"].shape == (2, 2, 2, LENGTH, LENGTH)  # a hook has every score
        no_further(outcome(None, jnp.bfloat16), outcome({}, jnp.bfloat16), exact)


@pytest.fixture(scope="module")
def recipe():
    return Recipe.model_validate({
        "name": "pieces", "data": {"source": "stdlib", "sequence": LENGTH, "cross_documents": False},
        "model": {"family": "decoder", "layers": 1, "width": 8, "heads": 4, "kv_heads": 2},
        "optimizer": {"name": "sgd"}, "train": {"steps": 1, "global_batch": 2, "precision": "float64"}})


@pytest.fixture(scope="module")
def models(recipe):
    """(a trainer's Keras model, one with every place, with equal weights) of a decoder whose documents are apart."""
    return built(recipe)


def built(recipe):
    import keras

    from twinscale.tfscale.models import build

    made = [build(recipe, 11, (LENGTH,), keras, trained=trained) for trained in (True, False)]
    rng = np.random.default_rng(0)
    for v in made[1].variables:
        v.assign((rng.normal(size=v.shape) / 2).astype(np.float32))
    for v, w in zip(*(model.variables for model in made), strict=True):
        assert v.path == w.path
        v.assign(w)
    return made


def test_keras_computes_in_pieces_what_it_computes_whole(models, recipe, room_of):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    given = {"inputs": rng.integers(0, 11, (2, LENGTH)), "positions": np.tile(np.arange(LENGTH), (2, 1)),
             "segments": np.sort(rng.integers(0, 4, (2, LENGTH)), 1)}
    arriving = rng.normal(size=(2, LENGTH, 11))

    def outcome(model):
        with tf.GradientTape() as tape:
            logits = model({name: tf.constant(given[name], tf.int32) for name in model.input})
            total = tf.reduce_sum(tf.cast(logits, tf.float64) * arriving)
        gradients = tape.gradient(total, [v.value for v in model.trainable_variables])
        return [tf.convert_to_tensor(x).numpy() for x in (logits, *gradients)]

    pieces, exact = map(outcome, models)
    near(pieces, exact)
    narrow = recipe.with_values(train={"precision": "bfloat16"})
    with room_of("tfscale").numerics(narrow):
        no_further(*map(outcome, built(narrow)), exact)


def test_a_trace_reads_whole_places(models, recipe):
    """Of a layer that is called once a piece Keras hands out the first piece's output, and says nothing."""
    from twinscale.tfscale.trace import with_places

    dataset = SimpleNamespace(classes=11, example_shape=(LENGTH,))
    read = with_places(recipe, dataset, models[0]).get_layer("block_0.attention.shares").output
    assert read.shape == (None, 2, 2, LENGTH, LENGTH)
    assert models[0].get_layer("block_0.attention.shares").output.shape != read.shape


def test_both_rooms_take_the_same_pieces():
    assert all(importlib.import_module(f"twinscale.{room}.models.{file}").pieces is pieces
               for room, file in (("tfscale", "decoder"), ("jaxscale", "layers")))
