"""Training: what its backend's room is handed."""

import os

from twinscale.common import cli


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
