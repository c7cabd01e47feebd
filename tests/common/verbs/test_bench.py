"""`twinscale bench`."""

from types import SimpleNamespace

import pytest

from twinscale.common import cli
from twinscale.common.verbs import shared


def test_its_help_has_examples(capsys):
    assert cli.main(["bench", "--help"]) == 0
    assert ("twinscale bench recipes/decoder-6x256.toml --precision bfloat16 jax.attention=cudnn"
            in capsys.readouterr().out)


@pytest.mark.parametrize("words, backends", [
    ((), ("jax",)), (("--backend", "both"), ("keras", "jax")),
    (("--backend", "keras", "--runtime", "jax"), ("keras-jax",)),
    (("--backend", "all"), ("keras", "keras-jax", "jax"))])
def test_who_takes_turns_is_what_backend_and_runtime_say(tmp_path, monkeypatch, words, backends):
    asked = []
    monkeypatch.setattr(shared, "room", lambda name: SimpleNamespace(
        bench=lambda recipe, out, **told: asked.append(told["backends"]) or 0))
    assert cli.main(["bench", "mlp-digits", *words, "--out", str(tmp_path / "o")]) == 0
    assert asked == [backends]


def test_a_runtime_beside_all_is_a_line(tmp_path, capsys):
    assert cli.main(["bench", "mlp-digits", "--backend", "all", "--runtime", "jax", "--out", str(tmp_path / "o")]) == 2
    assert "leave it out of --backend all" in capsys.readouterr().err and not (tmp_path / "o").exists()
