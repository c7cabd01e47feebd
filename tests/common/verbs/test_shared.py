"""What the verbs share."""

import pytest

from twinscale.common import process
from twinscale.common.verbs import shared


@pytest.mark.parametrize("missing, words, said", [
    ((), ("compare", "r.toml", "--out", "o"), True), (("jax",), ("compare", "r.toml", "--out", "o"), False),
    (("jax",), ("train", "r.toml", "--backend", "jax", "--run", "r"), False),
    (("jax",), ("train", "r.toml", "--backend", "keras", "--run", "r"), True),
    ((), ("recipe", "show", None), False),
])
def test_no_hint_suggests_what_cannot_run(monkeypatch, capsys, missing, words, said):
    monkeypatch.delenv(process.CHILD, raising=False)
    monkeypatch.setattr(shared, "is_installed", lambda backend: backend not in missing)
    shared.suggest(*words)
    assert bool(capsys.readouterr().err) == said
    monkeypatch.setenv(process.CHILD, "1")
    shared.suggest(*words)
    assert not capsys.readouterr().err
