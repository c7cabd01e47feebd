"""Stages of compression in JAX, kind by kind: masks and quanta against TF-MOT and TensorFlow, a student's loss against
NumPy."""

import math

import numpy as np
import pytest

from tests.end_to_end.staging import CLUSTER, DISTIL, EPS, POST, PRUNE, QUANTIZE, STEADY, begin, staged_of
from twinscale.common.compress.recipes import active
from twinscale.common.compress.rules import (
    is_due,
    mask_updates,
    matched_blocks,
    nearest,
    quantised_places,
    stripped,
)
from twinscale.common.recipe.compress import Prune

CLUSTER, QUANTIZE = CLUSTER | STEADY, QUANTIZE | STEADY
DECODER = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "positions": "rotary", "norm": "rms",
           "activation": "swiglu", "tied": False}


@pytest.fixture(scope="module")
def staged(recipe_of):
    return staged_of(recipe_of)


# ---- masks

def masks_of_tf_mot(stage, update, kernel):
    """The mask that TF-MOT's own class makes of a kernel."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_schedule

    schedule = pruning_schedule.ConstantSparsity(stage.sparsity, stage.begin, frequency=stage.every)
    if stage.schedule == "polynomial":
        schedule = pruning_schedule.PolynomialDecay(stage.initial, stage.sparsity, stage.begin, stage.last, stage.power,
                                                    stage.every)
    weight = tf.Variable(kernel)
    mask, threshold = tf.Variable(tf.ones_like(weight)), tf.Variable(0.0)
    of = pruning_impl.Pruning(lambda: tf.constant(update, tf.int64), [(weight, mask, threshold)], schedule,
                              (4, 4) if stage.pattern == "4x4" else (1, 1),
                              "AVG" if stage.pooling == "average" else "MAX",
                              (2, 4) if stage.pattern == "2:4" else None)
    of.conditional_mask_update()
    return mask.numpy()


@pytest.mark.parametrize("values,shapes", [
    ({"sparsity": 0.5}, [(5, 7), (64, 33), (3, 3, 4, 8)]), ({"sparsity": 0.999}, [(5, 7), (1, 1)]),
    ({"sparsity": 0.8, "initial": 0.3, "power": 4}, [(40, 40), (1, 1, 8, 3)]),
    ({"sparsity": 0.37, "schedule": "constant", "begin": 4}, [(17, 9), (2, 1)]),
    ({"pattern": "2:4"}, [(8, 5), (64, 3), (3, 3, 4, 8), (1, 1, 16, 2)]),
    ({"pattern": "4x4", "sparsity": 0.6}, [(16, 16), (5, 7), (6, 11), (22, 9)]),
    ({"pattern": "4x4", "sparsity": 0.6, "pooling": "max"}, [(16, 16), (5, 7), (6, 11), (22, 9)])])
def test_masks_are_those_of_tf_mot(room_of, values, shapes):
    """Bit for bit: of ties, which are all kept, of a tensor of equal values, and where hardly a value is kept."""
    stage = Prune(kind="prune", steps=20, **{"every": 4, "end": 12, **values})
    rng = np.random.default_rng(3)
    kernels = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    kernels += [np.round(2 * kernel) / 2 for kernel in kernels] + [np.ones(shape, np.float32) for shape in shapes]
    tensors = {f"layer_{i}.kernel": kernel for i, kernel in enumerate(kernels)} | {"head.bias": kernels[0]}
    updates = [update for update in range(1, 21) if is_due(stage, update)][:4]
    assert updates
    kept = []
    for update in updates:
        masks = room_of("jaxscale").make_masks(stage, update, tensors)
        assert list(masks) == [f"layer_{i}.kernel" for i in range(len(kernels))]
        for mask, kernel in zip(masks.values(), kernels, strict=True):
            assert mask.dtype == kernel.dtype
            np.testing.assert_array_equal(mask, masks_of_tf_mot(stage, update, kernel))
            kept.append(mask.mean())
    assert min(kept) < 0.6


@pytest.mark.parametrize("values,family", [
    ({}, "mlp"), ({"pattern": "2:4", "names": ["layer_*.kernel"]}, "mlp"), ({"pattern": "4x4", "initial": 0.5}, "mlp"),
    pytest.param({"names": ["stage_*.kernel", "head.kernel"]}, "convnet", marks=pytest.mark.slow)])
def test_a_step_masks_when_it_is_due(open_room, staged, values, family):
    """The masks of an update are made of the weights before it, and hold in the forward pass until the next are."""
    with open_room("jaxscale", staged(family, PRUNE | values)) as opened:
        stage, prune = begin(opened), active(opened.recipe)
        step = stage.room.make_step(opened.recipe, stage.state, opened.devices)
        masks, due = {name: np.ones_like(x) for name, x in stage.start.items() if name.endswith("_mask")}, 0
        assert len(masks) == {"convnet": 6}.get(family, 2 if "names" in values else 3)
        for number in range(4):
            before = stage.tensors
            stage.state, metrics = step(stage.state, number, opened.batch(number))
            after = stage.tensors
            if is_due(prune, number + 1):
                made = opened.room.make_masks(prune, number + 1, before)
                masks, due = {f"{name}_mask": mask for name, mask in made.items()}, due + 1
            assert all((after[name] == mask).all() for name, mask in masks.items())
            pruned = stripped(opened.recipe, {f"weights/{name}": x for name, x in after.items()})
            assert all((pruned[name.removesuffix("_mask")][mask == 0] == 0).all() for name, mask in masks.items())
        assert due == len(mask_updates(prune))
        # Dense gradients: an entry that is zero in the forward pass moves off it.
        assert any((after[name.removesuffix("_mask")][mask == 0] != 0).any() for name, mask in masks.items())
        assert min(mask.mean() for mask in masks.values()) < 0.6


def test_the_weights_that_a_mask_takes_are_gone(open_room, staged):
    """W * mask persists: where the optimizer does not move, what is left is the product."""
    with open_room("jaxscale", staged("mlp", PRUNE | {"learning_rate": 0.0})) as opened:
        stage = begin(opened)
        stage.train()
        masks = {name: x for name, x in stage.tensors.items() if name.endswith("_mask")}
        assert masks
        for name, mask in masks.items():
            kernel = name.removesuffix("_mask")
            np.testing.assert_array_equal(stage.tensors[kernel], stage.start[kernel] * mask)
            assert (mask == 0).any()


# ---- quanta

def test_quanta_are_those_of_tensorflow(room_of):
    """Every one of 500,000 values under random ranges, and of a million in channels, each with its own. Half of them
    lie where two quanta meet, so that the last bit of a quotient decides."""
    import tensorflow as tf

    fake_quantise, rng = room_of("jaxscale").fake_quantise, np.random.default_rng(0)
    for narrow in (False, True):
        for _ in range(25):
            low, high = (np.float32(sign * 10 ** rng.uniform(-3, 3)) for sign in (-1, 1))
            low, high = (-high, high) if narrow else (low, high)
            x = near_edges(rng, rng.uniform(1.1 * low, 1.1 * high, 10_000), (high - low) / (255 - narrow))
            theirs = tf.quantization.fake_quant_with_min_max_vars(x, low, high, 8, narrow).numpy()
            np.testing.assert_array_equal(fake_quantise(x, low, high, narrow), theirs)
        high = (10 ** rng.uniform(-3, 3, 500)).astype(np.float32)
        low = -high if narrow else -(10 ** rng.uniform(-3, 3, 500)).astype(np.float32)
        low[7], high[7] = 0, 0
        x = near_edges(rng, rng.uniform(1.1 * low, 1.1 * high, (1000, 500)), (high - low) / (255 - narrow))
        theirs = tf.quantization.fake_quant_with_min_max_vars_per_channel(x, low, high, 8, narrow).numpy()
        ours = fake_quantise(x, low, high, narrow)
        np.testing.assert_array_equal(ours, theirs)
        assert not ours[:, 7].any() and len(np.unique(ours[:, 0])) <= 256 - narrow


def test_values_of_a_grid_cancel():
    """A product that is contracted with the difference after it would leave its rounding, and a ReLU that stands there
    would let half of the gradients through."""
    import jax

    from twinscale.jaxscale.compress.quantize import on_grid

    x = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    low, high = np.float32(-3.3), np.float32(2.9)
    apart = jax.jit(lambda x, y: on_grid(x, low, high, False) - on_grid(y, low, high, False))(x, x.copy())
    assert not np.any(apart)


def near_edges(rng, x, quantum):
    """Half of the values moved to within three units in the last place of the middle between two quanta."""
    edges = ((np.floor(x / np.where(quantum, quantum, 1)) + 0.5) * quantum).astype(np.float32)
    edges = (edges.view(np.int32) + rng.integers(-3, 4, x.shape, np.int32)).view(np.float32)
    return np.where(rng.random(x.shape) < 0.5, edges, x.astype(np.float32))


@pytest.mark.parametrize("low,high", [(-6.0, 6.0), (0.0, 0.3), (-0.7, 0.01), (-2.0, 0.0), (0.0, 0.0),
                                      ([-1.0, 0.0, -3.0], [1.0, 0.0, 0.2])])
def test_gradients_go_straight_through_where_tensorflow_lets_them(low, high):
    import jax
    import tensorflow as tf

    from twinscale.jaxscale.compress.quantize import grid, on_grid

    low, high = np.array(low, np.float32), np.array(high, np.float32)
    edges = np.array([np.asarray(x) for x in grid(low, high, False)[2:]])
    edges = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    x = np.concatenate([edges.reshape(6, -1), np.random.default_rng(1).normal(size=(50, low.size))]).astype(np.float32)
    x = x[:, 0] if low.ndim == 0 else x
    cotangent = np.arange(1, x.size + 1, dtype=np.float32).reshape(x.shape)
    ours = jax.vjp(lambda x, low, high: on_grid(x, low, high, False), x, low, high)[1](cotangent)
    name = "fake_quant_with_min_max_vars" + "_per_channel" * bool(low.ndim) + "_gradient"
    theirs = getattr(tf.quantization, name)(cotangent, x, low, high)[0].numpy()
    np.testing.assert_array_equal(ours[0], theirs)
    assert not np.any(ours[1]) and not np.any(ours[2])


def test_ranges_move_as_the_reference_does(open_room, staged, room_of):
    """Inputs: all extremes so far. Places: 0.999 of what was and 0.001 of what is, zero included, before they are used,
    once a micro-batch. Kernels: their own, symmetric. The weights stay, so that NumPy can follow the first layer."""
    recipe = staged("mlp", QUANTIZE | {"learning_rate": 0.0}, model={"hidden": [24]}, train={"accumulate": 2})
    fake_quantise = room_of("jaxscale").fake_quantise
    with open_room("jaxscale", recipe) as opened:
        stage = begin(opened)
        stage.train()
        found, w = stage.tensors, stage.start
        assert {name for name in found if name.endswith(".range")} == {
            f"{place}.range" for place in quantised_places(recipe.model)} == {
            "inputs.range", "layer_0.activation.range", "head.range"}
        kernel = w["layer_0.kernel"]
        largest = np.abs(kernel).max()
        np.testing.assert_array_equal(found["layer_0.kernel_range"], [-largest, largest])
        kernel = fake_quantise(kernel, -largest, largest, True)
        inputs, hidden = np.zeros(2, np.float32), np.array([-6, 6], np.float32)
        for number in range(recipe.train.steps):
            for x in opened.batch(number)["inputs"].reshape(2, 4, -1):
                inputs = np.array([min(inputs[0], x.min()), max(inputs[1], x.max())])
                x = np.maximum(fake_quantise(x, *inputs, False) @ kernel + w["layer_0.bias"], 0)
                seen = np.array([min(x.min(), 0), max(x.max(), 0)])
                hidden = hidden - (hidden - seen) * np.float32(1 - 0.999)
        np.testing.assert_array_equal(found["inputs.range"], inputs)
        # A thousandth of the products' roundings, of 64 terms each, and the average's own, three a micro-batch.
        moves = 2 * recipe.train.steps
        bound = moves * (1e-3 * math.sqrt(64) + 3) * EPS["float32"] * 6
        assert np.abs(found["layer_0.activation.range"] - hidden).max() <= bound
        assert np.abs(hidden - [-6, 6]).min() > 100 * bound  # they have moved


def computed(opened, tensors, batch):
    """{place: what a plain model computes there}, NumPy arrays, in training."""
    import jax

    from twinscale.jaxscale import batch_loss, train
    from twinscale.jaxscale.compress.distil import keep
    from twinscale.jaxscale.taps import tapped

    @jax.jit
    def compute(tensors, batch):
        seen = {}
        with tapped(None, keep(seen)):
            train.forward(opened.recipe, opened.state.graph, tensors, {}, batch_loss.model_inputs(
                opened.recipe, batch, np.zeros(2, np.uint32)), training=True)
        return seen

    return jax.device_get(compute(tensors, batch))


@pytest.mark.parametrize("family,model", [("mlp", {"dropout": 0.5}), ("decoder", DECODER | {"layers": 1})])
def test_extremes_are_those_of_the_places(open_room, staged, family, model):
    """Of every place that is quantised, over all batches, without dropout: the very tensors that taps show."""
    with open_room("jaxscale", staged(family, POST, model=model, train={"precision": "float64"})) as opened:
        weights, batches = opened.weights(), [opened.batch(number) for number in range(2)]
        found = opened.room.extremes(opened.recipe, opened.dataset, opened.devices, weights, batches)
    plain = opened.recipe.with_values(compress={"stages": ()}, model={"dropout": 0.0})
    with open_room("jaxscale", plain) as opened:
        assert list(found) == list(quantised_places(plain.model)) and len(found) >= 4
        assert all(low <= 0 <= high and low < high for low, high in found.values())
        shown = [computed(opened, weights, batch) | {"inputs": batch["inputs"]} for batch in batches]
        for place, (low, high) in found.items():
            seen = np.concatenate([each[place].reshape(-1) for each in shown] + [[0.0]])
            bound = 64 * EPS["float64"] * np.abs(seen).max()
            assert abs(low - seen.min()) <= bound and abs(high - seen.max()) <= bound


def test_after_training_nothing_moves(open_room, staged):
    """Neither ranges nor centroids nor a batch norm's statistics."""
    with open_room("jaxscale", staged("convnet", CLUSTER, POST, model={"channels": [4]})) as opened:
        stage = begin(opened, extremes={"inputs": (0.0, 1.0)})
        before = stage.tensors
        stage.train()
        after = stage.tensors
        assert int(stage.state.step) == 1
        for name, x in before.items():
            np.testing.assert_array_equal(after[name], x, name)


