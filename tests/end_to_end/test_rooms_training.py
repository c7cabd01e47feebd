"""Trainings in both rooms: accumulation, the order of rows, resuming, evaluation, losses that are not finite."""

import math
import re
from contextlib import closing
from importlib import import_module
from unittest.mock import patch

import numpy as np
import pytest

from twinscale.common.data import open_dataset, training_batches
from twinscale.common.data.shapes import batch_shapes
from twinscale.common.errors import NonFinite
from twinscale.common.files.tensors import load_tensors
from twinscale.common.metrics import finish
from twinscale.common.training.evaluating import held_out_sums
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

EPS = 2.0**-52
BOUND = 256 * EPS  # derived in test_rooms_models.py


def worst(found, wanted):
    """The largest error of any tensor, of the tensor's largest value; rounding of a zero gradient counts as none."""
    assert set(found) == set(wanted)
    scale = {key: np.abs(x).max() for key, x in wanted.items()}
    null = [key for key in wanted if key.endswith("key.bias")]
    scale |= {key: scale[key.replace(".bias", ".kernel")] for key in null}
    return max(float(np.abs(found[key] - x).max() / scale[key]) for key, x in wanted.items())


# ---- accumulation and the order of rows

SMALL = {"decoder": {"layers": 1}, "mlp": {"dropout": 0.25}}


def uneven(batch):
    """The batch with weights whose sums differ between any two micro-batches."""
    weights = batch["weights"] * (1 + np.arange(len(batch["weights"]), dtype=np.float32)).reshape(
        -1, *[1] * (batch["weights"].ndim - 1))
    return {**batch, "weights": weights}


@pytest.mark.parametrize("family,counts", [("decoder", [2]), ("mlp", [4])])
def test_accumulation_is_of_token_means(open_room, reference, recipe_of, name, family, counts):
    recipes = [recipe_of(family, model=SMALL[family], train={"accumulate": count}) for count in (1, *counts)]
    found = []
    for recipe in recipes:
        with open_room(name, recipe) as opened:
            weights, batch = opened.weights(), uneven(opened.batch())
            found.append(opened.tensors(batch))
    logits, _ = reference.forward(recipes[0], weights, batch, number=0)
    losses = reference.losses(recipes[0], logits, batch["labels"]) * batch["weights"]
    for parts, count in zip(found[1:], counts, strict=True):
        assert worst(parts, found[0]) < BOUND
        # The mean of the micro-batches' means, which frameworks take, is another number by far.
        means = [part.sum() / share.sum() for part, share in
                 zip(np.split(losses, count), np.split(batch["weights"], count), strict=True)]
        assert abs(np.mean(means) / found[0]["loss"] - 1) > 1e6 * BOUND
    assert family == "mlp" or (batch["weights"] == 0).any()  # and some tokens are masked


def test_the_loss_of_a_mixture_is_that_of_both_labels_by_their_shares(open_room, reference, recipe_of, name):
    """In float64, of uneven weights and with smoothed labels, also where the batch comes in parts; so are the hits."""
    recipe = recipe_of("mlp", data={"augment": ["mixup"], "augmenting": {"mixup": 4.0}},
                       train={"label_smoothing": 0.1, "accumulate": 2})
    with open_room(name, recipe) as opened:
        batch = uneven(opened.batch())
        found = opened.tensors(batch)
        room, devices = opened.room, opened.devices
        _, metrics = room.make_step(recipe, opened.state, devices)(opened.state, 0, batch)
        accuracy = float(metrics["accuracy"])
    share, weights = (batch[key].astype(np.float64) for key in ("mixed_share", "weights"))
    weights /= weights.sum()
    losses, hits = ([measure(batch[key]) for key in ("labels", "mixed_labels")] for measure in (
        lambda labels: reference.losses(recipe, found["logits"], labels),
        lambda labels: found["logits"].argmax(-1) == labels))
    wanted, right = (weights @ (share * own + (1 - share) * other) for own, other in (losses, hits))
    assert abs(found["loss"] / wanted - 1) < BOUND and abs(found["loss"] / (weights @ losses[0]) - 1) > 1e-3
    assert abs(accuracy - right) < 1e-6


def test_rows_in_another_order_give_the_same_step(first_step, recipe_of, name):
    recipe = recipe_of("decoder", model={"dropout": 0.25, "layers": 1, "bias": False})
    _, batch, ours = first_step(name, recipe)
    _, permuted, theirs = first_step(name, recipe, permuted=True)
    order = np.argsort(permuted["row"])
    assert not np.array_equal(permuted["row"], batch["row"])
    assert all(np.array_equal(permuted[key][order], batch[key]) for key in batch)
    assert worst({**theirs, "logits": theirs["logits"][order]}, ours) < BOUND


