"""What holds of every stage of compression in Keras: what those before it made is kept, and its step is as any step:
evaluated, fed what is not finite, cut, on two devices."""

import math
from contextlib import nullcontext

import numpy as np
import pytest

from tests.end_to_end.staging import (
    CLUSTER,
    DISTIL,
    EPS,
    POST,
    PRUNE,
    QUANTIZE,
    SMALL,
    TABLES,
    begin,
    gone_over,
    model_inputs,
    staged_of,
)
from twinscale.common.compress.rules import extra_tensors, first_tensors, kernels, verified
from twinscale.common.data import open_dataset
from twinscale.common.families.parameters import initial_values, is_trained, parameters
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.training.loop import Probe
from twinscale.common.training.stages import train_stage

STAGES = [("mlp", (PRUNE | {"initial": 0.5},)), ("convnet", (PRUNE, CLUSTER, QUANTIZE)), ("mlp", (CLUSTER,)),
          ("mlp", (DISTIL,))]


@pytest.fixture(scope="module")
def staged(recipe_of):
    return staged_of(recipe_of, SMALL)


# ---- what is kept

@pytest.mark.parametrize("family,stages", [
    ("mlp", (CLUSTER,)), ("mlp", (PRUNE, CLUSTER)), ("mlp", (PRUNE, QUANTIZE)), ("mlp", (PRUNE, CLUSTER, POST)),
    ("mlp", (CLUSTER, QUANTIZE)), ("convnet", (PRUNE, CLUSTER, QUANTIZE)),
    ("decoder", (PRUNE | TABLES, CLUSTER | TABLES, QUANTIZE)),
    ("mlp", (PRUNE, CLUSTER, QUANTIZE | {"preserve": False}))])
def test_zeros_and_centroids_are_kept(open_room, staged, family, stages):
    """And without `preserve` they are not, so that this can fail."""
    with open_room("tfscale", staged(family, *stages)) as opened:
        stage, recipe = begin(opened), opened.recipe
        stage.train()
        before, after = stage.start, stage.left
        tree = parameters(recipe.model, opened.dataset.classes, opened.dataset.example_shape)
        moved = [name for name in kernels(tree) if (before[name] != after[name]).any()]
        assert len(moved) == (0 if stages[-1] is POST else len(kernels(tree)))
        if stages[-1]["kind"] == "cluster":
            assert all(1 < len(np.unique(after[name])) <= 8 for name in kernels(tree))
        # What TF-MOT's quantisers would have to keep, by the stages before this one.
        kept = recipe.with_values(compress={"stages": [*map(dict, stages[:-1]), QUANTIZE]})
        rows = verified(kept, tree, before, after)
        assert len(rows) == (len(kernels(tree)) if len(stages) > 1 else 0)
        assert all(row["kept"] == stages[-1].get("preserve", True) for row in rows)
        assert all((row["zeros_before"] > 0.4) == (stages[0]["kind"] == "prune") for row in rows)
        for name in stage.start:
            if name.endswith("_centroids"):  # that of zero stays at it, the others move
                was, now = stage.start[name], stage.tensors[name]
                assert ((was == 0) == (now == 0)).all() and (was == 0).any() == (stages[0]["kind"] == "prune")
                assert (was != now).sum() >= (0 if stages[-1] is POST else 3)


@pytest.mark.parametrize("stages", [(PRUNE,), (PRUNE, CLUSTER), (CLUSTER, QUANTIZE), (DISTIL,)],
                         ids=lambda stages: stages[-1]["kind"])
def test_evaluation_is_of_what_ships(open_room, staged, stages):
    """A stage's evaluation, its model alone, and where nothing is quantised the plain model of what it has left, say
    the same."""
    from twinscale.tfscale.compress.model import twin

    with open_room("tfscale", staged("mlp", *stages, model={"hidden": [16]})) as opened:
        stage, batch, recipe = begin(opened), opened.batch(), opened.recipe
        stage.train()
        sums = stage.evaluate(batch)
        if stages[-1] is not DISTIL:
            logits = twin(recipe, opened.dataset, stage.tensors)(model_inputs(opened, batch), training=False).numpy()
            shifted = logits - logits.max(-1, keepdims=True)
            losses = np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, batch["labels"][:, None], -1)[:, 0]
            bound = 64 * EPS["float32"] * np.abs(logits).max() * len(losses)
            assert abs(sums["loss"] - losses.sum()) <= bound
        if stages[-1]["kind"] != "quantize":
            zeros = {name: np.zeros_like(x) for name, x in opened.room.state_tensors(opened.state).items()}
            left = {f"weights/{name}": x for name, x in stage.left.items()}
            state = opened.room.with_tensors(recipe, opened.state, opened.devices, zeros | left, 0)
            assert opened.room.make_evaluate(recipe, state, opened.devices)(state, [batch]) == sums


# ---- a stage's step as a step

@pytest.mark.parametrize("family,stages", [("mlp", (PRUNE,)), ("mlp", (PRUNE, CLUSTER)), ("decoder", (QUANTIZE,)),
                                           ("convnet", (PRUNE, CLUSTER, POST)), ("decoder", (DISTIL,))])
