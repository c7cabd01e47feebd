"""A training that changes backend and devices on its way ends where one that stays at home does."""

import json

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import canonical
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import follow_run, read_run
from twinscale.common.training.run_metrics import read_metrics

pytestmark = pytest.mark.usefixtures("hurried")

EPS = 2.0**-52
BOUND = 12 * 256 * EPS  # 12 updates, each apart by at most what one pass differs by: test_rooms_models.py


def described(recipe_of, optimizer, devices=1):
    return recipe_of("mlp", optimizer={"name": optimizer, "ema": 0.9, "weight_decay": 0.1, "learning_rate": 1e-3},
                     model={"dropout": 0.25}, schedule={"kind": "cosine", "warmup": 3}, devices={"data": devices},
                     train={"steps": 12, "global_batch": 16, "log_every": 1})


def leg(room, recipe, path, stop=None, origin=None):
    run_training(room, recipe, path, progress=False, begun=canonical.read(origin, recipe) if origin else None,
                 probe=Probe(trace="full", stop=stop, resumable=stop is not None))
    return path


def written(room, recipe, run, path):
    assert canonical.convert(room, recipe, follow_run(run), path) == int(read_run(run)["saved"])
    return path


@pytest.mark.parametrize("optimizer", ["adamw", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "sgd", "lion", "lamb"))])
def test_keras_then_jax_on_four_devices_then_keras(room_of, recipe_of, tmp_path, optimizer):
    keras, jax = room_of("tfscale"), room_of("jaxscale")
    one, four = described(recipe_of, optimizer), described(recipe_of, optimizer, 4)
    straight = leg(keras, one, tmp_path / "straight")
    first = leg(keras, one, tmp_path / "first", stop=4)
    second = leg(jax, four, tmp_path / "second", stop=8, origin=written(keras, one, first, tmp_path / "a"))
    third = leg(keras, one, tmp_path / "third", origin=written(jax, four, second, tmp_path / "b"))

    assert read_run(first)["state"] == read_run(second)["state"] == "stopped"
    assert len(read_run(second)["devices"]) == 4 and read_run(third)["origin"]["step"] == 8
    wanted, found = (load_tensors(run / "trace" / "final.safetensors") for run in (straight, third))
    assert wanted.keys() == found.keys() and {"weights", "m", "ema"} <= {name.split("/")[0] for name in wanted}
    for name, x in wanted.items():
        assert np.abs(found[name] - x).max() <= BOUND * np.abs(x).max(), name
    lines = [{line["step"]: line["train/loss"] for line in read_metrics(run) if "train/loss" in line}
             for run in (straight, third)]
    assert list(lines[0]) == list(lines[1]) == list(range(12))  # the whole way, each step once
    assert all(abs(lines[1][step] / loss - 1) < BOUND for step, loss in lines[0].items())


@pytest.mark.slow
def test_an_encoder_that_learns_from_hidden_pieces_goes_on_with_the_other_backend(room_of, tmp_path):
    """From JAX to Keras: what is hidden in each step is the same, and so is the end."""
    for i in range(12):
        (tmp_path / f"{i}.txt").write_text(f"In text {i} foxes jump over {i + 2} dogs, and {i % 4} cats look on. " * 6)
    recipe = Recipe.model_validate({
        "name": "hidden", "keras": {"jit_compile": False}, "schedule": {"kind": "cosine", "warmup": 2},
        "data": {"source": f"text:{tmp_path}/*.txt", "tokenizer": "wordpiece", "vocabulary": 257, "sequence": 16,
                 "held_out": 0.3, "masked": 0.2, "masked_by": "word"},
        "model": {"family": "encoder", "layers": 1, "width": 16, "heads": 4, "vocabulary": 257, "positions": 16,
                  "head": "masked", "dropout": 0.1},
        "train": {"steps": 8, "global_batch": 8, "precision": "float64", "log_every": 1}})
    keras, jax = room_of("tfscale"), room_of("jaxscale")
    straight = leg(jax, recipe, tmp_path / "straight")
    first = leg(jax, recipe, tmp_path / "first", stop=4)
    second = leg(keras, recipe, tmp_path / "second", origin=written(jax, recipe, first, tmp_path / "a"))
    wanted, found = (load_tensors(run / "trace" / "final.safetensors") for run in (straight, second))
    assert wanted.keys() == found.keys()
    for name, x in wanted.items():
        null = name.endswith("key.bias")  # which softmax does not see
        scale = np.abs(wanted[name.replace(".bias", ".kernel")]).max() if null else np.abs(x).max()
        assert np.abs(found[name] - x).max() <= BOUND * scale, name
    lines = [{line["step"]: line["train/loss"] for line in read_metrics(run) if "train/loss" in line}
             for run in (straight, second)]
    assert list(lines[0]) == list(lines[1]) == list(range(8))
    assert all(abs(lines[1][step] / loss - 1) < BOUND for step, loss in lines[0].items())
    assert abs(read_run(straight)["final"]["loss"] / read_run(second)["final"]["loss"] - 1) < BOUND


