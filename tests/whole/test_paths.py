"""Paths as people have them: with spaces, Chinese characters, brackets, stars, "..", and bytes that are no UTF-8."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks import compare
from twinscale.common import cli
from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.export import formats as export_formats
from twinscale.common.files.access import write_json, write_text
from twinscale.common.recipe.file import dumps, load
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.checkpoints import Checkpoints
from twinscale.common.training.run import check_run, open_run, read_run
from twinscale.common.training.run_metrics import read_metrics

RECIPE = Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]}})
PLAIN = ("a b", "漢字 かな", "ünï", "x/../dots", "new\nline", "{a,b}", "$HOME", "~a", "%20", "-dash", "'quote\"", "a#b")
ODD = ("br[ack]ets", "star*", "quest?ion", "back\\slash", os.fsdecode(b"byte\xff"))
ONE = SimpleNamespace(host=0, hosts=1)


class Store:
    """Saves an integer as one file, and keeps the path that it was given."""

    NAMES, given = r"step_(\d+)\.a", None

    def __init__(self, path, state, devices):
        self.path = Store.given = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, step, state):
        (self.path / f"step_{step}.a").write_text(str(state))

    def read(self, step, state):
        return int((self.path / f"step_{step}.a").read_text())

    def files(self, step):
        return sorted(self.path.glob(f"step_{step}.a"))

    def wait(self):
        pass

    def delete(self, step):
        pass

    def close(self):
        pass


ROOM = SimpleNamespace(backend="jax", Store=Store, agree=lambda _, values: np.array(values)[None])


@pytest.fixture(params=PLAIN + ODD, ids=ascii)
def folder(request, tmp_path, monkeypatch):
    """A directory of such a name, named from where we are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    Path(request.param).mkdir()
    return Path(request.param)


def test_a_run_is_resumed_and_its_library_gets_a_name_that_it_can_read(folder):
    open_files = len(os.listdir("/proc/self/fd"))
    for start in (0, 5):
        with open_run(folder / "run", RECIPE, "jax") as run:
            checkpoints = Checkpoints(run, ROOM, RECIPE, 0, ONE)
            assert checkpoints.restore(0) == start
            assert not set(str(Store.given)) & set("[]*?\\") and str(Store.given).encode()
            checkpoints.save(5, 5)
            checkpoints.close()
            run.ending = "interrupted"
    manifest = json.loads((folder / "run/checkpoints/manifests/step_5.json").read_text())
    assert list(manifest["files"]) == ["step_5.a"] and read_run(folder / "run")["saved"] == 5
    assert (folder / "run/checkpoints/step_5.a").read_text() == "5"
    assert len(os.listdir("/proc/self/fd")) == open_files


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_several_hosts_are_refused_where_a_path_has_to_be_named_otherwise(tmp_path, name, monkeypatch):
    several = RECIPE.with_values(devices={"hosts": 2})
    with pytest.raises(BadInput, match="several hosts cannot write"):
        check_run(tmp_path / name / "run", several, "jax")
    check_run(tmp_path / "plain", several, "jax")
    monkeypatch.setattr(compare, "require", lambda *of: None)
    with pytest.raises(BadInput, match="--meshes trains on several hosts"):
        compare.compare(RECIPE, tmp_path / name, meshes=True)
    with pytest.raises(BadInput, match="TensorFlow loads no SavedModel") as error:
        export_formats.check_request("keras", tmp_path / name, (), False)
    assert len(str(error.value).splitlines()) == 1 and "--formats keras,litert-float" in str(error.value)
    others = ["keras", "safetensors"]
    assert export_formats.check_request("keras", tmp_path / name, tuple(others), False) == others
    assert not list(tmp_path.iterdir())


def test_without_proc_it_is_said_before_anything_is_saved(tmp_path, monkeypatch):
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: not str(self).startswith("/proc/self/fd") and exists(self))
    with open_run(tmp_path / "a[b]", RECIPE, "jax") as run, pytest.raises(MissingEnvironment, match="no /proc"):
        Checkpoints(run, ROOM, RECIPE, 0, ONE)


def test_data_is_cached_and_a_recipe_is_read_wherever_they_lie(folder, monkeypatch):
    monkeypatch.setenv("TWINSCALE_CACHE", str(folder.absolute() / "cache"))
    assert len(open_dataset(RECIPE).held_out)
    open_dataset(RECIPE)  # from the cache
    assert len(list((folder / "cache").iterdir())) == 1
    write_text(folder / "r.toml", dumps(RECIPE))
    assert load(str(folder / "r.toml"), []) == RECIPE


def test_text_is_read_where_its_path_is_escaped_and_refused_where_it_is_no_text(tmp_path, capsys):
    (tmp_path / "r.toml").write_text('name = "r"\n[model]\nfamily = "decoder"\n[data]\nsource = "stdlib"\n')
    code = cli.main(["recipe", "show", str(tmp_path / "r.toml"), os.fsdecode(b"data.source=text:\xff/*.txt")])
    assert code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_plan_and_a_verdict_go_to_such_a_directory(folder, capsys):
    code = cli.main(["plan", "--flops", "1e18", "--topology", "v5e-16", "--mfu", "0.4", "--out", str(folder / "plan")])
    assert code == 0 and json.loads((folder / "plan" / "plan.json").read_text())["rows"]
    compare.prepare(folder / "out", RECIPE, False)
    write_json(folder / "out" / "verdict.json", {"path": str(folder)})
    assert json.loads((folder / "out" / "verdict.json").read_bytes().decode())["path"]
    write_text(folder / "out" / "report.md", f"twinscale compare --out {folder}\n")
    assert (folder / "out" / "report.md").read_bytes().decode()
    assert read_metrics(folder / "out") == []
