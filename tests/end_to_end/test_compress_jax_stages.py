"""What holds of every stage of compression in JAX: what those before it made is kept, and its step is as any step: on
meshes, cut, fed what is not finite, evaluated."""

import math

import numpy as np
import pytest

from tests.end_to_end.staging import CLUSTER, DISTIL, EPS, POST, PRUNE, QUANTIZE, STEADY, begin, staged_of
from twinscale.common.compress.rules import extra_tensors, kernels, stripped, verified
from twinscale.common.families.parameters import is_trained, parameters
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.training.loop import Probe
from twinscale.common.training.stages import train_stage

CLUSTER, QUANTIZE = CLUSTER | STEADY, QUANTIZE | STEADY
ONE = {"prune": PRUNE, "quantize": QUANTIZE, "cluster": CLUSTER, "post_training": POST, "distil": DISTIL}
SLOW = pytest.mark.slow  # what a chain of stages that holds it, or Keras' test of the same, shows too


@pytest.fixture(scope="module")
def staged(recipe_of):
    return staged_of(recipe_of)


# ---- what is preserved

@pytest.mark.parametrize("family,stages", [
    ("mlp", (PRUNE, CLUSTER)), ("mlp", (PRUNE, QUANTIZE)), ("mlp", (CLUSTER, QUANTIZE)),
    ("convnet", (PRUNE, CLUSTER, QUANTIZE)), ("mlp", (PRUNE, QUANTIZE | {"preserve": False}))])
def test_zeros_and_centroids_are_kept(open_room, staged, family, stages):
    """And without `preserve` they are not, so that this can fail."""
    model = {"channels": [4]} if family == "convnet" else {"hidden": [16]}
    with open_room("jaxscale", staged(family, *stages, model=model)) as opened:
        stage, recipe = begin(opened), opened.recipe
        stage.train()
        before, after = stage.start, stripped(recipe, opened.room.state_tensors(stage.state))
        tree = parameters(recipe.model, opened.dataset.classes, opened.dataset.example_shape)
        moved = [name for name in kernels(tree) if (before[name] != after[name]).any()]
        assert len(moved) == len(kernels(tree))
        # What TF-MOT's quantisers would have to keep, by the stages before this one.
        kept = recipe.with_values(compress={"stages": [*map(dict, stages[:-1]), QUANTIZE]})
        rows = verified(kept, tree, before, after)
        assert len(rows) == len(kernels(tree))
        assert all(row["kept"] == stages[-1].get("preserve", True) for row in rows)
        assert all((row["zeros_before"] > 0.4) == (stages[0] is PRUNE) for row in rows)
        for name in kernels(tree):
            x, masked = stage.tensors[name], stage.start.get(f"{name}_mask", np.ones(())) == 0
            assert (x != stage.start[name]).any()
            # Where TF-MOT multiplies by the mask no gradient comes through, where it assigns the product all do.
            assert not masked.any() or (x[masked] != 0).any() == (len(stages) == 3)
        for name in stage.start:
            if name.endswith("_centroids"):  # that of zero stays at it, the others move
                was, now = stage.start[name], stage.tensors[name]
                assert ((was == 0) == (now == 0)).all() and (was == 0).any() == (stages[0] is PRUNE)
                assert (was != now).sum() >= 3


# ---- a stage's step as a step

@pytest.mark.parametrize("kind", ONE)
def test_the_state_has_the_tensors_that_the_contract_names(open_room, staged, kind):
    with open_room("jaxscale", staged("decoder", ONE[kind], model={"layers": 1})) as opened:
        recipe, dataset = opened.recipe, opened.dataset
        shapes = {name: p.shape for name, p in parameters(recipe.model, dataset.classes, dataset.example_shape).items()}
        shapes |= extra_tensors(recipe, dataset)
        wanted = {f"weights/{name}": shape for name, shape in shapes.items()}
        wanted |= {f"{slot}/{name}": shape for slot in "mv" for name, shape in shapes.items() if is_trained(name)}
        stage = begin(opened)
        found = opened.room.state_tensors(stage.state)
        assert {name: x.shape for name, x in found.items()} == wanted
        for name, x in stage.start.items():
            np.testing.assert_array_equal(found[f"weights/{name}"], x)
        assert stage.room.make_sketch(recipe, stage.state, opened.devices)(stage.state).keys() == wanted.keys()


@pytest.mark.parametrize("kind,family,mesh", [
    pytest.param("prune", "mlp", {"data": 2, "tensor": 2}, marks=pytest.mark.slow),
    ("quantize", "mlp", {"data": 2, "tensor": 2}),
    pytest.param("quantize", "decoder", {"data": 2, "tensor": 2}, marks=pytest.mark.slow),
    ("cluster", "mlp", {"fsdp": 2, "tensor": 2}),
    pytest.param("distil", "mlp", {"fsdp": 2}, marks=pytest.mark.slow)])
