"""Stages of compression in Keras, kind by kind: TF-MOT's wrappers over the trainer's model, against NumPy."""

import math
from collections import Counter

import numpy as np
import pytest

from tests.end_to_end.staging import (
    DISTIL,
    EPS,
    POST,
    PRUNE,
    QUANTIZE,
    SMALL,
    TABLES,
    begin,
    model_inputs,
    staged_of,
    start_of,
)
from twinscale.common.compress.recipes import active
from twinscale.common.compress.rules import is_due, kernels, mask_updates, quantised_places, sparsity_at
from twinscale.common.recipe.schema import Recipe

LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "tied": False, "kv_heads": 2, "bias": False}


@pytest.fixture(scope="module")
def staged(recipe_of):
    return staged_of(recipe_of, SMALL)


# ---- the wrapped model

@pytest.mark.parametrize("family,model", [("decoder", {}), ("decoder", LLAMA), ("decoder", {"tied": False}),
                                          pytest.param("decoder", LLAMA | {"tied": True}, marks=pytest.mark.slow),
                                          ("convnet", {}), ("mlp", {})])
def test_wrappers_that_have_nothing_to_do_change_no_bit(open_room, staged, family, model):
    """With masks of ones the wrapped tf_keras model computes what the trainer's own, of Keras 3, does."""
    import keras

    from twinscale.tfscale.compress.model import twin
    from twinscale.tfscale.models import build, canonical_variables

    with open_room("tfscale", staged(family, PRUNE | TABLES, model=model)) as opened:
        start, recipe, dataset = start_of(opened, {}), opened.recipe, opened.dataset
        ours = build(recipe, dataset.classes, dataset.example_shape, keras)
        for name, variable in canonical_variables(ours).items():
            variable.assign(start[name])
        theirs, inputs = twin(recipe, dataset, start), model_inputs(opened, opened.batch())
        assert len(kernels(start)) == sum("prune" in layer.name for layer in theirs.layers)
        ours, theirs = (model(inputs, training=False).numpy() for model in (ours, theirs))
        assert ours.std() > 1e-3 and ours.tobytes() == theirs.tobytes()


# ---- pruning

