"""Adapters in both rooms: the model computes with W + (alpha / rank) A B, gradients are those of the chain rule, and
all else stays. And a training that ends early."""

import jax.numpy as jnp
import numpy as np
import pytest

from twinscale.common.families.adapters import is_adapter, kernel_of, merged
from twinscale.common.families.bottleneck import is_inside
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.numbers.bits import draw, fold_in, keep_below, name_word, step_key
from twinscale.common.numbers.bits import key as root
from twinscale.common.training.canonical import convert
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import follow_run, read_run
from twinscale.common.training.run_metrics import read_metrics
from twinscale.jaxscale.adapters import adapted

EPS = 2.0**-52
LORA = {"kind": "lora", "rank": 3, "alpha": 2.0, "targets": ["layer_*.kernel"]}


def gradients(tensors):
    return {key.removeprefix("gradients/"): np.array(x) for key, x in tensors.items() if key.startswith("gradients/")}


def begun(opened, weights):
    """The room's state with other weights."""
    tensors = {key: np.array(x) for key, x in opened.room.state_tensors(opened.state).items()}
    tensors |= {f"weights/{key}": x for key, x in weights.items()}
    opened.state = opened.room.with_tensors(opened.recipe, opened.state, opened.devices, tensors, 0)


def test_a_model_with_adapters_is_the_merged_one_and_moves_by_the_chain_rule(open_room, recipe_of, name):
    """A sum of K rounded products is off by no more than K eps of the largest, through three layers; what is merged in
    NumPy adds as much."""
    recipe = recipe_of("mlp", adapt=LORA)
    with open_room(name, recipe) as opened:
        drawn = np.random.default_rng(1)
        weights = {key: drawn.normal(size=x.shape) / 4 if is_adapter(key) else x
                   for key, x in opened.weights().items()}
        begun(opened, weights)
        found, batch = opened.tensors(opened.batch()), opened.batch()
    plain = recipe.with_values(adapt={"kind": "none"})
    with open_room(name, plain) as opened:
        begun(opened, merged(recipe, weights))
        wanted = opened.tensors(batch)
    bound = 64 * 24 * EPS
    assert np.abs(found["logits"] - wanted["logits"]).max() <= bound * np.abs(wanted["logits"]).max()
    ours, theirs = gradients(found), gradients(wanted)
    assert {kernel_of(key) for key in ours.keys() - theirs.keys()} == {"layer_0.kernel", "layer_1.kernel"}
    for key, x in ours.items():
        part, scale = key.rpartition(".")[0], 2 / 3
        if is_adapter(key):
            dw = theirs[kernel_of(key)]
            chain = scale * (dw @ weights[f"{part}.lora_b"].T if key.endswith("_a") else
                             weights[f"{part}.lora_a"].T @ dw)
            assert x.any() and np.abs(x - chain).max() <= bound * np.abs(dw).max(), key
        elif part == "head":
            assert np.abs(x - theirs[key]).max() <= bound * np.abs(theirs[key]).max()
        else:
            assert not x.any(), key


def test_dropout_hides_inputs_of_a_kernel_from_a_alone_and_from_nothing_in_evaluations(open_room, recipe_of, name):
    """As a model whose A has the rows that the shared bits keep, twice as large; with no other rounding than that of
    the test above."""
    recipe, found, number = recipe_of("mlp", adapt=LORA | {"dropout": 0.5}), {}, 3
    for rate in (0.5, 0.0):
        with open_room(name, recipe.with_values(adapt={"dropout": rate})) as opened:
            drawn, kept = np.random.default_rng(1), {}
            weights = {key: drawn.normal(size=x.shape) / 4 if is_adapter(key) else x
                       for key, x in opened.weights().items()}
            for key in (key for key in weights if key.endswith("_a")):
                place = name_word(key.replace("lora_a", "lora_dropout"))
                bits = draw(fold_in(step_key(root(recipe.seed), number), place), np.zeros(1), len(weights[key]))[0]
                kept[key] = 2.0 * (bits >> 9 < keep_below(0.5))[:, None]
            begun(opened, weights)
            evaluate = opened.room.make_evaluate(opened.recipe, opened.state, opened.devices)
            judged = evaluate(opened.state, [opened.batch()])
            begun(opened, weights if rate else {key: x * kept.get(key, 1) for key, x in weights.items()})
            found[rate] = opened.tensors(opened.batch(), number) | {"judged": judged["loss"]}
    assert all(0 < kept[key].mean() < 2 for key in kept) and len(kept) == 2
    ours, wanted = (found[rate] | gradients(found[rate]) for rate in (0.5, 0.0))
    wanted |= {key: wanted[key] * x for key, x in kept.items()}
    for key in ("judged", "logits", "head.kernel", *(key for key in weights if is_adapter(key))):
        assert np.abs(ours[key] - wanted[key]).max() <= 64 * 24 * EPS * np.abs(wanted[key]).max(), key


