"""`twinscale preflight`: what it refuses and what it passes on."""

import pytest

from twinscale.benchmarks import preflight as flight
from twinscale.common import cli
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe

ON_JAX = ("--backend", "keras", "--runtime", "jax")


def recipe_of(**sections):
    values = {"name": "tiny", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
              "train": {"global_batch": 32}}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return Recipe.model_validate(values)


@pytest.mark.parametrize("arguments, code, words", [
    ([], 2, "--topology: which slice?"), (["--topology", "v5e:9x9"], 2, "no such slice"),
    (["--topology", "v5e:2x2", "devices.fsdp=3"], 2, "does not divide the 4 chips of v5e:2x2"),
    (["--topology", "v5e:2x2", "--backend", "tpu"], 2, "'jax', 'keras', 'both'"),
    (["--topology", "v5e:2x2", *ON_JAX, "devices.strategy=tpu"], 2, 'devices.strategy="tpu": tf.distribute'),
    (["--topology", "v5e:3x7", *ON_JAX], 2, "--topology v5e:3x7: no such slice"),
    (["--topology", "v5e:2x2", *ON_JAX, "devices.sequence=2"], 2, "images have no sequence to share"),
    (["--topology", "v5e:2x2", *ON_JAX, "devices.tensor=3"], 2, "does not divide the 4 chips of v5e:2x2"),
    (["--topology", "v5e:2x2", "--backend", "both", "--runtime", "jax"], 2, "leave it out of --backend both"),
    (["--topology", "v5e:2x2", "--backend", "all", "--runtime", "jax"], 2, "leave it out of --backend all")])
def test_the_verb_refuses_in_one_line(arguments, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(dumps(recipe_of()))
    assert cli.main(["preflight", "r.toml", *arguments, "--out", "o"]) == code
    said = capsys.readouterr()
    assert not said.out and words in said.err and len(said.err.splitlines()) == 1 and not (tmp_path / "o").exists()


def test_the_verb_passes_on_what_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(dumps(recipe_of()))
    asked = {}
    monkeypatch.setattr(flight, "preflight", lambda recipe, out, **options: asked.update(options, out=out) or 1)
    assert cli.main(["preflight", "r.toml", "train.accumulate=2", "--topology", "v5e-16", "--slices", "2", "--backend",
                     "jax", "--check", "g.json", "--json", "--out", "o"]) == 1
    assert asked["topologies"] == ["v5e-16"] and asked["slices"] == 2 and asked["backends"] == ("jax",)
    assert asked["check"] == "g.json" and asked["as_json"] and str(asked["out"]) == "o"
    assert "train.accumulate=4 --topology v5e-16 --slices 2 --backend jax --out o-smaller" in capsys.readouterr().err


@pytest.mark.parametrize("words, backends", [
    ((), ()), (("--backend", "both"), ("jax", "keras")), (("--backend", "all"), ("jax", "keras-jax", "keras")),
    (("--backend", "keras", "--runtime", "jax"), ("keras-jax",))])
def test_what_is_compiled_is_what_backend_and_runtime_say(tmp_path, monkeypatch, capsys, words, backends):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(dumps(recipe_of()))
    asked = {}
    monkeypatch.setattr(flight, "preflight", lambda recipe, out, **options: asked.update(options) or 0)
    assert cli.main(["preflight", "r.toml", "--topology", "v5e:2x2", *words, "--out", "o"]) == 0
    assert asked["backends"] == backends and set(words) <= set(asked["words"])
    assert cli.main(["preflight", "r.toml", "--topology", "v5e:2x2", "--runtime", "jax", "--out", "o"]) == 2
    assert "--runtime jax: --runtime is for --backend keras: add it" in capsys.readouterr().err


@pytest.mark.parametrize("form, said", [
    (("--options", "--backend", "keras", "--runtime", "jax"), "--backend keras --runtime jax: not for --options"),
    (("--options", "--backend", "both"), "--backend keras: not for --options"),
    (("--search", "--backend", "all"), "--backend all: not for --search")])
def test_a_form_of_one_backend_refuses_others(tmp_path, monkeypatch, capsys, form, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(dumps(recipe_of()))
    assert cli.main(["preflight", "r.toml", "--topology", "v5e:2x2", *form, "--out", "o"]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_its_help_has_examples(capsys):
    assert cli.main(["preflight", "--help"]) == 0
    assert "twinscale preflight recipes/decoder-stdlib.toml --topology v5e:2x2" in capsys.readouterr().out
