"""Training: what its backend's room is handed."""

import json
import os

import pytest

from twinscale.common import cli
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe import file as recipe_file


def test_train_hands_a_validated_recipe_to_the_room_of_its_backend(work, room, lines):
    calls = room("tfscale.room")
    assert cli.main(["train", "r.toml", "train.steps=7", "--backend", "keras", "--run", "runs/k", "--overwrite",
                     "--precision", "float64"]) == 0
    (_, recipe, options, keras), = calls
    assert (recipe.train.steps, recipe.train.precision, keras) == (7, "float64", "tensorflow")
    assert str(options["run_dir"]) == "runs/k" and options["overwrite"] is True
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    out, err = lines()
    assert out == "" and err == [
        "twinscale: next: twinscale compare r.toml train.steps=7 --precision float64 --out build/x"]


def test_train_on_jax_leaves_keras_alone(work, room):
    calls = room("jaxscale.room")
    assert cli.main(["train", "r.toml", "--backend", "jax", "--run", "runs/j"]) == 0
    assert calls[0][3] == "jax" and "TF_CPP_MIN_LOG_LEVEL" not in os.environ


def test_keras_on_jax_is_a_room_of_its_own(work, room):
    calls = room("kerasjax.room")
    assert cli.main(["train", "r.toml", "--backend", "keras", "--runtime", "jax", "--run", "runs/kj"]) == 0
    assert len(calls) == 1


@pytest.mark.parametrize("words, said", [
    (["--backend", "jax", "--runtime", "tensorflow"], "--runtime tensorflow: --runtime is for --backend keras"),
    (["--backend", "keras", "--runtime", "jax", "devices.strategy=mirrored"], 'devices.strategy="mirrored"'),
    (["--backend", "keras", "--runtime", "torch"], "'tensorflow', 'jax'")])
def test_what_a_runtime_does_not_have_is_a_line_and_loads_no_room(work, room, lines, words, said):
    calls = room("kerasjax.room")
    assert cli.main(["train", "r.toml", *words, "--run", "runs/kj"]) == 2
    out, err = lines()
    assert not out and len(err) == 1 and said in err[0] and not calls and not (work / "runs").exists()


def test_what_keras_on_jax_does_not_read_is_said(work, room, lines):
    room("kerasjax.room")
    asked = ["train", "r.toml", "keras.jit_compile=false", "--backend", "keras", "--run", "runs/k"]
    assert cli.main([*asked, "--runtime", "jax"]) == 0
    assert sum("keras.jit_compile=false is TensorFlow's, and not read" in line for line in lines()[1]) == 1


def test_a_training_begins_with_the_weights_of_a_directory_and_says_what_is_fresh(work, saved, room, lines):
    calls = room("jaxscale.room")
    assert cli.main(["train", "e.toml", "--from", "bert", "--backend", "jax", "--run", "runs/j"]) == 0
    (_, recipe, options, _), = calls
    assert recipe.model.width == 8 and recipe.model.weights.startswith(f"{saved}/model.safetensors#sha256=")
    assert options["begun"] is None
    assert lines()[1] == [
        f"twinscale: weights: 21 of 25 tensors are those of {saved}/model.safetensors; fresh ones are pooler.kernel, "
        "pooler.bias, head.kernel, head.bias", "twinscale: next: twinscale compare e.toml --from bert --out build/e"]


def test_weights_of_another_architecture_are_refused_before_a_framework_is_loaded(work, saved, room, lines):
    calls = room("jaxscale.room")
    held = load_tensors(saved / "model.safetensors")
    held.pop("encoder.layer.0.output.dense.weight")
    save_tensors(saved / "model.safetensors", held)
    assert cli.main(["train", "e.toml", "--from", "bert", "--backend", "jax", "--run", "runs/j"]) == 2
    assert not calls and not (work / "runs").exists()
    said = lines()[1][0]
    assert "of another architecture than the recipe's model: block_0.feedforward.down.kernel is missing" in said


def test_what_the_last_evaluation_says_is_printed_with_a_table_of_classes(work, room, lines):
    final = {"loss": 0.25, "accuracy": 0.9, "confusion/a/b": 3.0} | {
        f"{part}/{name}": 0.5 for part in ("precision", "recall", "f1") for name in "ab"}
    room("jaxscale.room", final)
    (work / "runs/j").mkdir(parents=True)
    info = {"schema_version": 1, "backend": "jax", "recipe_hash": "0", "state": "running", "starts": 1, "versions": {},
            "devices": [], "data": {}, "seconds": {}, "final": {}, "sums": {"report.labelled.0": 7.0,
                                                                             "report.labelled.1": 3.0}}
    described = recipe_file.given("r.toml", [])
    (work / "runs/j/run.json").write_text(json.dumps(info | {"recipe_hash": described.hash}))
    assert cli.main(["train", "r.toml", "--backend", "jax", "--run", "runs/j"]) == 0
    out, said = lines()
    assert out == "" and said.pop().startswith("twinscale: next: ")
    assert said[:3] == ["held out: loss 0.2500  accuracy 0.9000", "class          precision  recall      f1  count",
                        "a                 0.5000  0.5000  0.5000      7"]
    assert [one.split()[0] for one in said[3:]] == ["b", "micro", "macro", "weighted"]


def test_what_rules_of_quality_remove_is_said_before_the_training(work, room, lines, monkeypatch):
    monkeypatch.setenv("TWINSCALE_CACHE", str(work / "cache"))
    room("jaxscale.room")
    for name in "abcdefgh":
        (work / f"{name}.txt").write_text(f"words of {name} " * 9)
    (work / "z.txt").write_text("Words of A! " * 9)
    (work / "q.toml").write_text('name = "q"\n[data]\nsource = "text:*.txt"\nsequence = 8\nheld_out = 0.2\n[model]\n'
                                 'family = "decoder"\n[train]\nglobal_batch = 2\n')
    assert cli.main(["train", "q.toml", 'data.quality=["exact"]', "data.subset.documents=3", "--backend", "jax",
                     "--run", "runs/q"]) == 0
    said = lines()[1]
    assert said[0].startswith("twinscale: data.quality removes 1 of ") and "exact" in said[0]
    assert "data.subset takes 3 of " in said[0] and "100 steps read 200 rows: the " in said[1]
