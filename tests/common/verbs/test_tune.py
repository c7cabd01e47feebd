"""`twinscale tune`."""

from types import SimpleNamespace

import pytest

from twinscale.common import cli
from twinscale.common.verbs import shared


def test_its_help_has_examples(capsys):
    assert cli.main(["tune", "--help"]) == 0
    assert "twinscale tune recipes/mlp-digits.toml --space space.toml --trials 12" in capsys.readouterr().out


def test_a_space_that_is_not_there_is_one_line(tmp_path, capsys):
    assert cli.main(["tune", "mlp-digits", "--space", str(tmp_path / "no.toml"), "--out", str(tmp_path / "o")]) == 2
    assert "no.toml" in capsys.readouterr().err and not (tmp_path / "o").exists()


@pytest.mark.parametrize("words, used", [(("--backend", "keras", "--runtime", "jax"), "keras-jax"), ((), "jax")])
def test_what_trains_is_what_backend_and_runtime_say(tmp_path, monkeypatch, words, used):
    asked = []
    monkeypatch.setattr(shared, "first_installed", lambda: "jax")
    monkeypatch.setattr(shared, "room", lambda name: SimpleNamespace(tune=lambda **told: asked.append(told["backend"])))
    assert cli.main(["tune", "mlp-digits", "--space", "s.toml", *words, "--out", str(tmp_path / "o")]) == 0
    assert asked == [used]
