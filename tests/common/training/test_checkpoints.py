"""Which checkpoints count, which are kept and which is taken, over a backend that saves one number in two files."""

import json
import math
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.errors import CannotSave, NoCheckpoint
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.checkpoints import Checkpoints, sha256
from twinscale.common.training.run import open_run

RECIPE = Recipe(name="x", model={"family": "decoder"})


class Store:
    """A state is an integer; `broken` is raised where a save is waited for, `begin` and `gate` hold it up."""

    broken, gate, NAMES = None, None, r"step_(\d+)\.[ab]"

    def __init__(self, path, state, devices):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, step, state):
        for part in "ab":
            (self.path / f"step_{step}.{part}").write_text(f"{part}{state}" * 100)

    def wait(self):
        if Store.gate:
            Store.gate.wait()
        if Store.broken:
            raise Store.broken

    def read(self, step, state):
        return int((self.path / f"step_{step}.a").read_text().split("a")[1])

    def files(self, step):
        return sorted(self.path.glob(f"step_{step}.*"))

    def delete(self, step):
        for file in self.files(step):
            file.unlink()

    def close(self):
        pass


@pytest.fixture(autouse=True)
def whole():
    yield
    Store.broken, Store.gate = None, None


def room(agree=None):
    return SimpleNamespace(backend="jax", Store=Store, agree=agree or (lambda _, values: np.array(values)[None]),
                           is_lost=lambda error: "peer" in str(error))


ONE = SimpleNamespace(host=0, hosts=1)


@pytest.fixture
def run(tmp_path):
    with open_run(tmp_path / "run", RECIPE, "jax") as opened:
        yield opened


def opened(run, recipe=RECIPE, **options):
    return Checkpoints(run, room(**options), recipe, 0, ONE)


def saved(run, *steps, recipe=RECIPE, held_out=None):
    checkpoints = opened(run, recipe)
    for step in steps:
        checkpoints.save(step, step, (held_out or {}).get(step))
    checkpoints.close()
    return checkpoints


def listed(run):
    return sorted(int(file.stem[5:]) for file in (run.path / "checkpoints" / "manifests").glob("*.json"))


def test_a_save_counts_once_its_manifest_is_written(run):
    Store.gate = threading.Event()
    checkpoints = opened(run)
    checkpoints.save(5, 5)
    assert list((run.path / "checkpoints").glob("step_5.*")) and not listed(run) and not checkpoints.written
    Store.gate.set()
    checkpoints.settle()
    assert listed(run) == [5] and run.info["saved"] == 5
    assert opened(run).restore(0) == 5


def test_a_run_named_from_here_is_saved_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_run("here", RECIPE, "jax") as here:
        assert not here.path.is_absolute()
        saved(here, 5)
        assert opened(here).restore(0) == 5 and all(file.is_absolute() for file in [opened(here).path])


def spoil(run, step):
    """A file that the library cannot read, of which the manifest says just that."""
    root = run.path / "checkpoints"
    file, manifest = root / f"step_{step}.a", root / "manifests" / f"step_{step}.json"
    file.write_text("\x1b[31m")
    told = json.loads(manifest.read_text())
    told["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    manifest.write_text(json.dumps(told))


def test_what_cannot_be_loaded_is_said_and_the_one_before_taken(run, capsys):
    saved(run, 5, 6)
    spoil(run, 6)
    assert opened(run).restore(0) == 5 and listed(run) == [5] and run.info["saved"] == 5
    said = capsys.readouterr().err
    assert "step 6 is not whole (cannot be loaded (IndexError" in said and "\x1b" not in said


def test_where_none_can_be_loaded_none_is_whole_and_all_stay(run):
    saved(run, 5, 6)
    spoil(run, 5)
    spoil(run, 6)
    with pytest.raises(NoCheckpoint, match="none is whole"):
        opened(run).restore(0)
    assert listed(run) == [5, 6]


def test_what_was_never_committed_is_swept_away_and_not_taken(run):
    saved(run, 5)
    Store.write(SimpleNamespace(path=run.path / "checkpoints"), 7, 7)  # a kill came before the manifest
    checkpoints = opened(run)
    assert checkpoints.restore(0) == 5 and not list((run.path / "checkpoints").glob("step_7*"))


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def link(file):
    copy = file.with_suffix(".elsewhere")
    file.rename(copy)
    file.symlink_to(copy)


SPOILT = {"flipped": flip, "cut": lambda f: os.truncate(f, 10), "zeroed": lambda f: f.write_bytes(bytes(200)),
          "gone": lambda f: f.unlink(), "linked": link}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_file_is_named_and_the_checkpoint_before_is_taken(run, capsys, how):
    saved(run, 5, 6)
    SPOILT[how](run.path / "checkpoints" / "step_6.b")
    checkpoints = opened(run)
    assert checkpoints.restore(0) == 5
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "step_6.b" in said[0] and "step 6 is not whole" in said[0]
    checkpoints.save(6, 66)  # the step comes again, and the spoilt one is not in its way
    checkpoints.close()
    assert listed(run) == [5, 6] and opened(run).restore(0) == 66


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 1, "step": 6, "files": {}}', "[" * 10**5])
def test_a_torn_manifest_is_no_manifest(run, text):
    saved(run, 5, 6)
    (run.path / "checkpoints" / "manifests" / "step_6.json").write_text(text)
    assert opened(run).restore(0) == 5


