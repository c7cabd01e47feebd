"""Several steps in one call of the devices are, bit for bit, the steps that they are alone."""

import errno

import pytest

from twinscale.common.errors import CannotSave
from twinscale.common.files.tensors import load_tensors
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

TRAIN = {"steps": 11, "eval_every": 5, "save_every": 4, "keep": 9, "log_every": 1, "global_batch": 16}
SMALL = {"train": TRAIN, "optimizer": {"ema": 0.9}, "model": {"dropout": 0.25, "hidden": [8]},
         "keras": {"jit_compile": True}}
# Micro-batches too; in bfloat16, where a rounding that falls otherwise is seen at once.
PRECISE = {"float64": 1, "bfloat16": 2}
LARGER = [("convnet", {"train": {"precision": "bfloat16"}, "model": {"channels": [4]}}, {}),
          ("convnet", {"train": {"precision": "float32", "accumulate": 2}, "model": {"channels": [4]}}, {}),
          ("decoder", {"train": {"precision": "float32", "accumulate": 2}}, {}),
          ("decoder", {"train": {"precision": "float32"}, "keras": {"jit_compile": False}}, {})]


def left_by(room, recipe, path, stops=()):
    """What a training leaves that no clock measures: metrics, last state, checkpoints, last evaluation."""
    for stop in stops:
        run_training(room, recipe, path, probe=Probe(trace="full", stop=stop, resumable=True), progress=False)
    final = run_training(room, recipe, path, probe=Probe(trace="full"), progress=False)
    lines = [{key: x for key, x in line.items() if not key.endswith("_per_second")} for line in read_metrics(path)]
    tensors = load_tensors(path / "trace" / "final.safetensors")
    saved = sorted(file.name for file in (path / "checkpoints" / "manifests").iterdir())
    return lines, {name: x.tobytes() for name, x in tensors.items()}, saved, final


@pytest.fixture(scope="module")
def alone(room_of, recipe_of, tmp_path_factory):
    """alone(name, precision): what the small training leaves in single steps, once a session."""
    known = {}

    def make(name, precision="float64"):
        if (name, precision) not in known:
            path = tmp_path_factory.mktemp("run") / "alone"
            known[name, precision] = left_by(room_of(name), small(recipe_of, precision), path)
        return known[name, precision]

    return make


def small(recipe_of, precision):
    train = TRAIN | {"precision": precision, "accumulate": PRECISE[precision]}
    return recipe_of("mlp", **SMALL | {"train": train})


def several(recipe, count):
    found = recipe.with_values(devices={"steps_per_call": count})
    assert (found.hash, found.meaning) == (recipe.hash, recipe.meaning)
    return found


@pytest.mark.parametrize("precision", PRECISE)
def test_several_steps_a_call_leave_what_single_ones_do(alone, room_of, recipe_of, name, tmp_path, precision):
    """Over evaluations and checkpoints that calls do not divide, and gone on with from a step where none ended."""
    room, recipe, single = room_of(name), small(recipe_of, precision), alone(name, precision)
    assert [line["step"] for line in single[0] if "train/loss" in line] == list(range(11))
    together = several(recipe, 3)
    assert left_by(room, together, tmp_path / "several") == single
    assert len(read_run(tmp_path / "several")["performance"]["step_ms"]) == 8  # and the first call's
    assert left_by(room, together, tmp_path / "resumed", stops=(6,))[1] == single[1]


def test_a_save_that_fails_in_the_background_ends_the_training_and_the_one_before_is_taken(
        alone, room_of, recipe_of, tmp_path, monkeypatch):
    room, recipe = room_of("tfscale"), recipe_of("mlp", **SMALL)
    put = room.Store.put

    def full(store, step):
        if step == 8:
            (store.path / "step-8.data-00000-of-00001").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        put(store, step)

    with monkeypatch.context() as patch, pytest.raises(CannotSave, match="step 8 could not be saved .*of step 4, is"):
        patch.setattr(room.Store, "put", full)
        run_training(room, recipe, tmp_path / "cut", probe=Probe(trace="full"), progress=False)
    assert read_run(tmp_path / "cut")["saved"] == 4
    assert left_by(room, recipe, tmp_path / "cut") == alone("tfscale")


@pytest.mark.slow
@pytest.mark.parametrize(("family", "changes", "devices"), LARGER, ids=["narrow norm", "norm", "parts", "no XLA"])
def test_larger_models_take_the_same_steps_too(room_of, recipe_of, name, tmp_path, family, changes, devices):
    sections = {"keras": {"jit_compile": True}, **changes, "train": TRAIN | changes["train"]}
    recipe, room = recipe_of(family, **sections).with_values(devices=devices), room_of(name)
    single = left_by(room, recipe, tmp_path / "single")
    assert left_by(room, several(recipe, 4), tmp_path / "several") == single
