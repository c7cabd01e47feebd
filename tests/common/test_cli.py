"""The command line: one door, one clear line a failure, no framework until a verb needs it."""

import os
import subprocess
import sys

import pytest

from twinscale.common import cli
from twinscale.common.errors import BadInput, NonFinite
from twinscale.common.training.run import open_run

HEAVY = ["tensorflow", "keras", "jax", "flax", "optax", "numpy", "pydantic", "rich", "tfscale", "jaxscale"]


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
def test_bad_input_is_one_line_and_exit_2_and_writes_nothing(work, room, lines, arguments, words):
    calls = room("jaxscale.room")
    assert cli.main(arguments) == 2
    out, err = lines()
    assert not out and len(err) == 1 and err[0].startswith("twinscale: ") and words in err[0]
    assert not calls and [p.name for p in work.iterdir()] == ["r.toml"]


def test_a_finished_run_is_refused_before_a_framework_is_loaded(work, room, capsys):
    calls = room("jaxscale.room")
    from twinscale.common.recipe.file import load
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
def test_what_a_room_raises_becomes_one_line_and_its_exit_code(work, room, lines, outcome, code, words):
    room("jaxscale.room", outcome)
    assert cli.main(["train", "r.toml", "--backend", "jax", "--run", "d"]) == code
    assert lines()[1] == [f"twinscale: {words}"]


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
def test_an_empty_word_is_refused_and_not_left_out(words, place, work, lines):
    """A variable that is not set, `--from "$RUN"`, must not start a training anew."""
    assert cli.main(words) == 2
    assert lines()[1] == [f"twinscale: {place}: empty: name what is meant, or leave it out"]
    assert not (work / "out").exists()


def test_a_message_about_a_hostile_name_moves_nothing_on_the_terminal(capsys, tmp_path):
    name = str(tmp_path / "a\x1b[2J\u202e\rb\nc")
    for words in (["convert", name, "--to", "x"], ["train", name, "--backend", "jax", "--run", name],
                  ["predict", name, "--input", name], ["plan", "--flops", "1e21", "--topology", name],
                  ["plan", "--flops", "1e21", "--topology", "v5e-4", "--law", name], ["bisect", name], [name]):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert said and said.replace("\n", "").isprintable()