def test_a_stage_is_the_same_on_every_mesh(open_room, staged, kind, family, mesh):
    """The same masks and ranges of weights bit for bit at the first update, and the same masks after; losses apart by
    their roundings, 16 sqrt(N) eps for N positions, and by as much again for each update. In float64, as in float32 a
    value at the edge of two quanta may fall on either side."""
    found = []
    values = {"schedule": "constant", "every": 1} if kind == "prune" else {}
    for devices in ({}, mesh):
        recipe = staged(family, ONE[kind] | values, model={"layers": 1} if family == "decoder" else {},
                        devices=devices, train={"precision": "float64", "accumulate": 2})
        with open_room("jaxscale", recipe) as opened:
            stage = begin(opened)
            losses = [float(metrics["loss"]) for metrics in stage.train(2)]
            found.append((losses, stage.tensors, stage.state.running, opened.batch()["weights"].size))
    (one, tensors, _, positions), (several, others, running, _) = found
    for number, (a, b) in enumerate(zip(one, several, strict=True)):
        assert abs(a - b) <= 16 * (1 + number) * math.sqrt(positions) * EPS["float64"] * abs(a)
    masks = [name for name in tensors if name.endswith("_mask")]
    assert bool(masks) == (kind == "prune")
    assert all((tensors[name] == others[name]).all() and 0.2 < tensors[name].mean() < 0.3 for name in masks)
    # What has a weight's shape lies as it does.
    shared = {"prune": "layer_0.kernel_mask", "distil": "teacher.layer_0.kernel"}.get(kind)
    if shared:
        assert {shard.data.size for shard in running[shared].addressable_shards} == {tensors[shared].size // 2}


@pytest.mark.parametrize("stages", [pytest.param((PRUNE,), marks=SLOW), (PRUNE, CLUSTER, QUANTIZE),
                                    pytest.param((DISTIL,), marks=SLOW)],
                         ids=lambda stages: stages[-1]["kind"])
def test_a_run_that_was_cut_goes_on_bit_for_bit(open_room, staged, tmp_path, stages):
    recipe = staged("mlp", *stages, train={"log_every": 1})
    with open_room("jaxscale", recipe) as opened:
        start = begin(opened).start
        save_tensors(tmp_path / "start", {f"weights/{name}": x for name, x in start.items()})
        for name, stops in (("whole", [None]), ("cut", [1, None])):
            for stop in stops:
                train_stage(opened.room, recipe, tmp_path / name, tmp_path / "start", progress=False,
                            probe=Probe(trace="full", stop=stop, resumable=stop is not None))
    whole, cut = (load_tensors(tmp_path / name / "trace" / "final.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all((cut[name] == x).all() for name, x in whole.items())
    assert all((whole[f"weights/{name}"] == x).all() for name, x in start.items() if name.startswith("teacher."))
    assert any((whole[f"weights/{name}"] != x).any() for name, x in start.items())


@pytest.mark.parametrize("kind", ["prune", "quantize"])
def test_what_is_not_finite_moves_nothing(open_room, staged, kind):
    """Nor does an update out of turn; and what was bad is told by name."""
    with open_room("jaxscale", staged("mlp", ONE[kind])) as opened:
        stage = begin(opened)
        before, batch = stage.tensors, opened.batch()
        bad = batch | {"inputs": np.where(np.arange(batch["inputs"].size).reshape(batch["inputs"].shape) == 9,
                                          np.float32(np.inf), batch["inputs"])}
        metrics, = stage.train(1, [bad])
        assert not np.isfinite(metrics["loss"])
        if kind == "quantize":
            found = stage.room.make_step_tensors(opened.recipe, stage.state, opened.devices)(stage.state, 0, bad)
            assert not np.isfinite(found["logits"]).all() and "gradients/head.kernel" in found
        step = stage.room.make_step(opened.recipe, stage.state, opened.devices)
        stage.state, _ = step(stage.state, 1, batch)
        assert int(stage.state.step) == 0
        assert all((stage.tensors[name] == x).all() for name, x in before.items())
        stage.state, _ = step(stage.state, 0, batch)
        assert int(stage.state.step) == 1 and any((stage.tensors[name] != x).any() for name, x in before.items())


@pytest.mark.parametrize("stages", [pytest.param((PRUNE,), marks=SLOW), pytest.param((PRUNE, CLUSTER), marks=SLOW),
                                    (CLUSTER, QUANTIZE)],
                         ids=lambda stages: stages[-1]["kind"])
def test_evaluation_is_of_what_ships(open_room, staged, stages):
    """A stage's evaluation, its model alone, and where nothing is quantised the plain model of what it has left, say
    the same."""
    import jax

    from twinscale.jaxscale.batch_loss import model_inputs
    from twinscale.jaxscale.compress.model import twin

    with open_room("jaxscale", staged("mlp", *stages, model={"hidden": [16]})) as opened:
        stage, batch, recipe = begin(opened), opened.batch(), opened.recipe
        stage.train()
        tensors = opened.room.state_tensors(stage.state)
        sums = stage.evaluate(batch)
        given = model_inputs(recipe, batch, np.zeros(2, np.uint32))
        logits = np.asarray(jax.jit(twin(recipe, opened.dataset, stage.tensors))(given))
        shifted = logits - logits.max(-1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, batch["labels"][:, None], -1)[:, 0]
        bound = 64 * EPS["float32"] * np.abs(logits).max() * len(losses)
        assert abs(sums["loss"] - losses.sum()) <= bound
        if stages[-1]["kind"] != "quantize":
            left = {f"weights/{name}": x for name, x in stripped(recipe, tensors).items()}
            zeros = {name: np.zeros_like(x) for name, x in opened.room.state_tensors(opened.state).items()}
            state = opened.room.with_tensors(recipe, opened.state, opened.devices, zeros | left, 0)
            plain = opened.room.make_evaluate(recipe, state, opened.devices)(state, [batch])
            assert abs(plain["loss"] - sums["loss"]) <= bound and plain["correct"] == sums["correct"]
