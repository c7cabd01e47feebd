"""`twinscale export`: no framework is loaded for what cannot be exported."""

from types import SimpleNamespace

import pytest

from twinscale.common import cli
from twinscale.common.export import formats, write
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.run import open_run
from twinscale.common.verbs import shared


@pytest.mark.parametrize("words, said", [((), "no run"), (("--formats", "gguf"), "gguf")])
def test_what_cannot_be_exported_is_refused_in_a_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.setattr(shared, "room", lambda name: pytest.fail(f"{name} was loaded"))
    run = tmp_path / ("run" if words else "nothing")
    recipe = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"})
    open_run(tmp_path / "run", recipe, "jax").close("finished")
    assert cli.main(["export", str(run), "--to", str(tmp_path / "out"), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and (said in lines[0] or str(run) in lines[0]) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("words, room, owner", [
    ((), "tfscale.room", "keras-jax"), (("--backend", "jax"), "jaxscale.room", "jax"),
    (("--backend", "keras"), "tfscale.room", "keras"),
    (("--backend", "keras", "--runtime", "jax"), "tfscale.room", "keras-jax")])
def test_whose_program_writes_is_the_runs_own_unless_said(tmp_path, monkeypatch, words, room, owner):
    recipe = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"})
    open_run(tmp_path / "run", recipe, "keras-jax").close("finished")
    asked = []
    monkeypatch.setattr(shared, "room", lambda name: SimpleNamespace(ROOM=name))
    monkeypatch.setattr(write, "export", lambda room, exporter, *rest: asked.append(
        (room, exporter.ROOM, rest[-1])) or 0)
    monkeypatch.setattr(formats, "read_export", lambda out: {"formats": []})
    assert cli.main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "out"), *words]) == 0
    assert asked == [(room, room.replace("room", "export"), owner)]