def test_stacked_blocks_get_each_its_own_product():
    recipe = type("R", (), {"adapt": type("A", (), {"kind": "lora", "scale": 0.5})})
    drawn = np.random.default_rng(0)
    kernels, a, b = drawn.normal(size=(3, 4, 5)), drawn.normal(size=(4, 2)), drawn.normal(size=(2, 5))
    found = adapted(recipe, {name: jnp.asarray(x, jnp.float32) for name, x in {
        "blocks.query.kernel": kernels, "block_1.query.lora_a": a, "block_1.query.lora_b": b}.items()})
    wanted = kernels.copy()
    wanted[1] += 0.5 * a @ b
    assert found.keys() == {"blocks.query.kernel"}
    assert np.allclose(found["blocks.query.kernel"], wanted, rtol=1e-5, atol=1e-6)
    assert np.array_equal(found["blocks.query.kernel"][0], kernels[0].astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "adapt"), [
    ("mlp", LORA | {"dropout": 0.25}), ("vit", {"kind": "bottleneck", "width": 3})])
def test_a_training_goes_on_bit_for_bit_and_moves_adapters_and_the_head_alone(
        open_room, recipe_of, name, tmp_path, family, adapt):
    recipe = recipe_of(family, adapt=adapt, train={"steps": 8, "save_every": 4, "log_every": 1},
                       optimizer={"weight_decay": 0.1, "ema": 0.9})
    with open_room(name, recipe) as opened:
        first = opened.weights()
        room = opened.room
    whole = Probe(trace="full")
    run_training(room, recipe, tmp_path / "whole", probe=whole, progress=False)
    run_training(room, recipe, tmp_path / "two", probe=Probe(trace="full", stop=4, resumable=True), progress=False)
    run_training(room, recipe, tmp_path / "two", probe=whole, progress=False)
    ends = [load_tensors(RunFiles(tmp_path / run).final) for run in ("whole", "two")]
    assert ends[0].keys() == ends[1].keys() and all(np.array_equal(ends[0][key], ends[1][key]) for key in ends[0])
    for key, x in first.items():
        moved = is_adapter(key) or is_inside(key) or key.startswith("head.")
        assert np.array_equal(ends[0][f"weights/{key}"], x) != moved, key


@pytest.mark.slow
def test_a_training_ends_early_at_one_step_however_often_it_was_cut_and_its_best_state_is_there(
        recipe_of, room_of, name, tmp_path):
    """Nothing is learned, so that the first evaluation stays the best."""
    recipe = recipe_of("mlp", optimizer={"learning_rate": 0.0}, train={
        "steps": 40, "eval_every": 2, "save_every": 2, "stop_after": 2, "keep": 1, "keep_best": 1, "log_every": 1})
    room = room_of(name)
    run_training(room, recipe, tmp_path / "whole", progress=False)
    run_training(room, recipe, tmp_path / "cut", probe=Probe(stop=4, resumable=True), progress=False)
    run_training(room, recipe, tmp_path / "cut", progress=False)
    run_training(room, recipe, tmp_path / "all", probe=Probe(early=False, stop=8, saved=False), progress=False)
    for run in ("whole", "cut"):
        info = read_run(tmp_path / run)
        assert info["state"] == "finished" and info["saved"] == 6 and info["final"]["loss"] > 0
        assert {key: info["early"][key] for key in ("step", "best_step", "evaluations")} == {
            "step": 6, "best_step": 2, "evaluations": 2}
        assert RunFiles(tmp_path / run).listed() == [2, 6]
        assert [line["step"] for line in read_metrics(tmp_path / run) if "held_out/loss" in line] == [1, 3, 5]
    assert len([line for line in read_metrics(tmp_path / "all") if "train/loss" in line]) == 8
    assert convert(room, recipe, follow_run(tmp_path / "whole"), tmp_path / "best", best=True) == 2
    assert convert(room, recipe, follow_run(tmp_path / "whole"), tmp_path / "newest") == 6
    assert RunFiles(tmp_path / "whole").listed() == [2, 6]
