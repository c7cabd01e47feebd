"""What a verb may touch: what it made, which it knows by its name and marker; never a user's file, wherever it lies."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common import cli
from twinscale.common.errors import BadInput
from twinscale.common.export import formats as export_formats
from twinscale.common.files.output import clear
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import loop
from twinscale.common.training.checkpoints import Checkpoints
from twinscale.common.training.run import open_run
from twinscale.common.training.run_metrics import Logger

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


def test_the_file_that_a_verb_is_told_to_write_is_no_other_programs(tmp_path, capsys):
    (tmp_path / "d.json").write_text("mine")
    assert cli.main(["doctor", "--out", str(tmp_path / "d.json")]) == 2
    assert (tmp_path / "d.json").read_text() == "mine" and "not ours" in capsys.readouterr().err
