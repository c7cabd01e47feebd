"""A disk that is full, read-only or limited: one line with its code, and what went wrong first is what is said."""

import errno

import pytest

from tests.common.mounts import COMPRESSED, RECIPE, may_mount, twinscale
from twinscale.common.errors import CannotSave
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import run
from twinscale.common.training.run import open_run

TMPFS = 'mount -t tmpfs -o "size=$1" tmpfs "$2"'


def test_a_run_that_cannot_write_how_it_ended_leaves_the_word_to_why(tmp_path, monkeypatch):
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"}})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CannotSave, match="^of step 5$"), open_run(tmp_path, recipe, "jax"):
        monkeypatch.setattr(run, "write_json", full)
        raise CannotSave("of step 5")
    monkeypatch.undo()
    open_run(tmp_path, recipe, "jax").close("interrupted")  # nobody holds it


@pytest.mark.slow
@may_mount
@pytest.mark.parametrize("backend, size, before", [("jax", "64k", None), ("jax", "230k", 10), ("keras", "40k", None),
                                                   ("keras", "120k", 10)])
def test_a_training_whose_disk_is_full_says_one_line_and_keeps_what_was_saved(tmp_path, backend, size, before):
    (tmp_path / "r.toml").write_text(RECIPE)
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["train", tmp_path / "r.toml", "--backend", backend, "--run", disk / "run"]
    keep = ["sh", "-c", '"$@"; code=$?; ls "$0"; exit $code', disk / "run" / "checkpoints" / "manifests"]
    done = twinscale((TMPFS, (size, disk)), *words, after=keep)
    said = [line for line in done.stderr.splitlines() if not line.startswith(("step ", "ls: "))]
    assert done.returncode == 74 and len(said) == 1, done.stderr
    assert f"of step {before}, is there: make room" in said[0] if before else "there is none before" in said[0]
    assert (f"step_{before}.json" in done.stdout.split()) == bool(before)


@pytest.mark.slow
@may_mount
@pytest.mark.parametrize("verb, backend, size", [("compress", "jax", "200k"), ("compress", "keras", "150k"),
                                                 ("compare", None, "700k")])
def test_a_disk_that_is_full_stops_any_other_verb_with_one_line_and_the_same_command_goes_on_with_room(
        tmp_path, verb, backend, size):
    (tmp_path / "r.toml").write_text(COMPRESSED if backend else RECIPE)
    disk, run = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    words = ["compare", tmp_path / "r.toml", "--out", disk / "out"]
    if backend:
        assert twinscale(("true", ()), "train", tmp_path / "r.toml", "--backend", "jax", "--run", run).returncode == 0
        words = ["compress", run, "--recipe", tmp_path / "r.toml", "--backend", backend, "--out", disk / "out"]
    again = 'code=$?; mount -o remount,size=50m "$0"; "$@" 2>&1 && ls "$0/out"; exit $code'
    done = twinscale((TMPFS, (size, disk)), *words, after=["sh", "-c", f'"$@"; {again}', disk])
    said = [line for line in done.stderr.splitlines() if "twinscale: " in line]
    assert done.returncode == 74 and len(said) == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in said[0] and "make room, then run the same command again" in said[0]
    assert "report.html" in done.stdout.split() and "Traceback" not in done.stdout, done.stdout
