"""ResNets and ViTs in both rooms: a transcription's numbers, the same gradients, and what padding and ties give."""

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.common.recipe.file import dumps, given

EPS = 2.0**-52
# As in test_rooms_models: at most 26 contractions of at most K = 64 terms, each off by 8 eps of its scale.
BOUND = 256 * EPS
MODELS = {
    "resnet, basic": ("resnet", {"model": {"dropout": 0.25}}),
    "resnet, bottleneck": ("resnet", {"model": {"block": "bottleneck", "layers": [2, 1], "widths": [2, 3],
                                                "stem": "imagenet"}}),
    "vit": ("vit", {"model": {"layers": 2, "dropout": 0.25, "pooler": True}}),
    "vit, unrolled": ("vit", {"model": {"activation": "gelu_tanh", "patch": 2}, "jax": {"scan": False}})}
LATER = ("vit, unrolled",)


def recipe_named(recipe_of, asked, **sections):
    """The recipe of one of MODELS, with further sections."""
    family, own = MODELS[asked]
    return recipe_of(family, **{**own, **sections})


def worst(found, wanted, scale=None):
    """The largest error of a tensor, of its largest value."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / (np.abs(wanted).max() if scale is None else scale))


@pytest.mark.parametrize("asked", [pytest.param(m, marks=pytest.mark.slow if m in LATER else ()) for m in MODELS])
def test_both_rooms_give_what_the_transcription_gives_and_the_same_gradients(first_step, reference, recipe_of, asked):
    recipe, found = recipe_named(recipe_of, asked), {}
    for name in ("tfscale", "jaxscale"):
        weights, batch, found[name] = first_step(name, recipe)
        wanted, moved = reference.forward(recipe, weights, batch, number=0)
        assert found[name]["logits"].dtype == np.float64 and worst(found[name]["logits"], wanted) < BOUND
        assert bool(moved) == (recipe.model.family == "resnet")
        if recipe.model.dropout:
            assert worst(found[name]["logits"], reference.forward(recipe, weights, batch)[0]) > 1e-3
    ours, theirs = found.values()
    trained = [name for name in weights if not name.endswith((".mean", ".var"))]
    assert set(ours) == set(theirs) and sum(key.startswith("gradients/") for key in ours) == len(trained)
    for key in ours:
        null = key.endswith("key.bias")  # which softmax does not see
        scale = np.abs(theirs[key.replace(".bias", ".kernel")]).max() if null else None
        assert worst(ours[key], theirs[key], scale) < BOUND, key
        assert np.abs(ours[key]).max() > 0 or null, key


def test_running_statistics_are_those_of_the_batch(open_room, reference, recipe_of, name):
    """After one step each has moved to the transcription's: by the share that the recipe says."""
    recipe = recipe_named(recipe_of, "resnet, basic", train={"steps": 1})
    with open_room(name, recipe) as opened:
        batch, before = opened.batch(), opened.weights()
        _, wanted = reference.forward(recipe, before, batch, number=0)
        step = opened.room.make_step(recipe, opened.state, opened.devices)
        opened.state = step(opened.state, 0, batch)[0]
        after = opened.weights()
    assert len(wanted) == 2 * sum(key.endswith(".mean") for key in before)
    assert all(worst(after[key], x) < BOUND and worst(after[key], before[key], 1) > 1e-3 for key, x in wanted.items())


def pooled(name, room, recipe, x, weights):
    """(the room's max pooling of x, the gradient of its values times weights), NumPy arrays."""
    with room.numerics(recipe):
        if name == "jaxscale":
            import jax

            from twinscale.jaxscale.models.resnet import max_pool

            made, back = jax.vjp(max_pool, x)
            return np.asarray(made), np.asarray(back(weights)[0])
        import keras
        import tensorflow as tf

        from twinscale.tfscale.models.layers import layers

        layer = layers(keras).MaxPooling(3, 2, dtype="float64")
        with tf.GradientTape() as tape:
            tape.watch(given := tf.constant(x))
            made = layer(given)
        return made.numpy(), tape.gradient(made, given, weights).numpy()


def test_of_equal_values_the_first_has_the_gradient_whatever_the_sizes(room_of, recipe_of, name):
    """Of values that are all equal each window's gradient goes to its first one that is no padding; and negative ones
    are not taken for less than padding."""
    recipe, weights = recipe_named(recipe_of, "resnet, basic"), np.arange(1.0, 13).reshape(1, 3, 4, 1)
    made, gradient = pooled(name, room_of(name), recipe, np.full((1, 5, 8, 1), -2.0), weights)
    wanted = np.zeros((1, 5, 8, 1))
    for i in range(3):
        for j in range(4):
            wanted[0, max(2 * i - 1, 0), max(2 * j - 1, 0), 0] += weights[0, i, j, 0]
    assert (made == -2).all() and np.array_equal(gradient, wanted)
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3))
    made, _ = pooled(name, room_of(name), recipe, x, np.ones((2, 4, 3, 3)))
    assert made[1, 1, 1, 2] == x[1, 1:4, 1:4, 2].max() and made[0, 3, 0, 0] == x[0, 5:, :2, 0].max()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("asked", MODELS)
def test_the_whole_ladder_holds(tmp_path, recipe_of, asked, precision):
    """The last batch norms of the bottleneck are over four values, and take back most of what arrives."""
    recipe = recipe_named(recipe_of, asked, train={"precision": precision, "steps": 6})
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    found = compared(given(tmp_path / "recipe.toml"), tmp_path / "out")
    assert found.agrees and not [(rung.name, rung.where) for rung in found.rungs if not rung.agrees]


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["resnet, bottleneck", "vit"])
def test_several_devices_train_what_one_does(tmp_path, recipe_of, asked):
    """P6: statistics are those of the global batch."""
    recipe = recipe_named(recipe_of, asked, train={"steps": 6})
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    found = compared(given(tmp_path / "recipe.toml"), tmp_path / "out", meshes=True)
    assert found.agrees and "P6" in {rung.name for rung in found.rungs}