def mask_of(stage, update, x):
    """The mask of a kernel at an update, in NumPy."""
    size = np.abs(x).astype(np.float64)
    if stage.pattern == "2:4":
        fours = np.moveaxis(size, -2, -1)
        fours = fours.reshape(*fours.shape[:-1], -1, 4)
        kept = np.argsort(np.argsort(-fours, -1, kind="stable"), -1) < 2
        return np.moveaxis(kept.reshape(*kept.shape[:-2], -1), -1, -2).astype(x.dtype)
    if stage.pattern == "4x4":
        blocks = size.reshape(size.shape[0] // 4, 4, size.shape[1] // 4, 4)
        size = blocks.mean((1, 3)) if stage.pooling == "average" else blocks.max((1, 3))
    count = max(int(np.round(np.float32(size.size) * (1 - sparsity_at(stage, update)))), 1)
    kept = size >= np.sort(size.reshape(-1))[-count]
    return (np.kron(kept, np.ones((4, 4))) if stage.pattern == "4x4" else kept).astype(x.dtype)


BLOCKS = {"pattern": "4x4", "initial": 0.5}
MASKS = [({}, "mlp"), ({"pattern": "2:4"}, "mlp"), (BLOCKS, "mlp"), (BLOCKS | {"pooling": "max"}, "mlp"),
         ({"schedule": "constant"}, "convnet"), (TABLES, "decoder")]


@pytest.mark.parametrize("values,family", MASKS, ids=lambda x: "-".join(x) if isinstance(x, dict) else x)
def test_a_step_masks_when_it_is_due(open_room, staged, values, family):
    """Masks are made of the weights before the update, hold till the next are made, and are of the schedule's share;
    once an update, of however many micro-batches, and of a tied table, which is read twice."""
    values = values | ({"names": ["layer_*.kernel"]} if family == "mlp" else {})
    recipe = staged(family, PRUNE | values, train={"accumulate": 1 if family == "mlp" else 2})
    with open_room("tfscale", recipe) as opened:
        stage, prune = begin(opened), active(opened.recipe)
        step = stage.room.make_step(opened.recipe, stage.state, opened.devices)
        masks, due = {name: np.ones_like(x) for name, x in stage.start.items() if name.endswith("_mask")}, 0
        assert len(masks) == {"mlp": 2, "convnet": 4, "decoder": 8}[family]
        for number in range(4):
            before = stage.tensors
            stage.state, _ = step(stage.state, number, opened.batch(number))
            after = stage.tensors
            if is_due(prune, number + 1):
                due += 1
                masks = {name: mask_of(prune, number + 1, before[name.removesuffix("_mask")]) for name in masks}
                made = opened.room.make_masks(prune, number + 1, before)
                assert {f"{name}_mask" for name in made} == masks.keys()
                assert all((masks[f"{name}_mask"] == mask).all() for name, mask in made.items())
                for mask in masks.values():
                    units = mask[::4, ::4] if prune.pattern == "4x4" else mask
                    share = np.float32(0.5) if prune.pattern == "2:4" else sparsity_at(prune, number + 1)
                    assert units.sum() == max(np.round(np.float32(units.size) * (1 - share)), 1)
            assert all((after[name] == mask).all() for name, mask in masks.items())
        assert due == len(mask_updates(prune)) and min(mask.mean() for mask in masks.values()) < 0.6
        # Dense gradients: an entry that is zero in the forward pass moves off it; what is left behind is sparse.
        assert any((after[name.removesuffix("_mask")][mask == 0] != 0).any() for name, mask in masks.items())
        left = stage.left
        assert all((left[name.removesuffix("_mask")][mask == 0] == 0).all() for name, mask in masks.items())
        if prune.pattern == "unstructured":
            shares = [(left[name.removesuffix("_mask")] == 0).mean() for name in masks]
            assert max(abs(share - prune.sparsity) * mask.size for share, mask in zip(
                shares, masks.values(), strict=True)) <= 0.5


def test_the_weights_that_a_mask_takes_are_gone_but_not_by_evaluation(open_room, staged):
    """W * mask persists: where the optimizer does not move, what is left is the product. TF-MOT assigns it in
    evaluation too, which would have a say in the next masks."""
    with open_room("tfscale", staged("mlp", PRUNE | {"learning_rate": 0.0, "initial": 0.5})) as opened:
        stage = begin(opened)
        stage.train(1)
        masks = {name.removesuffix("_mask"): x for name, x in stage.tensors.items() if name.endswith("_mask")}
        assert masks and all((mask == 0).any() for mask in masks.values())
        for name, mask in masks.items():
            np.testing.assert_array_equal(stage.tensors[name], stage.start[name] * mask)
        weights = {f"weights/{name}": x for name, x in (stage.tensors | {n: stage.start[n] for n in masks}).items()}
        stage.state = stage.room.with_tensors(opened.recipe, stage.state, opened.devices, weights, 1)
        before, sums = stage.tensors, stage.evaluate(opened.batch())
        assert all((stage.tensors[name] == x).all() for name, x in before.items())
        sparse = weights | {f"weights/{name}": before[name] * mask for name, mask in masks.items()}
        stage.state = stage.room.with_tensors(opened.recipe, stage.state, opened.devices, sparse, 1)
        assert stage.evaluate(opened.batch()) == sums


def test_a_graph_keeps_as_many_weights_as_its_schedule_says():
    """576 (1 - 0.7578125) is 139.5 to the last bit; TensorFlow's graphs once made 139.49999 of it, and 139 weights."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    from twinscale.tfscale.compress import prune

    recipe = Recipe.model_validate({"name": "half", "model": {"family": "mlp"}, "data": {"source": "digits"},
                                    "compress": {"stages": [{"kind": "prune", "end": 160, "every": 20, "steps": 160}]}})
    stage = recipe.compress.stages[0]
    weights = tf.Variable(np.random.default_rng(0).standard_normal((24, 24)).astype(np.float32))
    mask, threshold, step = tf.Variable(tf.ones_like(weights)), tf.Variable(0.0), tf.Variable(100, dtype=tf.int64)
    pruning = pruning_impl.Pruning(lambda: step, [(weights, mask, threshold)], **prune.settings(stage))
    tf.function(pruning.conditional_mask_update, autograph=False)()
    assert mask.numpy().sum() == 140


# ---- quantisation

def test_ranges_move_as_the_reference_does(open_room, staged):
    """Inputs: all extremes so far. Places: 0.999 of what was and 0.001 of what is, zero included, before they are used,
    once a micro-batch. Kernels: their own, symmetric. The weights stay, so that NumPy can follow the first layer."""
    recipe = staged("mlp", QUANTIZE | {"learning_rate": 0.0}, model={"hidden": [24]}, train={"accumulate": 2})
    with open_room("tfscale", recipe) as opened:
        stage, fake_quantise = begin(opened), opened.room.fake_quantise
        stage.train()
        found, w = stage.tensors, stage.start
        assert {name for name in found if name.endswith(".range")} == {
            f"{place}.range" for place in quantised_places(recipe.model)} == {
            "inputs.range", "layer_0.activation.range", "head.range"}
        kernel = w["layer_0.kernel"]
        largest = np.abs(kernel).max()
        np.testing.assert_array_equal(found["layer_0.kernel_range"], [-largest, largest])
        kernel = fake_quantise(kernel, -largest, largest, True)
        assert len(np.unique(kernel)) <= 255 and np.abs(kernel - w["layer_0.kernel"]).max() <= 0.51 * largest / 127
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


def test_the_head_of_a_tied_table_is_quantised_as_a_place_and_the_table_as_weights(open_room, staged):
    from twinscale.tfscale.compress.model import twin, twin_variables

    with open_room("tfscale", staged("decoder", POST)) as opened:
        recipe, dataset, room = opened.recipe, opened.dataset, opened.room
        start = start_of(opened, {"head": (-0.5, 0.5)})
        model, inputs = twin(recipe, dataset, start), model_inputs(opened, opened.batch())
        logits = model(inputs, training=False).numpy()
        np.testing.assert_array_equal(room.fake_quantise(logits, *start["head.range"], False), logits)
        assert 100 < len(np.unique(logits)) <= 256
        table = room.fake_quantise(start["embedding.embedding"], *start["embedding.embedding_range"], True)
        assert (table != start["embedding.embedding"]).any()
        twin_variables(recipe, dataset, model)["embedding.embedding"].assign(table)
        np.testing.assert_array_equal(model(inputs, training=False).numpy(), logits)


def test_a_convolution_has_a_range_a_channel(open_room, staged):
    with open_room("tfscale", staged("convnet", QUANTIZE)) as opened:
        stage = begin(opened)
        stage.train(1)
        largest = np.abs(stage.start["stem.conv.kernel"]).max((0, 1, 2))
        np.testing.assert_array_equal(stage.tensors["stem.conv.kernel_range"], [-largest, largest])
        assert stage.tensors["head.kernel_range"].shape == (2,)


@pytest.mark.parametrize("family", ["convnet", "decoder"])
def test_after_training_nothing_moves(open_room, staged, family):
    """Nor do ranges, running statistics and dropout's bits: the one step is as in evaluation."""
    with open_room("tfscale", staged(family, POST, model={"dropout": 0.5})) as opened:
        batch = opened.batch()
        places = quantised_places(opened.recipe.model)
        weights = opened.weights()
        extremes = opened.room.extremes(opened.recipe, opened.dataset, opened.devices, weights, [batch, batch])
        assert extremes.keys() == places.keys()
        assert all(low <= 0 <= high and low < high for low, high in extremes.values())
        if family == "convnet":
            assert extremes["inputs"] == (min(batch["inputs"].min(), 0), batch["inputs"].max())
        stage = begin(opened, extremes)
        metrics, = stage.train(1)
        assert all((stage.tensors[name] == x).all() for name, x in stage.start.items())
        sums = stage.evaluate(batch)
        assert abs(metrics["loss"] - sums["loss"] / sums["weight"]) <= 4 * EPS["float32"] * metrics["loss"]


@pytest.mark.slow
def test_all_products_of_a_convnet_become_integers(open_room, staged):
    import tensorflow as tf

    from twinscale.tfscale.compress.model import twin

    with open_room("tfscale", staged("convnet", POST)) as opened:
        recipe, images = opened.recipe, opened.batch()["inputs"].astype(np.float32)[:1]
        extremes = opened.room.extremes(recipe, opened.dataset, opened.devices, opened.weights(), [opened.batch()])
        start = start_of(opened, extremes)
        model = twin(recipe, opened.dataset, start, 1)
    traced = tf.function(lambda x: model({"inputs": x}, training=False), autograph=False)
    traced = traced.get_concrete_function(tf.TensorSpec(images.shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    kinds = {tensor["index"]: np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    found = Counter((op["op_name"], kinds.get(i)) for op in interpreter._get_ops_details() for i in op["outputs"])
    assert found == {("CONV_2D", "int8"): 3, ("ADD", "int8"): 1, ("MEAN", "int8"): 1, ("FULLY_CONNECTED", "int8"): 1,
                     ("QUANTIZE", "int8"): 1, ("DEQUANTIZE", "float32"): 1}
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    integer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    low, high = start["head.range"]
    # Each of the places before may put a value on the next quantum.
    assert np.abs(integer - model({"inputs": images}, training=False)).max() <= len(extremes) * (high - low) / 255


# ---- distillation

def test_a_student_that_is_its_teacher_has_nothing_to_learn(open_room, staged):
    """But the roundings of the softmax, whose shares add up to one but for them."""
    with open_room("tfscale", staged("decoder", DISTIL | {"labels": 0.0, "hidden": 1.0, "attention": 1.0},
                                     train={"precision": "float64"})) as opened:
        stage = begin(opened)
        same = {name.removeprefix("teacher."): x for name, x in stage.start.items() if name.startswith("teacher.")}
        tensors = {f"weights/{name}": x for name, x in (stage.start | same).items()}
        stage.state = stage.room.with_tensors(opened.recipe, stage.state, opened.devices, tensors, 0)
        metrics, = stage.train(1)
        assert metrics["loss"] == 0 and metrics["gradient_norm"] <= 64 * EPS["float64"]


def test_the_loss_is_what_numpy_makes_of_the_places(staged):
    """A student of one block with as many key heads as heads, against a teacher of two with fewer."""
    import tensorflow as tf

    from twinscale.tfscale.compress.distil import distil_sums

    weights = {"labels": 0.3, "logits": 0.5, "hidden": 0.7, "attention": 0.2}
    values = {"student": {"layers": 1, "kv_heads": 4}, "temperature": 3.0} | weights
    recipe = staged("decoder", DISTIL | values, model=LLAMA | {"layers": 2}, train={"precision": "float64"})
    rng, softmax = np.random.default_rng(0), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    student, teacher = ({"logits": rng.normal(size=(2, 5, 9)), f"block_{i}.residual_2": rng.normal(size=(2, 5, 16)),
                         f"block_{i}.attention.shares": softmax(rng.normal(size=(2, *heads, 5, 5)))}
                        for i, heads in ((0, (4, 1)), (1, (2, 2))))
    shares = teacher["block_1.attention.shares"]
    shares[..., 0] = 0  # as masked ones are
    batch = {"labels": rng.integers(0, 9, (2, 5)), "weights": rng.random((2, 5))}
    (_, sums), = [distil_sums(recipe, *({name: tf.constant(x) for name, x in values.items()} for values in (
        student, teacher, batch)))]
    p, q = (softmax(x["logits"] / 3) for x in (teacher, student))
    picked = np.take_along_axis(softmax(student["logits"]), batch["labels"][..., None], -1)[..., 0]
    ours = student["block_0.attention.shares"].reshape(2, 4, 5, 5)
    theirs = shares.reshape(2, 4, 5, 5)
    log = np.log(np.where(theirs > 0, theirs, 1) / np.where(theirs > 0, ours, 1))
    terms = {"labels": -np.log(picked), "logits": 9 * (p * np.log(p / q)).sum(-1),
             "hidden": np.square(student["block_0.residual_2"] - teacher["block_1.residual_2"]).mean(-1),
             "attention": (theirs * log).sum(-1).mean(1)}
    terms = {name: weights[name] * (x * batch["weights"]).sum() for name, x in terms.items()}
    assert abs(sums["loss"] - sum(terms.values())) <= 64 * EPS["float64"] * sum(terms.values())
    assert min(np.abs(list(terms.values()))) > 1e-3