# ---- clusters

def test_clustered_weights_and_their_gradients():
    """The nearest centroid, the first of two; a centroid's gradient is the sum of its weights'."""
    import jax

    from twinscale.jaxscale.compress.cluster import clustered

    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=37), [0.25, -0.25, 0.0]]).astype(np.float32).reshape(8, 5)
    centroids, dy = np.array([-1.0, 0.0, 0.5, 1.5], np.float32), np.float32(rng.integers(-8, 8, (8, 5)))
    y, back = jax.vjp(clustered, x, centroids)
    np.testing.assert_array_equal(y, nearest(x, centroids))
    dx, dc = back(dy)
    np.testing.assert_array_equal(dx, dy)
    np.testing.assert_array_equal(dc, [dy[np.asarray(y) == c].sum() for c in centroids])


# ---- distillation

def test_a_student_that_is_its_teacher_has_nothing_to_learn(open_room, staged):
    with open_room("jaxscale", staged("decoder", DISTIL | {"labels": 0.0, "hidden": 1.0, "attention": 1.0},
                                      model={"layers": 1}, train={"precision": "float64"})) as opened:
        stage = begin(opened)
        same = {f"weights/{name.removeprefix('teacher.')}": x for name, x in stage.start.items()
                if name.startswith("teacher.")}
        tensors = {f"weights/{name}": x for name, x in stage.start.items()} | same
        stage.state = stage.room.with_tensors(opened.recipe, stage.state, opened.devices, tensors, 0)
        metrics, = stage.train(1)
        # Two programs that may round a product otherwise: of logits of about 1, a few units in the last place.
        assert abs(metrics["loss"]) <= 64 * EPS["float64"] and metrics["gradient_norm"] <= 64 * EPS["float64"]


