"""What a verb may touch: what it made, which it knows by its name and marker; never a user's file, wherever it lies."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common import canonical, cli, export_formats, loop
from twinscale.common.checkpoints import Checkpoints
from twinscale.common.errors import BadInput
from twinscale.common.output import check_files, clear, remove_ours, sweep
from twinscale.common.recipe import Recipe
from twinscale.common.run import RUN, open_run
from twinscale.common.run_metrics import Logger
from twinscale.common.verbs.train import begun_from

RECIPE = Recipe(name="x", model={"family": "decoder"})
FOLDERS = ("checkpoints", "checkpoints/manifests", "trace", "trace/twin", "hosts", "data", "export", "export/state")
MADE = ("checkpoints/step_2/default/_METADATA", "checkpoints/step-2.index", "checkpoints/manifests/step_2.json",
        "trace/final.safetensors", "trace/twin/metrics.jsonl", "hosts/0.json", "hosts/1.stacks", "data/tokenizer.json",
        "export/state/index.json", "events.out.tfevents.1.here", "metrics.jsonl", ".metrics.jsonl.7.tmp")


class Store:
    """Writes nothing; what it would is of JAX's names."""

    NAMES = r"step_(\d+)(\.orbax-checkpoint-tmp.*)?"

    def __init__(self, path, state, devices):
        path.mkdir(parents=True, exist_ok=True)

    def close(self):
        pass


ROOM = SimpleNamespace(backend="jax", Store=Store, agree=lambda _, values: np.array(values)[None])
ONE = SimpleNamespace(host=0, hosts=1)


def filled(path, names=MADE):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}")


@pytest.fixture
def run(tmp_path):
    """The directory of an unfinished run."""
    open_run(tmp_path / "run", RECIPE, "jax").close("interrupted")
    return tmp_path / "run"


# ---- train

def test_overwriting_a_run_removes_all_of_it_and_nothing_else(run, theirs):
    filled(run)
    mine = theirs(run, FOLDERS)
    before = mine()
    open_run(run, RECIPE, "jax", overwrite=True).close("finished")
    assert mine() == before and not [name for name in MADE if (run / name).exists()]


def test_going_on_with_a_run_sweeps_only_what_it_has_left_itself(run, theirs):
    filled(run, (".run.json.7.tmp", "trace/.final.safetensors.7.tmp", "hosts/0.json", "checkpoints/step_3/half"))
    mine = theirs(run, FOLDERS)
    for name in ("checkpoints/step_best/x", "checkpoints/step_3.bak/x"):
        filled(run, [name])
    before = mine()
    with loop.open_together(ROOM, RECIPE, run, ONE, False, loop.Probe()) as opened:
        Checkpoints(opened, ROOM, RECIPE, 0, ONE).close()
        Logger(run).close()
    assert mine() == before and all((run / f"checkpoints/{name}/x").exists() for name in ("step_best", "step_3.bak"))
    assert not any((run / name).exists() for name in (
        ".run.json.7.tmp", "trace/.final.safetensors.7.tmp", "hosts/0.json", "checkpoints/step_3"))


@pytest.mark.parametrize("name", [*FOLDERS, "run.json", "metrics.jsonl", "recipe.toml", ".lock"])
def test_a_link_in_the_place_of_what_a_run_holds_is_never_followed(run, theirs, name, tmp_path):
    mine = theirs(tmp_path / "elsewhere", ("manifests", "twin", "state"))
    target, link = tmp_path / "elsewhere", run / name
    if name not in FOLDERS:
        target = tmp_path / "elsewhere" / name
        target.write_bytes((run / name).read_bytes() if (run / name).exists() else b"")
    filled(tmp_path / "elsewhere", ("step_9/x", "step-9.index", "final.safetensors", "0.json"))
    kept = {file: file.read_bytes() for file in tmp_path.glob("elsewhere/**/*") if file.is_file()} | mine()
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    with pytest.raises(BadInput, match="a link"):
        open_run(run, RECIPE, "jax")
    if name == ".lock":
        with pytest.raises(BadInput, match="a link"):
            open_run(run, RECIPE, "jax", overwrite=True)
    else:
        open_run(run, RECIPE, "jax", overwrite=True).close("finished")
        assert not link.is_symlink()
    assert {file: file.read_bytes() for file in kept} == kept


