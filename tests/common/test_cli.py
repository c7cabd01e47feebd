"""The command line: one door, one clear line a failure, no framework until a verb needs it."""

import importlib
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from twinscale.common import cli
from twinscale.common.errors import BadInput, NonFinite
from twinscale.common.run import open_run

HEAVY = ["tensorflow", "keras", "jax", "flax", "optax", "numpy", "pydantic", "rich", "tfscale", "jaxscale"]
RECIPE = 'name = "x"\n[model]\nfamily = "decoder"\n'


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("twinscale.common.recipe_file.RECIPES", tmp_path)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def room(monkeypatch):
    """Puts functions in the place of rooms; returns the calls they got."""
    calls, real = [], importlib.import_module

    def install(name, outcome=None):
        def call(recipe, **options):
            calls.append((name, recipe, options, os.environ.get("KERAS_BACKEND")))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        def find(wanted, *rest):
            return SimpleNamespace(train=call, compare=call) if wanted == f"twinscale.{name}" else real(wanted, *rest)
        monkeypatch.setattr(importlib, "import_module", find)
        return calls
    return install


def lines(capsys):
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return out, err.splitlines()


# ---- speed

@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["train", "--help"], ["compare", "--help"],
                                       ["recipe", "show", "--help"], ["doctor", "--help"],
                                       ["export", "--help"], ["predict", "--help"]])