def test_the_loss_is_what_numpy_makes_of_the_places(open_room, staged, recipe_of, reference):
    """A student of one block with as many key heads as heads, against a teacher of two with fewer."""
    weights = {"labels": 0.3, "logits": 0.5, "hidden": 0.7, "attention": 0.2}
    values = {"student": {"layers": 1, "kv_heads": 4}, "temperature": 3.0} | weights
    with open_room("jaxscale", staged("decoder", DISTIL | values, model=DECODER,
                                      train={"precision": "float64"})) as opened:
        stage, batch, recipe = begin(opened), opened.batch(), opened.recipe
        found = stage.train(1)[0]
    places = []
    for model, prefix in ((recipe.model, ""), (active(recipe).teacher_model, "teacher.")):
        plain = recipe_of("decoder", model=model.model_dump(), jax={"scan": False})
        tensors = {name.removeprefix("teacher."): x for name, x in stage.start.items()
                   if name.startswith("teacher.") == bool(prefix)}
        with open_room("jaxscale", plain) as opened:
            places.append(computed(opened, tensors, batch))
    student, teacher = places

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    logits, taught = (log_softmax(x["head"] / 3.0) for x in (student, teacher))
    terms = {"labels": reference.losses(recipe, student["head"], batch["labels"]),
             "logits": 9 * (np.exp(taught) * (taught - logits)).sum(-1)}
    (i, j), = matched_blocks(1, 2)
    assert (i, j) == (0, 1)
    terms["hidden"] = np.square(student["block_0.residual_2"] - teacher["block_1.residual_2"]).mean(-1)
    ours, theirs = (x.reshape(len(x), 4, *x.shape[3:]) for x in (
        student["block_0.attention.shares"], teacher["block_1.attention.shares"]))
    terms["attention"] = np.where(theirs > 0, theirs * np.log(np.where(theirs > 0, theirs, 1) / np.where(
        theirs > 0, ours, 1)), 0).sum(-1).mean(1)
    terms = {name: weights[name] * (x * batch["weights"]).sum() / batch["weights"].sum() for name, x in terms.items()}
    assert abs(found["loss"] - sum(terms.values())) <= 64 * EPS["float64"] * sum(terms.values())
    assert min(terms.values()) > 1e-4
