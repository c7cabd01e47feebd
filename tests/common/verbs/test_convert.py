"""`twinscale convert`: no framework is loaded for what cannot be converted."""

import pytest

from twinscale.common import cli
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe
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