def test_the_state_has_the_tensors_that_the_contract_names(open_room, staged, family, stages):
    with open_room("tfscale", staged(family, *stages)) as opened:
        recipe, dataset = opened.recipe, opened.dataset
        shapes = {name: p.shape for name, p in parameters(recipe.model, dataset.classes, dataset.example_shape).items()}
        shapes |= extra_tensors(recipe, dataset)
        wanted = {f"weights/{name}": shape for name, shape in shapes.items()}
        wanted |= {f"{slot}/{name}": shape for slot in "mv" for name, shape in shapes.items() if is_trained(name)}
        begun = begin(opened)
        found = opened.room.state_tensors(begun.state)
        assert {name: x.shape for name, x in found.items()} == wanted
        for name, x in begun.start.items():
            np.testing.assert_array_equal(found[f"weights/{name}"], x)
        sketch = begun.room.make_sketch(recipe, begun.state, opened.devices)(begun.state)
        assert sketch.keys() == wanted.keys()


@pytest.mark.parametrize("family,stages", STAGES, ids=lambda x: x if isinstance(x, str) else x[-1]["kind"])
def test_what_is_not_finite_moves_nothing(open_room, staged, family, stages):
    """Nor does an update out of turn; and what was bad is told by name."""
    with open_room("tfscale", staged(family, *stages)) as opened:
        stage = begin(opened)
        before, batch = stage.tensors, opened.batch()
        bad = batch | {"inputs": np.where(np.arange(batch["inputs"].size).reshape(batch["inputs"].shape) == 9,
                                          np.float32(np.nan), batch["inputs"])}
        metrics, = stage.train(1, [bad])
        assert not np.isfinite(metrics["gradient_norm"])
        found = stage.room.make_step_tensors(opened.recipe, stage.state, opened.devices)(stage.state, 0, bad)
        assert not all(np.isfinite(x).all() for x in found.values()) and "gradients/head.kernel" in found
        step = stage.room.make_step(opened.recipe, stage.state, opened.devices)
        stage.state, _ = step(stage.state, 1, batch)
        assert stage.state.step == 0
        assert all((stage.tensors[name] == x).all() for name, x in before.items())
        stage.state, _ = step(stage.state, 0, batch)
        assert stage.state.step == 1 and any((stage.tensors[name] != x).any() for name, x in before.items())


@pytest.mark.parametrize("family,stages", [STAGES[i] for i in (0, 1, 3)], ids=lambda x: x if isinstance(x, str) else x[
    -1]["kind"])
def test_a_run_that_was_cut_goes_on_bit_for_bit(room_of, open_room, staged, tmp_path, family, stages):
    recipe = staged(family, *stages, train={"log_every": 1})
    dataset = open_dataset(recipe)
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    left = gone_over(recipe, initial_values(tree, 1, "float32"))
    save_tensors(tmp_path / "start", first_tensors(recipe, dataset, left, {}))
    with open_room("tfscale", recipe) if family == "convnet" else nullcontext():  # eagerly, as compiling takes long
        for name, stop in (("whole", None), ("cut", 1), ("cut", None)):
            train_stage(room_of("tfscale"), recipe, tmp_path / name, tmp_path / "start", progress=False,
                        probe=Probe(trace="full", stop=stop, resumable=stop is not None, evaluated=family == "mlp"))
    whole, cut = (load_tensors(tmp_path / name / "trace" / "final.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all((cut[name] == x).all() for name, x in whole.items())
    start = load_tensors(tmp_path / "start")
    assert all((whole[name] == start[name]).all() for name in start if "/teacher." in name)
    assert any((whole[name] != start[name]).any() for name in start)


@pytest.mark.parametrize("stages", [pytest.param((PRUNE,), marks=pytest.mark.slow), pytest.param(
    (PRUNE, CLUSTER), marks=pytest.mark.slow), (PRUNE, QUANTIZE)], ids=lambda x: x[-1]["kind"])
def test_two_devices_train_as_one_does(open_room, staged, stages):
    """Masks and what they are of the images bit for bit; the rest apart by the roundings of sums over rows and inputs:
    the losses by 16 sqrt(8) eps and as much again for each update, the rates being so small that a step's difference
    moves the next by less; ranges by 64 eps of the widest one, where the mean of the devices' extremes, which TF-MOT
    takes, would be a thousandth of the difference of two rows' off."""
    found = []
    stages = [*stages[:-1], stages[-1] | {"learning_rate": 1e-3}]
    for devices in ({}, {"data": 2, "virtual": 4}):
        recipe = staged("mlp", *stages, devices=devices, train={"accumulate": 2},
                        optimizer={"name": "sgd", "clip_norm": 0.5})
        with open_room("tfscale", recipe, optimised=stages[-1]["kind"] == "quantize") as opened:
            stage = begin(opened)
            assert opened.devices.replicas == (2 if devices else 1)
            losses = [float(metrics["loss"]) for metrics in stage.train(3)]
            found.append((losses, stage.tensors, stage.evaluate(opened.batch())["loss"]))
    (one, tensors, held), (several, others, held_too) = found
    bound = [16 * (1 + number) * math.sqrt(8) * EPS["float32"] for number in range(4)]
    for limit, a, b in zip(bound, [*one, held], [*several, held_too], strict=True):
        assert abs(a - b) <= limit * abs(a)
    assert one != several or any((x != others[name]).any() for name, x in tensors.items())  # they were told apart
    for name, x in tensors.items():
        if name.endswith("_mask") or name == "inputs.range":
            np.testing.assert_array_equal(others[name], x)
        scale = 6 if name.endswith(".range") else np.abs(x).max()
        assert np.abs(others[name] - x).max() <= 64 * EPS["float32"] * scale, name
