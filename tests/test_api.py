"""The Python API: it loads nothing before it is asked for, raises what the commands say, and shows a verdict safely."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import twinscale
from twinscale import api
from twinscale.benchmarks import columns as comparison_of_three
from twinscale.benchmarks import compare as comparison
from twinscale.benchmarks import matching
from twinscale.benchmarks.verdict import Verdict
from twinscale.common import process
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import save_tensors
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.run import open_run
from twinscale.common.training.run_metrics import Logger

EXAMPLES = Path(__file__).parent / "examples"
HEAVY = ("numpy", "pydantic", "tensorflow", "keras", "jax", "flax", "matplotlib", "scipy", "typer", "rich")


def example(**more):
    return Verdict.model_validate(json.loads((EXAMPLES / "verdict.json").read_text()) | more)


def test_importing_it_loads_nothing_else():
    program = ("import sys, twinscale; before = set(sys.modules); assert callable(twinscale.compare); "
               "print(*sorted(name for name in before if '.' not in name or name.startswith('twinscale')))")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(process.ROOT)}).stdout.split()
    assert "twinscale" in said and not set(HEAVY) & set(said)
    assert not [name for name in said if name.startswith("twinscale.")]


def test_all_that_is_public_is_there_with_a_docstring_and_hints():
    for name in twinscale.__all__:
        thing = getattr(twinscale, name)
        assert thing.__doc__ and name in dir(twinscale)
        if callable(thing) and not isinstance(thing, type):
            assert "return" in thing.__annotations__
    assert api.__all__ == twinscale.__all__ and (Path(twinscale.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'comparee'"):
        _ = twinscale.comparee


# ---- recipes

def test_a_recipe_is_had_by_name_by_file_and_from_another_with_values_of_python(tmp_path):
    one = twinscale.recipe("mlp-digits", {"train.steps": 20, "model.hidden": (8, np.int64(4)), "name": "my"})
    assert (one.train.steps, list(one.model.hidden), one.name) == (20, [8, 4], "my")
    assert twinscale.recipe("mlp-digits", ["train.steps=20", "model.hidden=[8,4]", "name=my"]).hash == one.hash
    assert twinscale.recipe(one, {"train.steps": 30}).train.steps == 30 and twinscale.recipe(one).hash == one.hash


@pytest.mark.parametrize("overrides", [{"train.stps": 4}, ["train.steps"], "train.steps=4", {"train.steps": "many"}])
def test_a_wrong_recipe_is_an_exception_with_the_exit_code(overrides):
    with pytest.raises(twinscale.TwinscaleError) as caught:
        twinscale.recipe("mlp-digits", overrides)
    assert caught.value.exit_code == 2 and "overrides" in str(caught.value) or "train" in str(caught.value)


# ---- comparing

def test_a_comparison_returns_the_verdict_and_says_nothing_on_stdout(tmp_path, monkeypatch, capsys):
    asked = {}

    def compared(recipe, out, **options):
        asked.update(options, recipe=recipe, out=out)
        return example()

    monkeypatch.setattr(comparison, "compared", compared)
    found = twinscale.compare("mlp-digits", out=tmp_path, overrides={"train.steps": 20}, seeds=3, place=True)
    assert found.raise_if_not() is found and found.agrees and capsys.readouterr().out == ""
    assert asked["asked"] == ("mlp-digits", "train.steps=20") and asked["seeds"] == 3 and asked["place"]
    assert asked["recipe"].train.steps == 20 and asked["out"] == tmp_path


@pytest.mark.parametrize(("given", "module", "columns"), [
    (("keras", "jax"), "compare", ()), ("keras-jax,jax", "compare", ("keras-jax", "jax")),
    (["jax", "keras-jax", "keras"], "columns", ("keras", "keras-jax", "jax"))])
def test_columns_are_a_comparison_of_two_or_one_of_three(tmp_path, monkeypatch, given, module, columns):
    asked = []
    for name, of in (("compare", comparison), ("columns", comparison_of_three)):
        verb = "compared" if name == "compare" else "compared_columns"
        monkeypatch.setattr(of, verb, lambda *of, name=name, **options: asked.append((name, options["columns"])))
    twinscale.compare("mlp-digits", out=tmp_path, columns=given)
    assert asked == [(module, columns)]
    with pytest.raises(BadInput, match="--columns keras: one column"):
        twinscale.compare("mlp-digits", out=tmp_path, columns="keras")


def test_what_a_library_raises_comes_as_the_commands_say_it(tmp_path, monkeypatch):
    def lacks(*of, **how):
        raise ModuleNotFoundError("No module named 'flax'", name="flax")

    monkeypatch.setattr(comparison, "compared", lacks)
    with pytest.raises(MissingEnvironment, match="flax is not installed; pip install") as caught:
        twinscale.compare("mlp-digits", out=tmp_path)
    assert caught.value.exit_code == 4


def test_options_that_stages_do_not_have_are_refused(tmp_path):
    with pytest.raises(BadInput, match="meshes: not for a recipe with stages"):
        twinscale.compare("compress-mlp", out=tmp_path / "out", meshes=True)
    assert not (tmp_path / "out").exists()


def test_runs_that_are_none_are_refused(tmp_path):
    with pytest.raises(BadInput, match="not a run"):
        twinscale.compare_runs(tmp_path, tmp_path, out=tmp_path / "out")


def test_of_a_foreign_curve_there_are_differences_and_no_verdict(tmp_path):
    for name, losses in (("a", (2.5, 2.0)), ("b", (2.5, 1.5))):
        (tmp_path / name).write_text("step,nll\n" + "".join(f"{i},{loss}\n" for i, loss in enumerate(losses)))
    found = twinscale.compare_runs(tmp_path / "a", tmp_path / "b", out=tmp_path / "out", loss=("nll",))
    assert found.first.step == 1 and found.first.difference == 0.5 and not found.bounded and found.exit_code == 3
    with pytest.raises(BadInput, match="shift: not for two runs of Twinscale"):
        twinscale.compare_runs(tmp_path, tmp_path, out=tmp_path / "again", shift=1)


def test_a_verdict_is_loaded_from_its_directory_or_file(tmp_path):
    assert twinscale.load_verdict(EXAMPLES).sentence == twinscale.load_verdict(EXAMPLES / "verdict.json").sentence
    assert set(twinscale.load_verdict(EXAMPLES / "verdict-runs.json").sides) == {"a", "b"}
    assert twinscale.load_verdict(EXAMPLES / "columns.json").rung.blame == "none"
    with pytest.raises(BadInput):
        twinscale.load_verdict(tmp_path)


# ---- a pair

def test_a_match_is_asked_for_as_on_the_command_line(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(matching, "match", lambda *given: asked.append(given) or {"exit_code": 1})
    monkeypatch.chdir(Path(__file__).parents[1] / "docs" / "pair")  # where a file that an override names is looked for
    found = twinscale.match("pair.toml", overrides={"model.flax": "digits_flax.py:mended"}, overwrite=True,
                            checkpoint=str(tmp_path / "port.msgpack"), of="flax")
    recipe, *rest = asked[0]
    assert "digits_flax.py:mended" in recipe.model.flax and rest == [True, tmp_path / "port.msgpack", "flax", None]
    assert found == {"exit_code": 1} and capsys.readouterr().out == ""


def test_a_model_whose_tensors_have_one_name_is_not_matched():
    with pytest.raises(BadInput, match="a pair is matched"):
        twinscale.match("mlp-digits")


# ---- in a notebook

class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.style = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.style += dict(attributes).get("style", "")

    def handle_data(self, data):
        self.words.append(data)


def test_a_verdict_shows_its_rungs_with_their_bounds():
    verdict = example()
    page = Page(verdict._repr_html_())
    assert page.tags.count("tr") == 1 + len(verdict.rungs) + len(verdict.skipped)
    assert verdict.sentence in page.words and "P2 gradient" in page.words and "✓ agrees" in page.words
    assert "color:inherit" in page.style and "background:transparent" in page.style  # on light and on dark pages


# ---- runs

@pytest.fixture
def left(tmp_path):
    """The directory of a finished run with a whole trace."""
    path = tmp_path / "run"
    run = open_run(path, Recipe(name="x", model={"family": "mlp"}, data={"source": "digits"}), "jax", trace="full")
    with run, Logger(path) as logger:
        logger.log(0, {"train/loss": 2.5})
        logger.log(2, {"train/loss": float("nan"), "eval/loss": 1.0})
        save_tensors(RunFiles(path).final, {"weights/a": np.arange(3.0)})
        run.update(final={"loss": 1.0})
    return path


def test_a_run_is_loaded_as_it_is_asked_for(left, monkeypatch):
    run = twinscale.load_run(left)
    assert (run.backend, run.state, run.final, run.recipe.name) == ("jax", "finished", {"loss": 1.0}, "x")
    assert run.metrics == [{"step": 0, "train/loss": 2.5}, {"step": 2, "train/loss": None, "eval/loss": 1.0}]
    steps, values = run.series("train/loss")
    assert steps.tolist() == [0, 2] and values.dtype == np.float64 and values[0] == 2.5 and np.isnan(values[1])
    with pytest.raises(KeyError, match="eval/loss, train/loss"):
        run.series("loss")
    assert run.tensors["weights/a"].tolist() == [0, 1, 2] and len(repr(run)) < 200


def test_a_run_without_whole_tensors_says_what_makes_them(left):
    RunFiles(left).final.unlink()
    with pytest.raises(BadInput, match='trace="full"'):
        _ = twinscale.load_run(left).tensors


# ---- training

def test_what_ends_a_training_is_the_exception_and_a_script_needs_no_guard(tmp_path):
    """The script has no `if __name__ == "__main__"`, and a module's name that would shadow one of ours."""
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise SystemExit('shadowed')")
    script = tmp_path / "script.py"
    script.write_text("import twinscale\nprint('once')\ntry:\n    twinscale.train('mlp-digits', backend='jax', "
                      "run='run', overrides={'train.steps': 20}, stop=99)\nexcept twinscale.TwinscaleError as error:\n"
                      "    print(error.exit_code, error)\n")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(process.ROOT)})
    assert done.stdout == "once\n2 --stop 99: past the end, train.steps=20\n" and done.stderr == ""
    assert not (tmp_path / "run").exists()


def test_a_training_asks_the_command_with_options_by_their_names():
    given = {"backend": "jax", "trace_every": 5, "accept_data": True, "overwrite": False, "origin": "a b", "stop": None}
    assert list(api._options(given)) == ["--backend", "jax", "--trace-every", "5", "--accept-data", "--from", "a b"]


@pytest.mark.slow
def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    """docs/python.md as it stands: a comparison, what it left, a training, and an error; in one script without a
    guard."""
    page = (process.ROOT / "docs" / "python.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    program = "\n".join(block for block in blocks if "def test_" not in block and "runs/four" not in block)
    (tmp_path / "script.py").write_text(program + "\nprint('all of it')\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(process.ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout.splitlines()
    assert said[0].startswith("True Keras and JAX train the same") and said[-1] == "all of it"
    assert [line.split()[0] for line in said[1:7]] == ["P0", "P1", "P2", "P3", "P4", "P5"]
