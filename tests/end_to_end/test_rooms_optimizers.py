"""Both rooms' optimizers against the docstring of `common.recipe.schema.Optimizer`, written out in NumPy float64."""

from unittest.mock import patch

import numpy as np
import pytest

from twinscale.common.optimizers.factors import factor_of
from twinscale.common.schedules import learning_rates

EPS = 2.0**-52
UPDATES = 5
DECAYED = {"weight_decay": 0.1, "learning_rate": 3e-2}
OPTIMIZERS = {
    "adamw": {"name": "adamw", **DECAYED, "clip_norm": 1.0, "ema": 0.9},
    "adamw with a large epsilon": {"name": "adamw", "epsilon": 1e-3, "beta1": 0.8, "beta2": 0.95},
    "sgd": {"name": "sgd", "momentum": 0.0, **DECAYED},
    "momentum": {"name": "sgd", **DECAYED, "clip_norm": 1.0},
    "nesterov": {"name": "sgd", "nesterov": True, **DECAYED, "ema": 0.5},
    "lion": {"name": "lion", "beta2": 0.99, **DECAYED, "clip_norm": 1.0},
    "lamb": {"name": "lamb", **DECAYED, "clip_norm": 1.0},
}


def gradients(weights, update):
    """Signs at random, sizes from 1e-8 to 1, each element's anew in each update; norms far above the clipping's 1."""
    rng = np.random.default_rng(update)
    return {name: rng.choice([-1.0, 1.0], x.shape) * 10.0 ** rng.uniform(-8, 0, x.shape)
            for name, x in sorted(weights.items())}


def moved(open_room, name, recipe):
    """(first weights, the gradients' list, the state's tensors after them)."""
    with open_room(name, recipe) as opened:
        weights = opened.weights()
        updates = [gradients(weights, t) for t in range(UPDATES)]
        *_, state = opened.room.apply_gradients(recipe, opened.state, opened.devices, iter(updates))
        return weights, updates, {key: np.array(x) for key, x in opened.room.state_tensors(state).items()}


@pytest.fixture
def recipe(recipe_of):
    """A decoder for an optimizer, its rate warming up and then decaying; its blocks are stacked in JAX."""

    def make(optimizer, **sections):
        return recipe_of("decoder", model={"width": 8, "heads": 2}, optimizer=OPTIMIZERS[optimizer],
                         schedule={"kind": "cosine", "warmup": 2, "final": 0.1}, train={"steps": UPDATES}, **sections)

    return make


