"""A training that changes program and runtime on its way hands every state over bit for bit; Keras on JAX, which needs
a process of its own, is the command's."""

import subprocess
import sys

import pytest

from twinscale.common.export.formats import read_export
from twinscale.common.files.run_files import RunFiles, StateFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.file import dumps
from twinscale.common.training import canonical
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import follow_run, read_run
from twinscale.common.training.run_metrics import read_metrics

pytestmark = [pytest.mark.usefixtures("hurried"), pytest.mark.slow]

KERAS_ON_JAX = ("--backend", "keras", "--runtime", "jax")


@pytest.fixture
def told(tmp_path):
    """told("train", ...): runs a command, which must end well."""
    def run(*words):
        done = subprocess.run([sys.executable, "-m", "twinscale.common.cli", *map(str, words)], cwd=tmp_path,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(params=["float32", "bfloat16"])
def recipe(request, recipe_of, tmp_path):
    made = recipe_of("mlp", optimizer={"name": "adamw", "ema": 0.9, "weight_decay": 0.1}, model={"dropout": 0.25},
                     schedule={"kind": "cosine", "warmup": 3},
                     train={"steps": 12, "global_batch": 16, "log_every": 1, "precision": request.param})
    (tmp_path / "r.toml").write_text(dumps(made))
    return made


def written(room, recipe, run, path):
    canonical.convert(room, recipe, follow_run(run), path)
    return path


def leg(room, recipe, path, origin, begin, stop=None):
    """A training in this process, which goes on from a state and leaves the tensors that it begins with."""
    run_training(room, recipe, path, progress=False, begun=canonical.read(origin, recipe) if origin else None,
                 probe=Probe(trace="full", traced=(begin,), stop=stop, resumable=stop is not None))
    return path


def same(state, run, step):
    """Whether a run begins at a step with the very tensors of a state."""
    given, taken = load_tensors(StateFiles(state).tensors), load_tensors(RunFiles(run).step(step))
    names = given.keys() & taken.keys()
    assert {"weights", "m", "v", "ema"} <= {name.split("/")[0] for name in names}
    return all(given[name].dtype == taken[name].dtype and given[name].tobytes() == taken[name].tobytes()
               for name in names)


def test_keras_then_keras_on_jax_then_jax_then_keras(room_of, recipe, tmp_path, told):
    keras, jax = room_of("tfscale"), room_of("jaxscale")
    first = leg(keras, recipe, tmp_path / "first", None, 0, stop=4)
    begun = written(keras, recipe, first, tmp_path / "a")
    told("train", "r.toml", *KERAS_ON_JAX, "--from", begun, "--stop", 8, "--trace", "full", "--trace-every", 4,
         "--run", "second")
    second = tmp_path / "second"
    assert read_run(second)["backend"] == "keras-jax" and same(begun, second, 4)
    told("convert", "second", "--to", "b")
    third = leg(jax, recipe, tmp_path / "third", tmp_path / "b", 8, stop=10)
    assert same(tmp_path / "b", third, 8) and read_run(third)["origin"]["backend"] == "keras-jax"
    fourth = leg(keras, recipe, tmp_path / "fourth", written(jax, recipe, third, tmp_path / "c"), 10)
    assert same(tmp_path / "c", fourth, 10)
    losses = [line["step"] for line in read_metrics(fourth) if "train/loss" in line]
    assert losses == list(range(12))  # the whole way, each step once


def test_keras_on_jax_goes_on_bit_for_bit_where_it_was_stopped(recipe, tmp_path, told):
    told("train", "r.toml", *KERAS_ON_JAX, "--stop", 5, "--run", "half")
    told("train", "r.toml", *KERAS_ON_JAX, "--run", "half")
    told("train", "r.toml", *KERAS_ON_JAX, "--run", "whole")
    for run in ("half", "whole"):
        told("convert", run, "--to", f"{run}-state")
    one, other = (StateFiles(tmp_path / f"{run}-state").tensors.read_bytes() for run in ("half", "whole"))
    assert one == other and read_run(tmp_path / "half")["starts"] == 2


def test_what_keras_on_jax_has_trained_is_exported_in_the_formats_of_both(recipe, tmp_path, told):
    told("train", "r.toml", *KERAS_ON_JAX, "--run", "run")
    told("export", "run", "--to", "out", "--formats", "keras,stablehlo,safetensors")
    told("export", "run", "--to", "jax", "--backend", "jax", "--formats", "stablehlo")
    for out, backend in (("out", "keras-jax"), ("jax", "jax")):
        about = read_export(tmp_path / out)
        assert about["backend"] == backend and all(row["checked"]["agrees"] for row in about["formats"])
    assert "by Keras on JAX" in told("report", "run", "--out", "report").stdout


WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "tensorflow" else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
from twinscale.common.cli import main

code = main(sys.argv[1:])
print("code", code, "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("recipe", ["float32"], indirect=True)
def test_keras_on_jax_trains_where_there_is_no_tensorflow(recipe, tmp_path):
    """As on a TPU7x, for which there is none."""
    done = subprocess.run([sys.executable, "-c", WITHOUT, "train", "r.toml", *KERAS_ON_JAX, "--run", "run"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert "code 0 False" in done.stdout, done.stderr
    refused = subprocess.run([sys.executable, "-c", WITHOUT, "train", "r.toml", "--backend", "keras", "--run", "other"],
                             cwd=tmp_path, capture_output=True, text=True)
    assert "code 4" in refused.stdout and "tensorflow is not installed" in refused.stderr
