"""Encoders in both rooms: a transcription's numbers, the same gradients, and padding that nothing depends on."""

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.common.recipe.file import dumps, given
from twinscale.common.recipe.schema import Recipe

EPS = 2.0**-52
# As in test_rooms_models: at most 26 contractions of at most K = 64 terms, each off by 8 eps of its scale.
BOUND = 256 * EPS
PROBE = {"objective": {"name": "probe"}}
MODELS = {
    "tokens, post-norm": {"model": {"layers": 2}},
    "sequence, pooled": {"model": {"head": "sequence", "activation": "gelu_tanh", "dropout": 0.25},
                         "jax": {"scan": False}},
    "sequence, pre-norm": {"model": {"head": "sequence", "norm": "pre", "pooler": False, "activation": "relu",
                                     "first_position": 2, "types": 0}},
    "masked": {"model": {"head": "masked", "vocabulary": 150}},
    "next sentence": {"model": {"head": "next-sentence", "dropout": 0.25, "pooler": False}},
    "embedding": {"model": {"head": "embedding"}, **PROBE}}


def worst(found, wanted, scale=None):
    """The largest error of a tensor, of its largest value."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / (np.abs(wanted).max() if scale is None else scale))


@pytest.mark.parametrize("asked", [pytest.param(one, marks=pytest.mark.slow if "next" in one else ())
                                   for one in MODELS])
def test_both_rooms_give_what_the_transcription_gives_and_the_same_gradients(first_step, reference, recipe_of, asked):
    recipe, found = recipe_of("encoder", **MODELS[asked]), {}
    for name in ("tfscale", "jaxscale"):
        weights, batch, found[name] = first_step(name, recipe)
        wanted, _ = reference.forward(recipe, weights, batch, number=0)
        assert found[name]["logits"].dtype == np.float64 and worst(found[name]["logits"], wanted) < BOUND
        if recipe.model.dropout:
            assert worst(found[name]["logits"], reference.forward(recipe, weights, batch)[0]) > 1e-3
    ours, theirs = found.values()
    assert set(ours) == set(theirs) and sum(key.startswith("gradients/") for key in ours) == len(weights)
    for key in ours:
        null = key.endswith("key.bias")  # which softmax does not see
        scale = np.abs(theirs[key.replace(".bias", ".kernel")]).max() if null else None
        assert worst(ours[key], theirs[key], scale) < BOUND, key
        assert np.abs(ours[key]).max() > 0 or null, key


def behind_padding(batch, first):
    """A batch whose padding, which is anywhere in a row but its first place, holds ids from `first` on that no token
    has."""
    rng = np.random.default_rng(0)
    mask = (rng.random(batch["ids"].shape) < 0.6).astype(np.int32)
    mask[:, 0] = 1
    ids = np.where(mask == 1, batch["ids"] % first, first + batch["ids"] % 3).astype(np.int32)
    found = batch | {"ids": ids, "mask": mask}
    return found | ({"weights": mask.astype(np.float32)} if batch["weights"].ndim > 1 else {})


@pytest.mark.parametrize("asked", ["embedding", pytest.param("tokens, post-norm", marks=pytest.mark.slow),
                                   pytest.param("sequence, pre-norm", marks=pytest.mark.slow)])
def test_nothing_comes_from_padding_by_gradients(open_room, recipe_of, name, asked):
    """The rows of a table that padding alone reads have no gradient, not even a tiny one, and have one as soon as the
    mask lets them through."""
    with open_room(name, recipe_of("encoder", **MODELS[asked])) as opened:
        batch, first = behind_padding(opened.batch(), 30), 30
        hidden = opened.tensors(batch)
        seen = opened.tensors(batch | {"mask": np.ones_like(batch["mask"])})
        other = opened.tensors(batch | {"ids": np.where(batch["mask"] == 1, batch["ids"], 39).astype(np.int32)})
    table = "gradients/embedding.embedding"
    assert not hidden[table][first:].any() and np.abs(hidden[table][:first]).max() > 1e-4
    assert np.abs(seen[table][first:]).max() > 1e-4
    assert all(np.array_equal(hidden[key], other[key]) for key in hidden if key not in (table, "logits"))
    kept = batch["mask"] == 1 if hidden["logits"].ndim > 2 else slice(None)
    assert np.array_equal(hidden["logits"][kept], other["logits"][kept])


def test_the_masked_head_reads_the_table_that_ids_are_looked_up_in(first_step, recipe_of, name):
    """A row that no id reads has a gradient by way of the head alone, and its bias is the row's own."""
    _, batch, found = first_step(name, recipe_of("encoder", **MODELS["masked"]))
    unread = np.setdiff1d(np.arange(150), batch["ids"])
    assert len(unread) > 9 and np.abs(found["gradients/embedding.embedding"][unread]).max(1).min() > 1e-7
    assert abs(found["gradients/head.bias"].sum()) < 1e-12 < np.abs(found["gradients/head.bias"]).max()


def test_the_slope_of_gelus_tanh_form_is_as_exact_where_it_is_small(room_of, name):
    """Against 80-bit arithmetic, of the slope itself: below -2, where 1 + tanh(u) would have lost four digits."""
    x = np.linspace(-5, -2, 61)
    root, wide = np.sqrt(2 / np.longdouble("3.14159265358979323846")), x.astype(np.longdouble)
    u = root * (wide + np.longdouble("0.044715") * wide**3)
    share = np.exp(2 * u) / (1 + np.exp(2 * u))
    wanted = share * (1 + wide * 2 * root * (1 + 3 * np.longdouble("0.044715") * wide**2) / (1 + np.exp(2 * u)))
    recipe = Recipe.model_validate({"name": "x", "model": {"family": "mlp"}, "data": {"source": "digits"},
                                    "train": {"precision": "float64"}})
    with room_of(name).numerics(recipe):
        if name == "jaxscale":
            import jax

            from twinscale.jaxscale.models.layers import activation

            found = np.asarray(jax.vmap(jax.grad(activation("gelu_tanh")))(x))
        else:
            import tensorflow as tf

            from twinscale.tfscale.models.layers import activation

            with tf.GradientTape() as tape:
                tape.watch(given := tf.constant(x))
                made = activation("gelu_tanh")(given)
            found = tape.gradient(made, given).numpy()
    assert np.abs(found / wanted - 1).max() < 64 * EPS


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("asked", MODELS)
def test_the_whole_ladder_holds(tmp_path, recipe_of, asked, precision):
    recipe = recipe_of("encoder", **MODELS[asked], train={"precision": precision, "steps": 6})
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    found = compared(given(tmp_path / "recipe.toml"), tmp_path / "out")
    assert found.agrees and not [(rung.name, rung.where) for rung in found.rungs if not rung.agrees]
