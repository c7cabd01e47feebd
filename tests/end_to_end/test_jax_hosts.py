"""JAX on two hosts, which are two processes of this machine: the same training as on one, of both programs."""

import os
import subprocess
import sys

import numpy as np
import pytest

from twinscale.common import cli
from twinscale.common.files.tensors import load_tensors
from twinscale.common.launch.local import free_ports, run_local
from twinscale.common.launch.plan import GRACE, plan
from twinscale.common.recipe.file import load
from twinscale.common.training.loop import run_training
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

pytestmark = pytest.mark.usefixtures("hurried")

RECIPE = """
name = "hosts"
[data]
source = "digits"
held_out = 0.2
[model]
family = "mlp"
hidden = [16]
dropout = 0.1
[optimizer]
ema = 0.9
[train]
steps = 12
global_batch = 16
accumulate = 2
eval_every = 6
save_every = 4
log_every = 1
"""


def command(tmp_path, verb, run, *words):
    return [sys.executable, "-m", "twinscale.common.cli", *verb.split(), str(tmp_path / "r.toml"), "--backend", "jax",
            "--run", str(tmp_path / run), *words]


def test_two_hosts_train_as_one_does_whatever_they_share(room_of, tmp_path):
    """float32 sums in another order, 12 updates: apart by roundings of 2^-24 that add up, far below 1e-5. With
    `tensor` both hosts read the same rows, and what one of them wishes is still heard once."""
    (tmp_path / "r.toml").write_text(RECIPE)
    alone = {"env": {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}}
    meshes = {"data": ["devices.data=2"], "tensor": ["devices.tensor=2", "train.save_minutes=0.0001"]}
    hosts = ["--hosts", "2", "--go"]
    started = {run: subprocess.Popen(command(tmp_path, "launch local", run, *words, *hosts), stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, **alone) for run, words in meshes.items()}
    run_training(room_of("jaxscale"), load(tmp_path / "r.toml", []), tmp_path / "one", progress=False)
    for run, process in started.items():
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        info = read_run(tmp_path / run)
        assert info["state"] == "finished" and len(info["devices"]) == 2 and info["hosts_agree"] is True
        one, two = ([line["train/loss"] for line in read_metrics(tmp_path / name) if "train/loss" in line]
                    for name in ("one", run))
        assert len(two) == 12 and np.abs(np.array(two) / one - 1).max() < 1e-5
        held_out = [read_run(tmp_path / name)["final"]["loss"] for name in ("one", run)]
        assert abs(held_out[1] / held_out[0] - 1) < 1e-5

    states = []
    for run in ("one", "data"):  # and what two hosts saved is read on one
        assert cli.main(["convert", str(tmp_path / run), "--to", str(tmp_path / f"{run}-state")]) == 0
        states.append(load_tensors(tmp_path / f"{run}-state" / "state.safetensors"))
    assert states[0].keys() == states[1].keys()
    assert all(np.abs(states[1][name] - x).max() <= 1e-4 * np.abs(x).max() for name, x in states[0].items())


DECODER = ["train.steps=12", "train.global_batch=8", "train.log_every=1", "train.save_every=4", "data.sequence=64",
           "model.layers=1", "model.width=32", "model.dropout=0.1", "optimizer.ema=0.9", "schedule.warmup=2"]


@pytest.mark.slow
def test_keras_on_jax_goes_on_over_other_meshes_and_hosts(tmp_path):
    """Two hosts, one host of two devices, one device and two hosts again: the training of one device throughout, up to
    the roundings of float32's sums, as above."""
    def started(run, *words):
        words = ["train", "decoder-stdlib", *DECODER, *words, "--backend", "keras", "--runtime", "jax", "--run",
                 str(tmp_path / run)]
        return subprocess.Popen([sys.executable, "-m", "twinscale.common.cli", *words], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def launched(mesh, *words):
        made = plan("decoder-stdlib", [*DECODER, mesh], backend="keras-jax", run=str(tmp_path / "moved"),
                    target="local", hosts=2, ports=free_ports(2))
        lines, alone = [], {"JAX_NUM_CPU_DEVICES": "1"}
        code = run_local([[*command, *words] for command in made.commands],
                         [alone | environment for environment in made.environments], GRACE["local"], lines.append)
        assert code == 0, lines

    def ended(process):
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said

    one = started("one")
    launched("devices.fsdp=2", "--stop", "4")
    for stop, words in (("6", ["devices.data=2"]), ("8", [])):
        ended(started("moved", *words, "--stop", stop))
    launched("devices.data=2")
    ended(one)
    info = read_run(tmp_path / "moved")
    assert info["backend"] == "keras-jax" and info["state"] == "finished" and info["hosts_agree"] is True
    lines = [[line for line in read_metrics(tmp_path / run) if "train/loss" in line] for run in ("one", "moved")]
    assert [line["step"] for line in lines[1]] == list(range(12))
    first, second = (np.array([line["train/loss"] for line in own]) for own in lines)
    assert np.abs(second / first - 1).max() < 1e-5
