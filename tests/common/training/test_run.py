"""The run directory: whole files, one writer, nothing overwritten unasked."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from twinscale.common.errors import BadInput
from twinscale.common.files.access import write_bytes, write_json
from twinscale.common.recipe.file import load
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.run import check_run, open_run, read_run

RECIPE = Recipe(name="x", model={"family": "decoder"})


def contents(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"}


def refusal(path, recipe=RECIPE, backend="jax", **options):
    before = contents(path) if path.is_dir() else None
    with pytest.raises(BadInput) as caught:
        open_run(path, recipe, backend, **options)
    assert before is None or contents(path) == before, "a refusal writes nothing"
    return str(caught.value)


@pytest.fixture
def finished(tmp_path):
    path = tmp_path / "run"
    with open_run(path, RECIPE, "jax") as run:
        run.update(final={"eval/loss": 1.5})
        (path / "checkpoints").mkdir()
        (path / "checkpoints" / "step-1.index").write_text("weights")
    return path


# ---- whole or absent

def test_a_crash_while_writing_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "made" / "here.json"
    write_json(path, {"a": 1})
    old = path.read_bytes()

    def crash(*_):
        raise OSError("power cut")
    for broken in ("replace", "fsync"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
            patch.setattr(os, broken, crash)
            write_json(path, {"a": 2})
        assert path.read_bytes() == old and [p.name for p in path.parent.iterdir()] == ["here.json"]


def test_what_a_kill_left_half_written_is_swept_away_by_the_next_start(tmp_path):
    open_run(tmp_path / "run", RECIPE, "jax").close("interrupted")
    for name in (".run.json.77.tmp", "trace/.final.safetensors.77.tmp"):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text("half")
    open_run(tmp_path / "run", RECIPE, "jax").close("interrupted")
    assert not list((tmp_path / "run").rglob(".*.tmp"))


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "x.json", {})
    assert caught.value.filename == str(tmp_path / "x.json")


def test_json_stays_json_whatever_numbers_come_in(tmp_path):
    write_json(tmp_path / "x.json",
               {1: np.float32(0.5), "a": np.arange(2), "n": math.nan, "p": Path("/x"), "i": -math.inf})
    assert json.loads((tmp_path / "x.json").read_text()) == {"1": 0.5, "a": [0, 1], "n": None, "p": "/x", "i": None}


def test_new_files_have_the_permissions_others_expect(tmp_path):
    write_bytes(tmp_path / "a", b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


# ---- states

def test_a_run_records_what_it_is_and_how_it_ended(finished):
    info = read_run(finished)
    assert info["state"] == "finished" and info["backend"] == "jax" and info["recipe_hash"] == RECIPE.hash
    assert info["versions"]["numpy"] == np.__version__ and info["final"] == {"eval/loss": 1.5} and info["ended"]
    assert load(finished / "recipe.toml").hash == RECIPE.hash


@pytest.mark.parametrize("error, state", [(KeyboardInterrupt(), "interrupted"), (ValueError("a\nb"), "failed")])
def test_an_unfinished_run_is_resumed_and_its_times_are_kept(tmp_path, error, state):
    path = tmp_path / "run"
    with pytest.raises(type(error)), open_run(path, RECIPE, "jax") as run:
        run.update(seconds={"compile": 3})
        raise error
    assert read_run(path)["state"] == state
    with open_run(path, RECIPE, "jax") as run:
        assert run.resumed and run.info["state"] == "running" and "error" not in run.info
        run.update(seconds={"train": 4})
    assert read_run(path)["seconds"] == {"compile": 3, "train": 4} and read_run(path)["starts"] == 2


@pytest.mark.parametrize("values", [
    {"saved": -1}, {"final": {"loss": "2"}}, {"devices": None}, {"data": {"sha256": 3}}])
def test_what_nobody_could_read_back_is_found_by_who_writes_it(tmp_path, values):
    """By the same type as the reader's, and after it is written; what is not finite is null, and right."""
    run = open_run(tmp_path, RECIPE, "jax")
    run.update(saved=1, final={"loss": np.float32(math.nan), "accuracy": np.float32(0.5)})
    assert read_run(tmp_path)["final"] == {"loss": None, "accuracy": 0.5}
    with pytest.raises(ValidationError):
        run.update(**values)
    with pytest.raises(BadInput, match=f"run.json: {next(iter(values))}"):
        read_run(tmp_path)


def test_a_finished_run_is_never_overwritten_unasked(finished):
    assert "holds a finished run; choose another directory or pass --overwrite" in refusal(finished)
    with open_run(finished, RECIPE, "jax", overwrite=True) as run:
        assert not run.resumed and not (finished / "checkpoints").exists() and run.info["final"] == {}


def test_a_run_of_another_recipe_or_backend_is_refused_with_what_differs(finished):
    other = RECIPE.with_values(train={"steps": 7}, seed=3)
    message = refusal(finished, other)
    assert "train.steps is 100 there and 7 here" in message and "seed is 0 there and 3 here" in message
    assert "made by backend jax, not keras" in refusal(finished, backend="keras")
    open_run(finished, other, "keras", overwrite=True).close("finished")
    assert read_run(finished)["backend"] == "keras"


def test_resuming_can_be_forbidden(tmp_path):
    open_run(tmp_path / "run", RECIPE, "jax").close("interrupted")
    assert "unfinished" in refusal(tmp_path / "run", resume=False)


@pytest.mark.parametrize("options", [{}, {"overwrite": True}])
def test_a_directory_that_is_no_run_is_never_touched(tmp_path, options):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not a run" in refusal(tmp_path, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    for text in ("{", "[]", "{}", '{"schema_version": 99}', "[" * 10**5):
        (tmp_path / "run.json").write_text(text)
        assert "run.json" in refusal(tmp_path, **options)
    assert "a file" in refusal(tmp_path / "thesis.txt", **options)
    assert "cannot be" in refusal(tmp_path / "thesis.txt" / "run", **options)


def test_overwriting_does_not_follow_links_out_of_the_run(finished, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("1")
    (finished / "trace").symlink_to(tmp_path / "precious")
    open_run(finished, RECIPE, "jax", overwrite=True).close("finished")
    assert (tmp_path / "precious" / "data").exists() and not (finished / "trace").exists()


def test_a_removal_that_was_cut_short_is_not_taken_for_a_run(finished, monkeypatch):
    def crash(_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("twinscale.common.files.output.remove", crash)
        open_run(finished, RECIPE, "jax", overwrite=True)
    assert "removal was cut short" in refusal(finished)
    open_run(finished, RECIPE, "jax", overwrite=True).close("finished")


def test_the_check_writes_nothing(tmp_path):
    assert check_run(tmp_path / "a" / "b", RECIPE, "jax") is None and not list(tmp_path.iterdir())


# ---- one writer

HOLD = """
import sys
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.run import open_run
run = open_run(sys.argv[1], Recipe(name="x", model={"family": "decoder"}), "jax")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert f"process {holder.pid} is writing it" in refusal(path)
        assert "is writing it" in refusal(path, overwrite=True)
        holder.kill()
    assert read_run(path)["state"] == "running"  # it had no time to say otherwise
    with open_run(path, RECIPE, "jax") as run:
        assert run.resumed
