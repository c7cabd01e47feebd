"""`twinscale convert`: no framework is loaded for what cannot be converted."""

import json

import pytest

from twinscale.common import cli
from twinscale.common.families.encoder import Encoder
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import canonical
from twinscale.common.training.run import open_run
from twinscale.common.verbs import shared


@pytest.fixture(autouse=True)
def no_room(monkeypatch):
    monkeypatch.setattr(shared, "room", lambda name: pytest.fail(f"{name} was loaded"))


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert cli.main(["convert", str(tmp_path / "run"), "--to", str(tmp_path / "state")]) == 2
    assert "twinscale: " in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_state_goes_over_nobodys_files(tmp_path, capsys):
    recipe = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"})
    open_run(tmp_path / "run", recipe, "jax").close("finished")
    (tmp_path / "run" / "recipe.toml").write_text(dumps(recipe))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    assert cli.main(["convert", str(tmp_path / "run"), "--to", str(tmp_path / "mine")]) == 2
    assert str(tmp_path / "mine") in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["letter.txt"]


@pytest.fixture
def held(monkeypatch):
    """held(family, **options): the model of any run is one of these options; returns its tensors."""
    def hold(family, **options):
        data = {"source": "random" if family == "encoder" else "digits"}
        recipe = Recipe.model_validate({"name": "x", "data": data, "model": {"family": family, **options}})
        shape = (("ids", (6,), "int32"),) if family == "encoder" else (8, 8, 1)
        tensors = initial_values(parameters(recipe.model, 5, shape), 7, "float32")
        monkeypatch.setattr(canonical, "model_of", lambda path: (recipe, tensors))
        return tensors
    return hold


def test_a_models_directory_for_hugging_face_is_what_a_training_begins_with(tmp_path, capsys, held):
    small = {"layers": 1, "width": 8, "heads": 2, "vocabulary": 30, "positions": 9, "types": 2}
    tensors = held("encoder", **small)
    for _ in range(2):  # over its own of before
        assert cli.main(["convert", "run", "--to", str(tmp_path / "out"), "--hugging-face"]) == 0
    assert f"bert's layout, {len(tensors)} tensors, read again bit for bit" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/config.json").read_text())["num_labels"] == 5
    m = Encoder(family="encoder", weights=str(tmp_path / "out"))
    again = initial_values(parameters(m, 5, (("ids", (6,), "int32"),)), 0, "float32")
    assert {name: x.tobytes() for name, x in again.items()} == {name: x.tobytes() for name, x in tensors.items()}


def test_what_hugging_face_has_not_and_others_directories_are_refused(tmp_path, capsys, held):
    held("mlp")
    assert cli.main(["convert", "run", "--to", str(tmp_path / "out"), "--hugging-face"]) == 2
    assert "--hugging-face: no layout is known for a mlp" in capsys.readouterr().err and not list(tmp_path.iterdir())
    held("encoder", layers=1, width=8, heads=2, vocabulary=30, types=2)
    (tmp_path / "config.json").write_text("mine")
    assert cli.main(["convert", "run", "--to", str(tmp_path), "--hugging-face"]) == 2
    assert "not empty and not ours" in capsys.readouterr().err
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("config.json", "mine")]