def test_metrics_are_not_appended_to_what_a_link_points_at(run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with Logger(run) as logger:
        (run / "metrics.jsonl").unlink()
        (run / "metrics.jsonl").symlink_to(tmp_path / "mine.txt")
        with pytest.raises(OSError):
            logger.log(1, {"train/loss": 1.0})
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_lock_of_another_program_is_left_as_it_is(tmp_path):
    (tmp_path / ".lock").write_text("pid=7 of mine")
    with pytest.raises(BadInput, match="another program's"):
        open_run(tmp_path, RECIPE, "jax")
    assert (tmp_path / ".lock").read_text() == "pid=7 of mine" and len(list(tmp_path.iterdir())) == 1


def test_a_run_may_lie_behind_a_link_that_the_user_names(run, tmp_path):
    (tmp_path / "latest").symlink_to(run)
    with open_run(tmp_path / "latest", RECIPE, "jax") as opened:
        assert opened.resumed
        checkpoints = Checkpoints(opened, ROOM, RECIPE, 0, ONE)
        assert checkpoints.path == run.resolve() / "checkpoints"
        checkpoints.close()


# ---- convert

def state_of(path, run, step=2):
    canonical.write(path, RECIPE, run, step, {"weights/a": np.full(3, step, np.float32)})


def a_run(tmp_path, name, **info):
    path = tmp_path / name
    with open_run(path, RECIPE, "jax") as opened:
        opened.info |= info
    return opened


def everything(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_state_replaces_an_earlier_one_of_its_run_and_nothing_else(tmp_path, theirs):
    one, other, state = a_run(tmp_path, "one"), a_run(tmp_path, "other"), tmp_path / "state"
    state_of(state, one)
    mine = theirs(state, ("data",))
    before = mine()
    state_of(state, one, 4)
    assert mine() == before and json.loads((state / "index.json").read_text())["step"] == 4
    (state / "index.json").unlink()  # as a kill leaves it
    state_of(state, one, 5)
    before = everything(state)
    with pytest.raises(BadInput, match="no earlier state of run"):  # of the same recipe, seed and backend
        state_of(state, other)
    assert everything(state) == before


def test_a_state_goes_into_no_run_and_no_folder_of_a_users(tmp_path, theirs, capsys):
    one, other = a_run(tmp_path, "one"), a_run(tmp_path, "other")
    mine = theirs(tmp_path / "folder")
    before = mine(), everything(other.path)
    (tmp_path / "file").write_text("mine")
    for target in ("folder", "other", "one", "file"):
        assert cli.main(["convert", str(one.path), "--to", str(tmp_path / target)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert (mine(), everything(other.path)) == before


def test_a_state_of_before_there_were_markers_is_known_by_what_it_computes(tmp_path):
    one, state = a_run(tmp_path, "one"), tmp_path / "state"
    state_of(state, one)
    (state / ".state").unlink()
    state_of(state, one)
    (state / ".state").unlink()
    with pytest.raises(BadInput, match="no earlier state"):
        canonical.write(state, RECIPE.with_values(seed=9), one, 2, {})


def test_what_is_wrong_with_a_run_is_said_of_it_and_not_of_a_folder_that_is_gone(tmp_path, monkeypatch):
    """A state is made of a run aside; here its process fails, or makes one of another training."""
    run = a_run(tmp_path, "one")

    def making(words, **_):
        state_of(words[-1], run)
        return SimpleNamespace(returncode=0)

    def failing(words, **_):
        return SimpleNamespace(returncode=2, stderr=f"twinscale: {words[-1]}/recipe.toml: is odd; mend it\n")

    monkeypatch.setattr(canonical.process, "run", making)
    with pytest.raises(BadInput) as caught:
        begun_from(str(run.path), RECIPE.with_values(train={"global_batch": 24}))
    assert str(caught.value).startswith(f"{run.path}: of another training (train.global_batch is ")
    assert begun_from(str(run.path), RECIPE)["step"] == 2
    monkeypatch.setattr(canonical.process, "run", failing)
    with pytest.raises(BadInput, match=f"^{run.path}: no state could be read there: {run.path}/recipe.toml: is odd"):
        canonical.model_of(run.path)
    with pytest.raises(OSError, match="/tmp/x"), canonical.named("/tmp/x", run.path):  # where there is no room
        raise OSError(28, "No space left on device", "/tmp/x/state.safetensors")


# ---- what all of them are made of

def test_an_export_removes_its_formats_alone(tmp_path, theirs):
    out = tmp_path / "out"
    clear(out, export_formats.KIND, {"verb": "export"}, False)
    made = ("export.json", "savedmodel/saved_model.pb", "model.keras", ".int8.tflite.tmp", "safetensors/config.json")
    filled(out, made)
    mine = theirs(out)
    (out / "float.tflite").symlink_to(tmp_path / "out-of-mine" / "mine.txt")
    before = mine()
    with pytest.raises(BadInput, match="--overwrite"):
        clear(out, export_formats.KIND, {"verb": "export"}, False)
    clear(out, export_formats.KIND, {"verb": "export"}, True)
    assert mine() == before and not any((out / name).exists() for name in (*made, "float.tflite"))


def test_a_marker_that_a_kill_cut_short_or_that_is_no_file_makes_nothing_ours(tmp_path):
    filled(tmp_path / "out", ("..export.7.tmp",))
    clear(tmp_path / "out", export_formats.KIND, {"verb": "export"}, False)
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".export"]
    filled(tmp_path / "mine", ("..state.7.tmp", "mine.txt"))
    with pytest.raises(BadInput, match="no earlier state"):
        state_of(tmp_path / "mine", a_run(tmp_path, "one"))
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / ".state")  # of which the opening alone would wait
    with pytest.raises(BadInput, match="no earlier state"):
        state_of(tmp_path / "pipe", a_run(tmp_path, "two"))


def test_halves_of_other_names_and_behind_links_are_not_swept(run, theirs, tmp_path):
    theirs(run, FOLDERS)
    (tmp_path / "far").mkdir()
    filled(tmp_path / "far", (".index.json.7.tmp",))
    shutil.rmtree(run / "export")
    (run / "export").symlink_to(tmp_path / "far")
    remaining = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    filled(run, (".recipe.toml.7.tmp", "data/.files.txt.7.tmp"))
    sweep(run, RUN)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == remaining


def test_a_removed_directory_that_holds_more_stays_with_it(tmp_path):
    filled(tmp_path, ("data/tokenizer.json", "data/mine", "hosts/0.json"))
    remove_ours(tmp_path, RUN)
    assert [file.name for file in tmp_path.rglob("*")] == ["data", "mine"]


@pytest.mark.parametrize("content", ["of mine", "{}", "[]", "[" * 10**5, '{"sides": {}}', None])
def test_a_single_file_is_replaced_only_where_it_is_an_earlier_answer(tmp_path, content):
    file = tmp_path / "bench.json"
    if content is None:  # one of ours, elsewhere
        (tmp_path / "far.json").write_text('{"sides": {}, "machine": {}}')
        file.symlink_to(tmp_path / "far.json")
    else:
        file.write_text(content)
    with pytest.raises(BadInput, match=r"bench\.json there is not ours"):
        check_files(tmp_path, ["bench.json"], ("sides", "machine"), True)
    file.unlink()
    file.write_text('{"sides": {}, "machine": {}}')
    check_files(tmp_path, ["bench.json"], ("sides", "machine"), True)
    with pytest.raises(BadInput, match="--overwrite"):
        check_files(tmp_path, ["bench.json"], ("sides", "machine"), False)
    (tmp_path / "report.html").write_text("mine")
    file.unlink()
    with pytest.raises(BadInput, match=r"report\.html there is not ours"):
        check_files(tmp_path, ["bench.json", "report.html"], ("sides", "machine"), True)


def test_the_file_that_a_verb_is_told_to_write_is_no_other_programs(tmp_path, capsys):
    (tmp_path / "d.json").write_text("mine")
    assert cli.main(["doctor", "--out", str(tmp_path / "d.json")]) == 2
    assert (tmp_path / "d.json").read_text() == "mine" and "not ours" in capsys.readouterr().err