def test_a_manifest_that_lists_no_file_or_only_some_is_no_whole_one(run, monkeypatch):
    saved(run, 5, 6)
    manifest = run.path / "checkpoints" / "manifests" / "step_6.json"
    said = json.loads(manifest.read_text())
    assert len(said["files"]) == said["count"] == 2 and opened(run).problem(6) is None
    some = {"step_6.a": said["files"]["step_6.a"]}
    for counted in (True, False):  # earlier versions did not count
        for files in ({}, some):
            kept = {key: value for key, value in said.items() if counted or key != "count"}
            manifest.write_text(json.dumps({**kept, "files": files}))
            assert opened(run).problem(6)
    assert opened(run).restore(0) == 5

    monkeypatch.setattr(Store, "files", lambda *_: [])
    checkpoints = opened(run)
    checkpoints.save(7, 7)
    with pytest.raises(CannotSave, match="nothing of step 7 is there"):
        checkpoints.settle()
    assert 7 not in listed(run)


def test_where_none_is_whole_nothing_starts_over(run):
    saved(run, 5, 6)
    for file in (run.path / "checkpoints").glob("step_*.a"):
        flip(file)
    with pytest.raises(NoCheckpoint, match="the last after step 6, and none is whole"):
        opened(run).restore(0)
    for file in (run.path / "checkpoints").rglob("*.json"):
        file.unlink()
    with pytest.raises(NoCheckpoint):  # run.json remembers
        opened(run).restore(0)
    assert list((run.path / "checkpoints").glob("step_6*"))  # what may be of use to somebody is left


def test_a_manifest_cannot_point_out_of_the_run(run, tmp_path):
    saved(run, 5, 6)
    manifest = run.path / "checkpoints" / "manifests" / "step_6.json"
    said = json.loads(manifest.read_text())
    secret = tmp_path / "secret"
    secret.write_text("x")
    for name in ("../../secret", str(secret)):
        manifest.write_text(json.dumps({**said, "files": {**said["files"], name: {"bytes": 1, "sha256": ""}}}))
        assert "no regular file of this run" in opened(run).problem(6)
    assert opened(run).restore(0) == 5


def test_the_checkpoint_of_another_training_is_not_taken(run):
    saved(run, 5)
    with pytest.raises(NoCheckpoint):
        opened(run, RECIPE.with_values(optimizer={"beta2": 0.9})).restore(0)


# ---- retention


def test_the_newest_and_the_best_are_kept(run):
    recipe = RECIPE.with_values(train={"keep": 2, "keep_best": 2})
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: math.nan, 5: 2.5, 6: 4.0, 7: -math.inf}
    saved(run, 1, 2, 3, 4, 5, 6, 7, 8, recipe=recipe, held_out=losses)
    assert listed(run) == [2, 3, 7, 8]  # what is not finite is never best
    assert {file.name.split(".")[0] for file in (run.path / "checkpoints").glob("step_*.*")} == {
        f"step_{step}" for step in (2, 3, 7, 8)}


def test_retention_takes_a_checkpoint_off_the_list_before_its_files(run, monkeypatch):
    saved(run, 1, 2)

    def dies(self, step):
        assert step not in listed(run)
        raise OSError("power cut")

    with monkeypatch.context() as patch, pytest.raises(CannotSave):
        checkpoints = opened(run)
        checkpoints.save(3, 3)
        checkpoints.writing[2].result()
        patch.setattr(Store, "delete", dies)
        checkpoints.settle()
    assert listed(run) == [2, 3] and opened(run).restore(0) == 3


# ---- failures in the background


def test_a_save_that_fails_in_the_background_is_an_error_at_the_next_step(run):
    saved(run, 5)
    Store.broken = OSError(28, "No space left on device")
    checkpoints = opened(run)
    checkpoints.save(6, 6)
    checkpoints.thread.submit(int).result()  # after the save, in the same thread
    with pytest.raises(CannotSave, match="step 6 could not be saved .*No space left.* of step 5, is there"):
        checkpoints.poll(1)
    assert listed(run) == [5] and opened(run).restore(0) == 5