# ---- resuming

TRAINING = {"train": {"steps": 12, "save_every": 5, "eval_every": 5, "log_every": 1, "global_batch": 16},
            "optimizer": {"ema": 0.9, "weight_decay": 0.1}, "schedule": {"kind": "cosine", "warmup": 3},
            "model": {"dropout": 0.25, "channels": [4]}, "keras": {"jit_compile": True}}


class Killed(BaseException):
    """What no handler expects, as little as a signal."""


@pytest.fixture
def kill_at(monkeypatch):
    """kill_at(8): the next trainings end before step 8, its batch made but not trained on."""

    def make(number):
        def killed(*arguments, **options):
            with closing(training_batches(*arguments, **options)) as batches:
                for item in batches:
                    if item[0] == number:
                        raise Killed
                    yield item

        monkeypatch.setattr("twinscale.common.training.loop.training_batches", killed)
        return monkeypatch.undo

    return make


def trained(room, recipe, path, **options):
    final = run_training(room, recipe, path, probe=Probe(trace="full"), progress=False, **options)
    return final, load_tensors(path / "trace" / "final.safetensors"), read_metrics(path), read_run(path)


def logged(metrics):
    """The lines without what a clock measured."""
    return [{key: x for key, x in line.items() if not key.endswith("_per_second")} for line in metrics]


@pytest.fixture(scope="module")
def straight(room_of, recipe_of, tmp_path_factory):
    """straight(name): a training from end to end, once a session."""
    known = {}

    def make(name):
        if name not in known:
            recipe = recipe_of("convnet", **TRAINING)
            known[name] = recipe, *trained(room_of(name), recipe, tmp_path_factory.mktemp("run"))
        return known[name]

    return make


def test_a_killed_training_goes_on_as_if_nothing_had_happened(straight, room_of, kill_at, name, tmp_path):
    recipe, final, tensors, metrics, _ = straight(name)
    undo = kill_at(8)
    with pytest.raises(Killed):
        run_training(room_of(name), recipe, tmp_path, probe=Probe(trace="full"), progress=False)
    undo()
    assert [line["step"] for line in read_metrics(tmp_path) if "train/loss" in line] == list(range(7))
    before = read_run(tmp_path)
    assert before["state"] == "failed" and before["seconds"]["train"] > 0
    resumed_final, resumed, resumed_metrics, after = trained(room_of(name), recipe, tmp_path)
    assert {key.split("/")[0] for key in tensors} == {"weights", "m", "v", "ema"}
    assert set(resumed) == set(tensors)
    for key, x in tensors.items():
        assert resumed[key].dtype == np.float64 and resumed[key].tobytes() == x.tobytes(), key
    assert resumed_final == final

    # Every step's line once, every evaluation's line once, in order, with the same values.
    steps = [line["step"] for line in metrics if "train/loss" in line]
    assert steps == list(range(12)) == [line["step"] for line in resumed_metrics if "train/loss" in line]
    assert [line["step"] for line in metrics if "held_out/loss" in line] == [4, 9, 11]
    assert logged(resumed_metrics) == logged(metrics)

    # Time adds up over the starts; what came after the last checkpoint is lost, and done again.
    kept, spent = before["kept"]["seconds"], after["seconds"]
    assert after["state"] == "finished" and after["starts"] == 2 and before["saved"] == 5
    assert set(spent) == set(before["seconds"]) and before["seconds"]["lost"] == 0 < spent["lost"]
    assert sum(spent.values()) > sum(before["seconds"].values())
    assert all(spent[kind] > kept[kind] for kind in ("compile", "train", "evaluate", "lost"))
    assert after["goodput"]["productive"] == spent["train"] < after["goodput"]["total"] == sum(spent.values())


def test_both_rooms_end_at_the_same_weights(straight):
    """Each of 12 updates adds at most what one pass differs by, carried on by a training that is not chaotic yet."""
    _, ours_final, ours, *_ = straight("tfscale")
    _, theirs_final, theirs, *_ = straight("jaxscale")
    assert worst(ours, theirs) < 12 * BOUND
    assert abs(ours_final["loss"] / theirs_final["loss"] - 1) < 12 * BOUND


def test_the_time_of_a_step_is_counted_once(straight, name):
    *_, info = straight(name)
    performance = info["performance"]
    assert len(performance["step_ms"]) == 11  # and the first one's, with what it compiled
    train, waited = info["seconds"]["train"], info["seconds"]["data_wait"]
    assert train - 1e-3 < sum(performance["step_ms"]) / 1e3 < train + waited + 1e-3
    assert performance["throughput"] == pytest.approx(16 / np.median(performance["step_ms"][1:]) * 1e3, rel=1e-2)