@pytest.fixture(scope="module")
def state(room_of, recipe_of, tmp_path_factory):
    """(room, recipe, the directory of its state after 4 updates)."""
    room, recipe, path = room_of("jaxscale"), described(recipe_of, "adamw"), tmp_path_factory.mktemp("state")
    return room, recipe, written(room, recipe, leg(room, recipe, path / "run", stop=4), path / "state")


def test_a_state_goes_through_a_file_bit_for_bit(state, tmp_path):
    room, recipe, path = state
    again = leg(room, recipe, tmp_path / "run", stop=4, origin=path)
    before, after = load_tensors(path / "state.safetensors"), load_tensors(again / "trace" / "final.safetensors")
    assert before.keys() == after.keys() and all(after[name].tobytes() == x.tobytes() for name, x in before.items())


@pytest.mark.parametrize("change,said", [
    (lambda index: index.update(step=99), "says step 99, but train.steps=12"),
    (lambda index: index.update(meaning="x"), "of another training"),
    (lambda index: index.update(sha256="0" * 64), "its content is not what index.json says"),
    (lambda index: index.update(schema_version=9), "schema_version = 9"),
    (lambda index: index.pop("step"), "step: missing; .*makes a whole state")])
def test_a_state_that_is_not_this_trainings_is_refused(state, tmp_path, change, said):
    room, recipe, path = state
    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    index = json.loads((tmp_path / "index.json").read_text())
    change(index)
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=said):
        run_training(room, recipe, tmp_path / "run", progress=False, begun=canonical.read(tmp_path, recipe))
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_checkpoint_has_no_state(state, tmp_path):
    room, recipe, _ = state
    run_training(room, recipe, tmp_path / "run", progress=False, probe=Probe(stop=2, saved=False))
    with pytest.raises(BadInput, match="has no checkpoint yet"):
        canonical.convert(room, recipe, follow_run(tmp_path / "run"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_began_elsewhere_never_starts_over_by_itself(state, tmp_path, monkeypatch):
    """It died before its first checkpoint: the same command goes on from the origin again, another is refused."""
    room, recipe, path = state

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("twinscale.common.training.checkpoints.Checkpoints.save", dies)
        leg(room, recipe, tmp_path, origin=path)
    assert read_run(tmp_path)["origin"]["step"] == 4 and read_run(tmp_path).get("saved") is None
    with pytest.raises(BadInput, match="has no checkpoint of its own yet: pass --from again"):
        leg(room, recipe, tmp_path)
    leg(room, recipe, tmp_path, origin=path)
    assert [line["step"] for line in read_metrics(tmp_path) if "train/loss" in line] == list(range(12))


def test_a_stop_behind_the_state_is_refused_and_one_at_it_saves(state, tmp_path):
    room, recipe, path = state
    with pytest.raises(BadInput, match="--stop 2: the state to go on from has 4 updates already"):
        leg(room, recipe, tmp_path / "behind", stop=2, origin=path)
    assert read_run(leg(room, recipe, tmp_path / "at", stop=4, origin=path))["saved"] == 4


def test_waiting_for_data_is_no_training(room_of, recipe_of, tmp_path, monkeypatch):
    import time

    from twinscale.common.data import training_batches

    def slowly(*arguments, **options):
        for item in training_batches(*arguments, **options):
            time.sleep(0.05)
            yield item

    monkeypatch.setattr("twinscale.common.training.loop.training_batches", slowly)
    seconds = read_run(leg(room_of("jaxscale"), described(recipe_of, "adamw"), tmp_path))["seconds"]
    assert seconds["data_wait"] > 12 * 0.05 > 3 * seconds["train"]