def off(found, wanted):
    """The worst tensor's largest error, in eps of the tensor's own largest value."""
    assert set(found) == set(wanted)
    errors = {key: np.abs(found[key] - x).max() / np.abs(x).max() / EPS for key, x in wanted.items() if x.any()}
    return max(errors.items(), key=lambda item: item[1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_those_of_the_docstring(open_room, reference, recipe, name, optimizer):
    """Each update takes some ten roundings of half an eps, those of the step's own size and the last of the weight's:
    8 eps an update bounds their sum, for weights and averages of the largest weight, for moments of the largest."""
    recipe = recipe(optimizer)
    weights, updates, found = moved(open_room, name, recipe)
    norms = [np.sqrt(sum((g**2).sum() for g in update.values())) for update in updates]
    assert min(norms) > 1 and min(np.abs(g).min() for g in updates[0].values()) < 1e-7
    wanted = reference.updated(recipe.optimizer, learning_rates(recipe), weights, updates)
    worst, error = off(found, wanted)
    print(f"{worst}: {error:.1f} eps")
    assert error < 8 * UPDATES, worst
    assert all(not np.array_equal(found[f"weights/{key}"], x) for key, x in weights.items())


def test_the_test_tells_an_undecayed_bias_from_a_decayed_one(open_room, reference, recipe, name):
    recipe = recipe("adamw")
    weights, updates, _ = moved(open_room, name, recipe)
    wanted, wrong = (reference.updated(o, learning_rates(recipe), weights, updates) for o in
                     (recipe.optimizer, recipe.optimizer.model_copy(update={"weight_decay": 0.0})))
    same = {key for key in weights if np.array_equal(wanted[f"weights/{key}"], wrong[f"weights/{key}"])}
    assert same == {key for key in weights if not key.endswith((".kernel", ".embedding"))}
    assert any(key.endswith(".scale") for key in same) and any(key.endswith(".bias") for key in same)


def test_lamb_takes_each_block_for_a_tensor_of_its_own(open_room, recipe):
    """The trust ratio of blocks stacked under a scan is that of the same blocks one by one."""
    stacked, unrolled = (moved(open_room, "jaxscale", recipe("lamb", jax={"scan": scan}))[2] for scan in (True, False))
    assert off(stacked, unrolled)[1] < 8 * UPDATES


def test_no_decay_without_weight_decay_and_no_move_without_a_gradient(open_room, recipe_of, name):
    recipe = recipe_of("mlp", optimizer={"name": "adamw", "learning_rate": 1.0}, train={"steps": 1})
    with open_room(name, recipe) as opened:
        weights = opened.weights()
        still = {key: np.zeros_like(x) for key, x in weights.items()}
        *_, opened.state = opened.room.apply_gradients(recipe, opened.state, opened.devices, [still])
        assert all(np.array_equal(x, weights[key]) for key, x in opened.weights().items())


@pytest.mark.parametrize("size,shrunk", [(1e-3, 1.0), (1e200, 0.0)])
def test_clipping_is_by_the_written_factor(open_room, recipe_of, name, size, shrunk):
    """Below the limit not a bit moves; where the norm overflows, min(1, clip_norm / inf) = 0 takes all of it."""
    recipe = recipe_of("mlp", optimizer={"name": "sgd", "momentum": 0.0, "learning_rate": 1.0, "clip_norm": 0.3},
                       train={"steps": 1})
    with open_room(name, recipe) as opened:
        weights = opened.weights()
        gradient = {key: np.full_like(x, size / x.size) for key, x in weights.items()}
        *_, opened.state = opened.room.apply_gradients(recipe, opened.state, opened.devices, [gradient])
        after = opened.weights()
    assert all(np.array_equal(after[key], x - shrunk * gradient[key] if shrunk else x) for key, x in weights.items())


@pytest.mark.parametrize("optimizer", ["adamw with decay", "momentum", "lamb"])
def test_each_tensor_moves_by_its_own_share_of_the_rate(open_room, reference, recipe, name, optimizer):
    """A block by the power of its depth, decay too, where its updates are otherwise the docstring's; and a frozen
    tensor by nothing, to the bit."""
    options = {"name": "adamw", **DECAYED} if optimizer == "adamw with decay" else OPTIMIZERS[optimizer]
    options = {**options, "clip_norm": 0.0, "layer_decay": 0.5, "freeze": ["block_0.*", "head.*", "*.bias"]}
    with patch.dict(OPTIMIZERS, {optimizer: options}):
        recipe = recipe(optimizer)
    weights, updates, found = moved(open_room, name, recipe)
    shares = {key: factor_of(recipe, key) for key in weights}
    assert len({share for share in shares.values() if share}) >= 3
    for share in set(shares.values()) - {0.0}:
        wanted = reference.updated(recipe.optimizer, share * learning_rates(recipe), weights, updates)
        for key in (key for key in weights if shares[key] == share):
            apart = np.abs(found[f"weights/{key}"] - wanted[f"weights/{key}"]).max()
            assert apart < 8 * UPDATES * EPS * np.abs(weights[key]).max(), key
    for key in (key for key in weights if not shares[key]):
        assert np.array_equal(found[f"weights/{key}"], weights[key]), key
    # Of a tensor whose blocks are not stacked with others nothing is read or written, whatever the gradient says.
    assert not any(x.any() for key, x in found.items() if "/head." in key and not key.startswith("weights/"))


def test_a_frozen_tensor_has_no_gradient_and_the_others_have_theirs(open_room, recipe, name):
    frozen = {"name": "adamw", "freeze": ["block_0.*", "embedding.*"]}
    found = []
    for options in ({"name": "adamw"}, frozen):
        with patch.dict(OPTIMIZERS, {"any": options}), open_room(name, recipe("any")) as opened:
            found.append({key.removeprefix("gradients/"): np.array(x) for key, x in opened.tensors(
                opened.batch()).items() if key.startswith("gradients/")})
    free, held = found
    assert any(key.startswith("block_0.") for key in free)
    for key, x in free.items():
        if key.startswith(("block_0.", "embedding.")):
            assert x.any() and not held[key].any(), key
        else:
            assert np.abs(held[key] - x).max() <= 256 * EPS * max(np.abs(x).max(), 1e-3), key
