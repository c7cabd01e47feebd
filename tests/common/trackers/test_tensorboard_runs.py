"""TensorBoard gets the recipe, its values beside the last metrics, and a verdict's words."""

from twinscale.common.foreign.events import event_files, scalars
from twinscale.common.recipe.file import load
from twinscale.common.trackers import following, log_verdict
from twinscale.common.training.run import open_run


def test_a_run_has_its_recipe_and_what_it_came_to(tmp_path):
    recipe = load("mlp-digits", ['train.trackers=["tensorboard"]'])
    with open_run(tmp_path / "run", recipe, "jax") as run, following(recipe, run, 0) as log:
        log(1, {"held_out/loss": 2.5})
        log(2, {"held_out/loss": 1.5})
    (file,) = event_files(tmp_path / "run" / "trackers" / "tensorboard")
    assert list(scalars(file)) == [("held_out/loss", 0, 1.5)]
    data = file.read_bytes()
    assert b'name = "mlp-digits"' in data and b"_hparams_/experiment" in data and b"optimizer.learning_rate" in data


def test_a_verdict_is_there_to_read(tmp_path):
    recipe = load("mlp-digits", ['train.trackers=["tensorboard"]'])
    (tmp_path / "report.md").write_text("# The backends agree")
    log_verdict(recipe, tmp_path, {"agrees": 1.0}, [tmp_path / "report.md"])
    (file,) = event_files(tmp_path / "trackers" / "tensorboard")
    assert b"# The backends agree" in file.read_bytes() and ("agrees", 0, 1.0) in list(scalars(file))
