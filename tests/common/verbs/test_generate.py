"""`twinscale generate`: what it passes on, in which room, and what is refused before one is loaded."""

from types import SimpleNamespace

import pytest

from twinscale.common import cli
from twinscale.common.backends import BACKENDS
from twinscale.common.files.access import write_json
from twinscale.common.generation import both, run
from twinscale.common.generation.run import Wanted
from twinscale.common.generation.sample import Drawing
from twinscale.common.verbs import shared


@pytest.fixture
def asked(monkeypatch):
    """What was asked of rooms, in whose place are their names."""
    calls = []
    monkeypatch.setattr(shared, "room", lambda name: SimpleNamespace(ROOM=name, name=name))
    monkeypatch.setattr("twinscale.common.export.formats.made_by", lambda path: path.name)
    monkeypatch.setattr(run, "write", lambda room, generator, *rest: calls.append((room, generator.name, *rest)) or {
        "trainer": [{"holds": False}]})
    monkeypatch.setattr(run, "lines", lambda found: ["found"])
    return calls


def test_what_was_asked_for_is_passed_on(asked, tmp_path):
    words = ["generate", str(tmp_path / "jax"), "--prompt", "a", "--prompt", "b", "--tokens", "3", "--seed", "7",
             "--temperature", "0.5", "--top-k", "4", "--top-p", "0.9", "--stop", "c", "--no-cache", "--check"]
    assert cli.main([*words, "--precision", "float64"]) == 1
    wanted = Wanted(("a", "b"), 3, ("c",), Drawing(False, 0.5, 4, 0.9, 7), False, True)
    assert asked == [("jaxscale.room", "jaxscale.generate", tmp_path / "jax", wanted, "float64", run.streamed)]


def test_a_run_is_gone_on_with_in_its_own_room_unless_another_is_named(asked, tmp_path):
    for words in ((), ("--backend", "jax", "--json")):
        assert cli.main(["generate", str(tmp_path / "keras"), "--prompt", "a", *words]) == 1
    assert [(call[0], call[-1]) for call in asked] == [("tfscale.room", run.streamed), ("jaxscale.room", None)]


def test_what_keras_on_jax_has_trained_jax_goes_on_with(asked, tmp_path):
    assert cli.main(["generate", str(tmp_path / "keras-jax"), "--prompt", "a"]) == 1
    assert asked[0][:2] == ("jaxscale.room", "jaxscale.generate")


@pytest.mark.parametrize(("words", "sides"), [
    (["keras-jax", "keras"], [("keras-jax", "jax"), ("keras", "keras")]),
    (["jax", "--both"], [("jax", "keras"), ("jax", "jax")]), (["keras", "jax"], [("keras", "keras"), ("jax", "jax")])])
def test_two_samplers_are_asked_each_in_its_backend(asked, monkeypatch, tmp_path, capsys, words, sides):
    row = {"prompt": "a", "ids": [1], "margins": [1.0]}
    found = []
    monkeypatch.setattr(both, "asked_of", lambda path, backend, given: found.append((path.name, backend)) or {
        "run": "\x1b", "backend": backend, "moves": 0.0, "rows": [row], "trainer": [{"holds": True}]})
    runs = [str(tmp_path / word) if word in BACKENDS else word for word in words]
    assert cli.main(["generate", *runs, "--prompt", "a"]) == 0
    assert found == sides and not asked
    first, second = (backend for _, backend in sides) if "--both" not in words else ("keras", "jax")
    assert capsys.readouterr().out == f"1 of 1 tokens are the same: {first} on \\x1b, {second} on \\x1b\n"


@pytest.mark.parametrize(("words", "said"), [
    (["--prompt", "a", "--temperature", "-1"], "--temperature -1.0"),
    (["--prompt", "a", "--top-p", "0"], "--top-p 0.0"), (["--prompt", "a"], "not a run"),
    (["--prompt", "a", "--stop", ""], "--stop: empty"), (["--prompt", "a", "--tokens", "0"], "--tokens"),
    (["--prompt", "a", "--both", "--backend", "jax"], "--backend jax: not with --both"),
    (["other", "--prompt", "a", "--both"], "--both: not for two runs"), ([], "--prompt")])
def test_what_means_nothing_is_a_line_and_loads_no_room(monkeypatch, tmp_path, capsys, words, said):
    monkeypatch.setattr(shared, "room", lambda name: pytest.fail(f"{name} was loaded"))
    assert cli.main(["generate", str(tmp_path / "run"), *words]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and said in err


def test_no_framework_is_loaded_for_what_is_no_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shared, "room", lambda name: pytest.fail(f"{name} was loaded"))
    write_json(tmp_path / "run.json", {"backend": 7})
    assert cli.main(["generate", str(tmp_path), "--prompt", "a"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