def test_the_failure_of_the_last_save_is_not_lost(run):
    Store.broken = OSError("disk")
    checkpoints = opened(run)
    checkpoints.save(6, 6)
    with pytest.raises(CannotSave):
        checkpoints.close()


def test_a_host_that_is_gone_is_not_called_a_full_disk(run):
    Store.broken = ValueError("Connection closed by peer")
    checkpoints = Checkpoints(run, room(), RECIPE, 0, SimpleNamespace(host=0, hosts=2))
    checkpoints.save(6, 6)
    with pytest.raises(ValueError, match="peer"):
        checkpoints.settle()


def test_what_a_kill_kept_retention_from_is_done_at_the_end_of_the_next_start(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "expendable", lambda self: [])
        saved(run, 1, 2, 3)
    run.update(saved=2)  # nor was the commit of the last one noted
    checkpoints = opened(run)
    assert checkpoints.restore(0) == 3 and run.info["saved"] == 3 and listed(run) == [1, 2, 3]
    checkpoints.close()
    assert listed(run) == [2, 3]


def test_a_step_is_saved_once(run, monkeypatch):
    saved(run, 5)
    monkeypatch.setattr(Store, "write", lambda *_: pytest.fail("written again"))
    saved(run, 5)


# ---- several hosts


def test_hosts_go_on_from_the_greatest_step_that_all_of_them_have(run, capsys):
    saved(run, 5, 6, recipe=RECIPE.with_values(train={"keep": 3}))

    def agree(_, values):
        theirs = [-1] * 31 + [5] if len(values) == 32 else values  # the other host has not seen 6
        return np.array([values, theirs])

    assert opened(run, agree=agree).restore(0) == 5
    assert "not every host has the checkpoint of step 6" in capsys.readouterr().err and listed(run) == [5]


def test_nothing_is_committed_before_every_host_has_written(run):
    checkpoints = Checkpoints(run, room(), RECIPE, 0, SimpleNamespace(host=0, hosts=2))
    checkpoints.save(5, 5)
    checkpoints.writing[2].result()
    checkpoints.poll(1)
    assert checkpoints.written and not listed(run)
    checkpoints.poll(2)
    checkpoints.settle()
    assert listed(run) == [5]


def test_the_clock_decides_on_the_first_host_alone(run, monkeypatch):
    recipe = RECIPE.with_values(train={"save_minutes": 1.0})
    now = [100.0]
    monkeypatch.setattr("twinscale.common.training.checkpoints.time.monotonic", lambda: now[0])
    first = Checkpoints(run, room(), recipe, 0, SimpleNamespace(host=0, hosts=2))
    second = Checkpoints(run, room(), recipe, 0, SimpleNamespace(host=1, hosts=2))
    now[0] += 59
    assert not first.overdue()
    now[0] += 2
    assert first.overdue() and not second.overdue()
    first.save(5, 5)
    assert not first.overdue()
    first.settle()


# ---- manifests


@pytest.mark.parametrize("change, said", [
    ({"backend": "keras"}, "of the backend keras"), ({"backend": "torch"}, 'backend = "torch"'),
    ({"step": True}, "step = true"), ({"step": 10**30}, "step = 1000"), ({"held_out": "1"}, 'held_out = "1"'),
    ({"held_out": True}, "held_out = true"), ({"files": []}, "files = a list"), ({"files": {"a": 3}}, "files.a = 3"),
    ({"seed": None}, "seed = null"), ({"schema_version": 2}, "schema_version = 2"),
    ({"meaning": {}}, "meaning = a table"),
    ({"held_out": ...}, "held_out: missing")])
def test_a_manifest_of_another_kind_is_none_and_the_one_before_is_taken(run, capsys, change, said):
    saved(run, 5, 6)
    file = run.path / "checkpoints" / "manifests" / "step_6.json"
    content = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    assert opened(run).restore(0) == 5
    line = capsys.readouterr().err
    assert said in line and str(file) in line and line.count("\n") == 1


def test_what_is_no_manifest_by_its_name_is_none(run):
    saved(run, 5)
    for name in ("step_x.json", "step_-1.json", "step_007.json", "step_" + "9" * 60 + ".json", "step_.json"):
        (run.path / "checkpoints" / "manifests" / name).write_text("{}")
    assert opened(run).restore(0) == 5


def test_a_held_out_loss_that_is_none_is_never_best(run):
    saved(run, 5, held_out={5: 1.0})
    file = run.path / "checkpoints" / "manifests" / "step_5.json"
    for value in (True, "1", [], 10**400):
        file.write_text(json.dumps({**json.loads(file.read_text()), "held_out": value}))
        assert math.isnan(opened(run).held_out(5))
