"""`twinscale generate`: what it passes on, and what it refuses before a framework is loaded."""

import pytest

from twinscale.common import cli
from twinscale.common.generation import both


def test_two_are_asked_for_by_the_same_words(monkeypatch, capsys, tmp_path):
    asked, row = [], {"prompt": "a", "ids": [1, 2], "margins": [1.0, 1.0]}
    side = {"rows": [row], "moves": 1e-3, "trainer": [{"holds": True}], "backend": "jax", "run": "r"}
    monkeypatch.setattr(both, "asked_of", lambda path, backend, words: asked.append((backend, words)) or side)
    assert cli.main(["generate", str(tmp_path), "--prompt", "a", "--both", "--tokens", "2", "--greedy"]) == 0
    assert [backend for backend, _ in asked] == ["keras", "jax"] and asked[0][1] == asked[1][1]
    assert "--greedy" in asked[0][1] and asked[0][1][:2] == ["--prompt", "a"]
    assert capsys.readouterr().out.startswith("2 of 2 tokens are the same")


@pytest.mark.parametrize(("words", "what"), [
    (["--top-p", "0"], "--top-p"), (["--temperature", "-1"], "--temperature"), (["--top-k", "-2"], "--top-k"),
    (["--seed", "-1"], "--seed"), (["--both", "--backend", "jax"], "--backend"), (["other", "--both"], "--both"),
    ([], "run")])
def test_what_means_nothing_is_refused_in_a_line(words, what, tmp_path, capsys):
    assert cli.main(["generate", str(tmp_path / "run"), *words, "--prompt", "a"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and what in said[0]
