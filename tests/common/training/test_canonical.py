"""The state of a run that either backend goes on from."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common import cli
from twinscale.common.compress.recipes import dense_recipe
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import canonical
from twinscale.common.training.run import open_run
from twinscale.common.verbs.train import begun_from

RECIPE = Recipe(name="x", model={"family": "decoder"})


@pytest.fixture
def run(tmp_path):
    """The directory of an unfinished run."""
    open_run(tmp_path / "run", RECIPE, "jax").close("interrupted")
    return tmp_path / "run"


def state_of(path, run, step=2):
    canonical.write(path, RECIPE, run, step, {"weights/a": np.full(3, step, np.float32)})


def a_run(tmp_path, name, **info):
    path = tmp_path / name
    with open_run(path, RECIPE, "jax") as opened:
        opened.info |= info
    return opened


def everything(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_state_replaces_an_earlier_one_of_its_run_and_nothing_else(tmp_path, theirs):
    one, other, state = a_run(tmp_path, "one"), a_run(tmp_path, "other"), tmp_path / "state"
    state_of(state, one)
    mine = theirs(state, ("data",))
    before = mine()
    state_of(state, one, 4)
    assert mine() == before and json.loads((state / "index.json").read_text())["step"] == 4
    (state / "index.json").unlink()  # as a kill leaves it
    state_of(state, one, 5)
    before = everything(state)
    with pytest.raises(BadInput, match="no earlier state of run"):  # of the same recipe, seed and backend
        state_of(state, other)
    assert everything(state) == before


def test_a_state_goes_into_no_run_and_no_folder_of_a_users(tmp_path, theirs, capsys):
    one, other = a_run(tmp_path, "one"), a_run(tmp_path, "other")
    mine = theirs(tmp_path / "folder")
    before = mine(), everything(other.path)
    (tmp_path / "file").write_text("mine")
    for target in ("folder", "other", "one", "file"):
        assert cli.main(["convert", str(one.path), "--to", str(tmp_path / target)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert (mine(), everything(other.path)) == before


def test_a_state_of_before_there_were_markers_is_known_by_what_it_computes(tmp_path):
    one, state = a_run(tmp_path, "one"), tmp_path / "state"
    state_of(state, one)
    (state / ".state").unlink()
    state_of(state, one)
    (state / ".state").unlink()
    with pytest.raises(BadInput, match="no earlier state"):
        canonical.write(state, RECIPE.with_values(seed=9), one, 2, {})


def test_what_is_wrong_with_a_run_is_said_of_it_and_not_of_a_folder_that_is_gone(tmp_path, monkeypatch):
    """A state is made of a run aside; here its process fails, or makes one of another training."""
    run = a_run(tmp_path, "one")

    def making(words, **_):
        state_of(words[-1], run)
        return SimpleNamespace(returncode=0)

    def failing(words, **_):
        return SimpleNamespace(returncode=2, stderr=f"twinscale: {words[-1]}/recipe.toml: is odd; mend it\n")

    monkeypatch.setattr(canonical.process, "run", making)
    with pytest.raises(BadInput) as caught:
        begun_from(str(run.path), RECIPE.with_values(train={"global_batch": 24}))
    assert str(caught.value).startswith(f"{run.path}: of another training (train.global_batch is ")
    assert begun_from(str(run.path), RECIPE)["step"] == 2
    monkeypatch.setattr(canonical.process, "run", failing)
    with pytest.raises(BadInput, match=f"^{run.path}: no state could be read there: {run.path}/recipe.toml: is odd"):
        canonical.model_of(run.path)
    with pytest.raises(OSError, match="/tmp/x"), canonical.named("/tmp/x", run.path):  # where there is no room
        raise OSError(28, "No space left on device", "/tmp/x/state.safetensors")


def test_what_leaves_a_training_with_adapters_has_kernels_alone_by_their_averages():
    made = RECIPE.with_values(adapt={"kind": "lora", "rank": 1, "alpha": 2.0})
    tensors = {"weights/a.kernel": np.ones((2, 2)), "weights/a.lora_a": np.ones((2, 1)),
               "weights/a.lora_b": np.zeros((1, 2)), "ema/a.lora_b": np.array([[1.0, 2.0]]),
               "m/a.lora_b": np.ones((1, 2))}
    left = canonical.shipped(made, tensors)
    assert left.keys() == {"a.kernel"} and left["a.kernel"].tolist() == [[3, 5], [3, 5]]  # 1 + 2 [1 1]^T [1 2]
    assert dense_recipe(made) == RECIPE
