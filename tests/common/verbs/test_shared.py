"""What the verbs share."""

import pytest

from twinscale.common import process
from twinscale.common.errors import BadInput
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


@pytest.mark.parametrize("words, known", [((), True), (("--runtime", "jax"), False)])
def test_no_hint_suggests_a_runtime_that_cannot_run(monkeypatch, capsys, words, known):
    monkeypatch.delenv(process.CHILD, raising=False)
    monkeypatch.setattr(shared, "is_installed", lambda backend: backend == "keras")
    shared.suggest("train", "r.toml", "--backend", "keras", *words, "--run", "r")
    assert bool(capsys.readouterr().err) == known


@pytest.mark.parametrize("program, runtime, backend", [
    ("keras", None, "keras"), ("keras", "tensorflow", "keras"), ("keras", "jax", "keras-jax"), ("jax", None, "jax")])
def test_a_program_and_a_runtime_are_a_backend(program, runtime, backend):
    assert shared.backend_of(program, runtime) == backend


@pytest.mark.parametrize("program, runtime", [("jax", "jax"), ("jax", "tensorflow"), ("all", "jax"), (None, "jax")])
def test_a_runtime_beside_no_keras_is_refused(program, runtime):
    with pytest.raises(BadInput, match=f"--runtime {runtime}: --runtime is for --backend keras"):
        shared.backends_of(program, runtime, {"all": ("keras", "jax")})


def test_a_word_for_several_is_those_and_none_is_none():
    assert shared.backends_of("all", None, {"all": ("keras", "jax")}) == ("keras", "jax")
    assert shared.backends_of(None, None, {}) == () and shared.backends_of("keras", "jax", {}) == ("keras-jax",)