def test_a_training_that_is_cut_short_after_its_last_step_logs_nothing_twice(straight, room_of, monkeypatch, tmp_path):
    recipe, final, tensors, metrics, _ = straight("jaxscale")
    room = room_of("jaxscale")

    def dies(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("twinscale.common.training.loop.save_tensors", dies)
        run_training(room, recipe, tmp_path, probe=Probe(trace="full"), progress=False)
    resumed_final, resumed, resumed_metrics, info = trained(room, recipe, tmp_path)
    assert resumed_final == final and info["state"] == "finished"
    assert all(resumed[key].tobytes() == x.tobytes() for key, x in tensors.items())
    assert logged(resumed_metrics) == logged(metrics)


# ---- evaluation

def held_out_rows(opened):
    return opened.dataset.held_out.take(np.arange(len(opened.dataset.held_out)))


@pytest.mark.parametrize("family,changes", [
    ("mlp", {"model": {"dropout": 0.5}, "optimizer": {"ema": 0.75, "learning_rate": 0.05}}),
    pytest.param("convnet", {"model": {"dropout": 0.5, "channels": [4]}, "optimizer": {"learning_rate": 0.05}},
                 marks=pytest.mark.slow),
    ("decoder", {"model": {"layers": 1}, "optimizer": {"ema": 0.75, "learning_rate": 0.05}})])
def test_evaluation_is_over_the_whole_held_out_set(open_room, reference, recipe_of, name, family, changes):
    """After two steps, against the transcription without dropout, with the averaged weights and running statistics.
    The loss is a sum over some hundred positions of logits within BOUND: BOUND, of its scale, 1 nat."""
    recipe = recipe_of(family, **changes, train={"global_batch": 7})
    with open_room(name, recipe) as opened:
        step = opened.room.make_step(recipe, opened.state, opened.devices)
        for number in range(2):
            opened.state, _ = step(opened.state, number, opened.batch(number))
        metrics = finish(*held_out_sums(opened.room.make_evaluate(recipe, opened.state, opened.devices), opened.state,
                                        opened.dataset, recipe))
        state = {key: np.array(x) for key, x in opened.room.state_tensors(opened.state).items()}
        rows, token_bytes = held_out_rows(opened), opened.dataset.token_bytes
    assert len(rows["labels"]) % 7 and rows["weights"].sum() > 0  # the last batch is padded
    weights = {key.removeprefix("weights/"): x for key, x in state.items() if key.startswith("weights/")}
    averaged = {**weights, **{key.removeprefix("ema/"): x for key, x in state.items() if key.startswith("ema/")}}

    def measured(weights):
        logits, _ = reference.forward(recipe, weights, rows)
        hits = ((logits.argmax(-1) == rows["labels"]) * rows["weights"]).sum()
        total = (reference.losses(recipe, logits, rows["labels"]) * rows["weights"]).sum()
        return total, {"loss": total / rows["weights"].sum(), "accuracy": hits / rows["weights"].sum()}

    total, wanted = measured(averaged)
    if family == "decoder":
        wanted["perplexity"] = math.exp(wanted["loss"])
        wanted["bits_per_byte"] = total / math.log(2) / (token_bytes[rows["labels"]] * rows["weights"]).sum()
    assert set(metrics) == set(wanted)
    for key, x in wanted.items():
        assert abs(metrics[key] / x - 1) < BOUND, key
    if recipe.optimizer.ema:
        assert abs(measured(weights)[1]["loss"] / wanted["loss"] - 1) > 1e-3


# ---- a loss that is not finite

def test_a_step_moves_everything_or_where_its_loss_is_not_finite_nothing(open_room, reference, recipe_of, name):
    """Weights, slots, averages, step and running statistics, which follow the transcription through the first step's
    two micro-batches; what comes after a step that was refused is refused too."""
    recipe = recipe_of("convnet", model={"channels": [4], "norm_momentum": 0.7, "dropout": 0.25},
                       optimizer={"ema": 0.9}, train={"accumulate": 2})
    with open_room(name, recipe) as opened:
        step, first = opened.room.make_step(recipe, opened.state, opened.devices), opened.weights()
        running, states = dict(first), []
        for part in range(2):
            rows = {key: x[4 * part:4 * part + 4] for key, x in opened.batch().items()}
            running |= reference.forward(recipe, running, rows, number=0)[1]
        for number in range(3):
            batch = opened.batch(number)
            if number == 1:
                batch["inputs"][-1, 3, 3] = np.nan
            opened.state, metrics = step(opened.state, number, batch)
            states.append({key: np.array(x) for key, x in opened.room.state_tensors(opened.state).items()})
            assert math.isfinite(float(metrics["loss"])) == (number != 1)
        assert int(opened.state.step) == 1
    moved = [key for key in first if key.endswith((".mean", ".var"))]
    assert len(moved) == 6
    for key in moved:
        assert np.abs(states[0][f"weights/{key}"] - running[key]).max() < BOUND * np.abs(running[key]).max(), key
    assert all(not np.array_equal(states[0][f"weights/{key}"], x) for key, x in first.items())
    for after in states[1:]:
        assert all(np.array_equal(after[key], x) and np.isfinite(x).all() for key, x in states[0].items())


@pytest.mark.parametrize("name,rate,first", [
    ("tfscale", 1e30, "logits"), ("jaxscale", 1e30, "logits"), ("tfscale", 1e39, "weights/")])
def test_a_training_whose_loss_is_not_finite_says_where(room_of, recipe_of, name, rate, first, tmp_path):
    recipe = recipe_of("mlp", optimizer={"learning_rate": rate}, train={"precision": "float32", "steps": 8})
    with pytest.raises(NonFinite) as caught:
        run_training(room_of(name), recipe, tmp_path, probe=Probe(trace="full", traced=(0, 1, 2, 3)), progress=False)
    said = re.fullmatch(r"step (\d+): the loss is (nan|inf); batch sha256 ([0-9a-f]{64}); first bad tensor: (\S+); .*",
                        str(caught.value))
    assert said, str(caught.value)
    number = int(said[1])
    assert number >= 1 and said[4].startswith(first)
    digest = next(training_batches(open_dataset(recipe), recipe, number, number + 1))[2]
    assert said[3] == digest
    info = read_run(tmp_path)
    assert info["state"] == "failed" and f"step {number}" in info["error"]
    assert all(line["step"] < number for line in read_metrics(tmp_path))
    assert not list((tmp_path / "checkpoints").glob("step*")) and info["final"] == {}


def test_the_step_that_trains_is_lowered_from_shapes_alone(open_room, recipe_of, name):
    """What preflight compiles is what `make_step` calls, and nothing that it looks up in there."""
    lower, train = (import_module(f"twinscale.{name}.{file}") for file in ("lower", "train"))
    recipe = recipe_of("mlp", train={"precision": "float32"})
    if name == "tfscale":  # whose initialisers are traced here, where rooms have asked for determinism before
        import_module("tensorflow").random.set_seed(1)
    with open_room(name, recipe, optimised=True) as opened:
        shape = opened.dataset.example_shape
        lowered = lower.lower_step(recipe, opened.dataset.classes, shape, batch_shapes(recipe, shape), opened.devices)
        text = lowered.as_text() if name == "jaxscale" else lowered.decode(errors="replace")
        assert text.count("dot") >= 8  # forward and both gradients of three kernels, but the first's by its input
        called = []
        with patch.object(train, "compiled_step", lambda *_: lambda *given: called.append(given)):
            step = train.make_step(recipe, opened.state, opened.devices)
        step(opened.state, 0, opened.batch())
        assert len(called) == 1


def test_a_twins_state_runs_what_was_compiled_for_the_first(open_room, recipe_of):
    import jax

    with open_room("jaxscale", recipe_of("decoder", jax={"scan": True})) as opened:
        twin = opened.room.new_state(opened.recipe, opened.dataset, opened.devices, 1e-3, opened.state)
        assert jax.tree.structure(twin) == jax.tree.structure(opened.state)  # jit compiles once for a structure


def test_a_nan_that_a_framework_loses_on_its_way_forward_is_found_in_the_gradient(room_of, recipe_of, monkeypatch,
                                                                                   tmp_path):
    """TensorFlow's fused product, bias and ReLU makes 0 of NaN in a graph without XLA: the loss stays finite."""
    def poisoned(*arguments, **options):
        for number, batch, digest in training_batches(*arguments, **options):
            yield number, batch | {"inputs": batch["inputs"] * np.nan}, digest

    monkeypatch.setattr("twinscale.common.training.loop.training_batches", poisoned)
    recipe = recipe_of("mlp", train={"precision": "float32", "steps": 3})
    with pytest.raises(NonFinite, match="step 0: the (loss|gradient's norm) is nan"):
        run_training(room_of("tfscale"), recipe, tmp_path, progress=False)
    assert read_run(tmp_path)["state"] == "failed" and not list((tmp_path / "checkpoints").glob("manifests/*"))


def test_results_that_take_an_arguments_memory():
    header = "HloModule step, input_output_alias={ {0}: (2, {}, may-alias), {3}: (0, {}, may-alias) }, num_partitions=4"
    aliases = import_module("twinscale.jaxscale.lower").aliases
    assert aliases(f"{header}\n\nENTRY %main (a: f32[8]) -> f32[8] {{\n") == {0: 2, 3: 0}
