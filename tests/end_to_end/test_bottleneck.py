"""Bottleneck adapters in both rooms: a transcription's numbers, the same gradients of the adapters and the head and no
others, and what a training leaves."""

import numpy as np
import pytest

from twinscale.benchmarks.compare import compared
from twinscale.common.cli import main
from twinscale.common.families.bottleneck import is_inside
from twinscale.common.files.run_files import RunFiles
from twinscale.common.recipe.file import dumps, given
from twinscale.common.training.canonical import model_of
from twinscale.common.training.loop import run_training

# As in test_rooms_models, with two contractions more behind each part of two blocks: at most 34 of at most K = 64
# terms, each off by 8 eps of its scale.
BOUND = 34 * 8 * 2.0**-52
ADAPT = {"kind": "bottleneck", "width": 5}
MODELS = {"decoder": {"model": {"dropout": 0.25, "activation": "swiglu", "bias": False, "norm": "rms", "tied": False},
                      "jax": {"scan": False}},
          "encoder": {"model": {"dropout": 0.25, "layers": 2}},
          "vit": {"model": {"layers": 2}}}


def worst(found, wanted):
    """The largest error of a tensor, of its largest value."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("family", [pytest.param(one, marks=() if one == "encoder" else pytest.mark.slow)
                                    for one in MODELS])
def test_both_rooms_give_what_the_transcription_gives_and_the_same_gradients(open_room, reference, recipe_of, family):
    recipe, found = recipe_of(family, **MODELS[family], adapt=ADAPT), {}
    for name in ("tfscale", "jaxscale"):
        with open_room(name, recipe) as opened:
            first, drawn, batch = opened.weights(), np.random.default_rng(2), opened.batch()
            weights = {key: x + 0.1 * drawn.normal(size=x.shape) if is_inside(key) else x
                       for key, x in sorted(first.items())}
            tensors = {key: np.array(x) for key, x in opened.room.state_tensors(opened.state).items()}
            tensors |= {f"weights/{key}": x for key, x in weights.items()}
            opened.state = opened.room.with_tensors(recipe, opened.state, opened.devices, tensors, 0)
            found[name] = opened.tensors(batch)
        wanted, _ = reference.forward(recipe, weights, batch, number=0)
        assert worst(found[name]["logits"], wanted) < BOUND
        assert worst(reference.forward(recipe, first, batch, number=0)[0], wanted) > 1e-3
    ours, theirs = found.values()
    assert set(ours) == set(theirs) and sum(map(is_inside, weights)) == 8 * recipe.model.layers
    for key in weights:
        gradient, other = ours[f"gradients/{key}"], theirs[f"gradients/{key}"]
        if is_inside(key) or key.startswith("head."):
            assert gradient.any() and worst(gradient, other) < BOUND, key
        else:
            assert not gradient.any() and not other.any(), key


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("family", MODELS)
def test_the_whole_ladder_holds(tmp_path, recipe_of, family, precision):
    recipe = recipe_of(family, **MODELS[family], adapt=ADAPT, train={"precision": precision, "steps": 6})
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    found = compared(given(tmp_path / "recipe.toml"), tmp_path / "out")
    assert found.agrees and not [(rung.name, rung.where) for rung in found.rungs if not rung.agrees]


@pytest.mark.slow
def test_queries_hold_where_the_first_token_alone_has_a_gradient(tmp_path, recipe_of):
    """The pooler reads one token: of its few queries a softmax's cotangents leave less than their roundings."""
    recipe = recipe_of("encoder", model={"dropout": 0.25, "layers": 2, "head": "sequence"}, adapt=ADAPT,
                       train={"precision": "bfloat16", "steps": 6})
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    found = compared(given(tmp_path / "recipe.toml"), tmp_path / "out")
    assert not [(rung.name, rung.where) for rung in found.rungs if not rung.agrees]


@pytest.mark.slow
def test_what_a_training_leaves_has_its_adapters_and_the_library_has_no_such_model(
        room_of, recipe_of, name, tmp_path, capfd):
    recipe = recipe_of("decoder", model={"tied": False}, adapt=ADAPT, optimizer={"learning_rate": 0.05},
                       train={"steps": 3, "save_every": 3, "precision": "float32"})
    run_training(room_of(name), recipe, tmp_path / "run", progress=False)
    assert RunFiles(tmp_path / "run").listed() == [3]
    plain, tensors = model_of(tmp_path / "run")
    assert plain.adapt.kind == "none" and plain.model.bottleneck == 5
    assert all(x.any() for key, x in tensors.items() if is_inside(key)) and sum(map(is_inside, tensors)) == 16
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "out"), "--formats",
                 "keras,stablehlo"]) == 0
    assert main(["generate", str(tmp_path / "run"), "--prompt", "ab", "--both", "--tokens", "5"]) == 0
    capfd.readouterr()
    assert main(["convert", str(tmp_path / "run"), "--hugging-face", "--to", str(tmp_path / "there")]) == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("twinscale: --hugging-face: no layout has the adapters of model.bottleneck=5")