def test_help_imports_no_framework_and_nothing_slow(arguments):
    program = ("import sys; from twinscale.common.cli import main; code = main(sys.argv[1:]); "
               f"print(code, [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.stderr == "0 []\n" and done.stdout


@pytest.mark.parametrize("verb", [["train"], ["compare"], ["recipe", "show"], ["recipe", "schema"], ["schema"],
                                  ["doctor"], ["bisect"], ["audit"], ["export"], ["predict"]])
def test_each_verbs_help_has_an_example(verb, capsys):
    assert cli.main([*verb, "--help"]) == 0
    assert f"\n    twinscale {' '.join(verb)}" in capsys.readouterr().out


def test_the_hidden_option_is_hidden(capsys):
    cli.main(["compare", "--help"])
    assert "plant" not in capsys.readouterr().out


# ---- verbs

def test_train_hands_a_validated_recipe_to_the_room_of_its_backend(work, room, capsys):
    calls = room("tfscale.room")
    assert cli.main(["train", "r.toml", "train.steps=7", "--backend", "keras", "--run", "runs/k", "--overwrite",
                     "--precision", "float64"]) == 0
    (_, recipe, options, keras), = calls
    assert (recipe.train.steps, recipe.train.precision, keras) == (7, "float64", "tensorflow")
    assert str(options["run_dir"]) == "runs/k" and options["overwrite"] is True
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    out, err = lines(capsys)
    assert out == "" and err == [
        "twinscale: next: twinscale compare r.toml train.steps=7 --precision float64 --out build/x"]


def test_train_on_jax_leaves_keras_alone(work, room):
    calls = room("jaxscale.room")
    assert cli.main(["train", "r.toml", "--backend", "jax", "--run", "runs/j"]) == 0
    assert calls[0][3] == "jax" and "TF_CPP_MIN_LOG_LEVEL" not in os.environ


@pytest.mark.parametrize("verdict, code", [(0, 0), (1, 1), (3, 3), (None, 0)])
def test_compares_exit_code_is_the_verdict(work, room, verdict, code):
    calls = room("benchmarks.compare", verdict)
    assert cli.main(["compare", "r.toml", "seed=5", "--out", "o", "--plant", "jax:no_bias_correction"]) == code
    assert calls[0][1].seed == 5 and calls[0][2]["plant"] == "jax:no_bias_correction" and not calls[0][2]["overwrite"]


def test_show_prints_toml_or_json_on_stdout_and_talks_on_stderr(work, capsys):
    assert cli.main(["recipe", "show", "r.toml", "seed=5"]) == 0
    out, err = lines(capsys)
    assert "seed = 5" in out and "# override" in out
    assert err[0].startswith("twinscale: next: twinscale train r.toml seed=5")
    assert cli.main(["recipe", "show", "r.toml", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema_version"] == 1 and shown["origins"]["name"] == "r.toml" and len(shown["hash"]) == 64


def test_schema_describes_every_table(capsys):
    assert cli.main(["recipe", "schema"]) == 0
    assert {"data", "model", "train"} <= json.loads(capsys.readouterr().out)["properties"].keys()


def test_schema_of_a_result_is_printed_by_its_name_and_of_no_other(capsys):
    assert cli.main(["schema", "verdict"]) == 0
    assert {"agrees", "rungs", "sentence"} <= json.loads(capsys.readouterr().out)["properties"].keys()
    assert cli.main(["schema", "verdit"]) == 2
    assert "schema='verdit'" in (said := capsys.readouterr().err) and "preflight" in said


# ---- failures

@pytest.mark.parametrize("arguments, words", [
    (["train", "no.toml", "--backend", "jax", "--run", "d"], "no.toml: no such recipe file"),
    (["train", "r.toml", "train.step=1", "--backend", "jax", "--run", "d"], 'did you mean "train.steps"?'),
    (["train", "r.toml", "--backend", "jax", "--run", "d", "--precision", "float16"], "train.precision"),
    (["train", "r.toml", "--backend", "jax", "--run", "r.toml"], "a file, but a run is a directory"),
    (["train", "r.toml", "--backend", "jax", "--run", "."], "not a run"),
    (["train", "r.toml", "--backend", "kears", "--run", "d"], "'keras', 'jax'"),
    (["train", "r.toml", "--backend", "jax"], "--run"),
    (["compare", "r.toml", "seed=-1", "--out", "d"], "override: seed = -1: expected 0 or more"),
    (["recipe", "show", "r.toml", "--bogus"], "--bogus"),
    (["trian"], "Did you mean 'train'?"),
    (["recipe"], "Missing command"),
])
def test_bad_input_is_one_line_and_exit_2_and_writes_nothing(work, room, capsys, arguments, words):
    calls = room("jaxscale.room")
    assert cli.main(arguments) == 2
    out, err = lines(capsys)
    assert not out and len(err) == 1 and err[0].startswith("twinscale: ") and words in err[0]
    assert not calls and [p.name for p in work.iterdir()] == ["r.toml"]


def test_a_finished_run_is_refused_before_a_framework_is_loaded(work, room, capsys):
    calls = room("jaxscale.room")
    from twinscale.common.recipe_file import load
    open_run(work / "d", load("r.toml"), "jax").close("finished")
    assert cli.main(["train", "r.toml", "--backend", "jax", "--run", "d"]) == 2 and not calls
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("outcome, code, words", [
    (BadInput("r.toml: wrong"), 2, "r.toml: wrong"),
    (NonFinite("loss became NaN at step 3"), 1, "loss became NaN at step 3"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (ModuleNotFoundError("", name="flax.nnx"), 4, "flax.nnx is not installed; pip install 'twinscale[jax]'"),
    (ModuleNotFoundError("", name="tf_keras"), 4, "tf_keras is not installed; pip install 'twinscale[cpu]'"),
    (ModuleNotFoundError("", name="scipy"), 4, "scipy is not installed; pip install 'twinscale'"),
])
def test_what_a_room_raises_becomes_one_line_and_its_exit_code(work, room, capsys, outcome, code, words):
    room("jaxscale.room", outcome)
    assert cli.main(["train", "r.toml", "--backend", "jax", "--run", "d"]) == code
    assert lines(capsys)[1] == [f"twinscale: {words}"]


def test_a_reader_that_leaves_early_causes_no_traceback(work):
    program = "import sys; from twinscale.common.cli import main; sys.exit(main(['recipe', 'schema']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1 and b"Error" not in said


@pytest.mark.parametrize("words, place", [
    (["train", "r.toml", "--backend", "jax", "--run", "out", "--from", ""], "--from"),
    (["plan", "--flops", "1e21", "--topology", "v5e-256", "--prices="], "--prices"),
    (["recipe", "show", ""], "argument 3")])
def test_an_empty_word_is_refused_and_not_left_out(words, place, work, capsys):
    """A variable that is not set, `--from "$RUN"`, must not start a training anew."""
    assert cli.main(words) == 2
    assert lines(capsys)[1] == [f"twinscale: {place}: empty: name what is meant, or leave it out"]
    assert not (work / "out").exists()


def test_a_message_about_a_hostile_name_moves_nothing_on_the_terminal(capsys, tmp_path):
    name = str(tmp_path / "a\x1b[2J\u202e\rb\nc")
    for words in (["convert", name, "--to", "x"], ["train", name, "--backend", "jax", "--run", name],
                  ["predict", name, "--input", name], ["plan", "--flops", "1e21", "--topology", name],
                  ["plan", "--flops", "1e21", "--topology", "v5e-4", "--law", name], ["bisect", name], [name]):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert said and said.replace("\n", "").isprintable()
