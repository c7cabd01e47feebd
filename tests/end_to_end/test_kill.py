"""What is killed with SIGKILL at a random moment and run again ends bit for bit where an undisturbed one does."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from tests.common.mounts import COMPRESSED
from twinscale.common.files.tensors import load_tensors
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

RECIPE = """
name = "killed"
[data]
source = "digits"
held_out = 0.2
[model]
family = "mlp"
hidden = [32]
dropout = 0.1
[optimizer]
ema = 0.9
[schedule]
kind = "cosine"
warmup = 10
[train]
steps = 100
global_batch = 16
save_every = 10
log_every = 1
"""


MIXED = 'held_out = 0.2\naugment = ["flip", "mixup"]\nstandardise = "channels"\n'


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True], ids=["plain", "mixup"])
@pytest.mark.parametrize("backend", ["keras", "jax"])
def test_a_killed_training_resumes_bit_for_bit(backend, mixed, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE.replace("held_out = 0.2\n", MIXED) if mixed else RECIPE)

    def start(run):
        return subprocess.Popen([sys.executable, "-m", "twinscale.common.cli", "train", str(tmp_path / "r.toml"),
                                 "--backend", backend, "--run", str(tmp_path / run), "--trace", "full"],
                                stderr=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    process, target = start("killed"), random.Random(backend).randrange(15, 85)
    while len(read_metrics(tmp_path / "killed")) < target:
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert read_run(tmp_path / "killed")["state"] == "running"  # nobody had the time to say otherwise
    assert start("killed").wait() == 0
    assert read_run(tmp_path / "killed")["starts"] == 2

    whole, resumed = (load_tensors(tmp_path / run / "trace" / "final.safetensors") for run in ("whole", "killed"))
    assert whole.keys() == resumed.keys() and any(name.startswith("ema/") for name in whole)
    assert all(whole[name].tobytes() == resumed[name].tobytes() for name in whole)
    losses = [[line["train/loss"] for line in read_metrics(tmp_path / run) if "train/loss" in line]
              for run in ("whole", "killed")]
    assert len(losses[0]) == 100 and losses[0] == losses[1]


def children_of(pid):
    """The numbers of the processes that one has started."""
    found = []
    for each in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{each}/stat") as about:
                found += [int(each)] if int(about.read().rpartition(")")[2].split()[1]) == pid else []
        except OSError:  # gone meanwhile
            pass
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["keras", "jax"])
def test_a_killed_compression_goes_on_bit_for_bit_and_leaves_no_trainer_behind(backend, tmp_path):
    (tmp_path / "r.toml").write_text(COMPRESSED)

    def start(*words):
        return subprocess.Popen([sys.executable, "-m", "twinscale.common.cli", *map(str, words)],
                                stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def compress(out):
        return start("compress", tmp_path / "run", "--recipe", tmp_path / "r.toml", "--backend", backend, "--out",
                     tmp_path / out)

    assert start("train", tmp_path / "r.toml", "--backend", "jax", "--run", tmp_path / "run").wait() == 0
    assert compress("whole").wait() == 0
    stage = {"keras": "1-prune", "jax": "2-quantize"}[backend]
    killed, run = compress("killed"), tmp_path / "killed" / "runs" / f"{backend}-{stage}"
    while not (run / "metrics.jsonl").exists() or len(read_metrics(run)) < 1 or not any(
            (run / "checkpoints" / "manifests").glob("*.json")):
        assert killed.poll() is None, "the compression ended before it could be killed"
        time.sleep(0.001)
    trainers = children_of(killed.pid)
    killed.kill()
    killed.wait()
    end = time.monotonic() + 5
    while any(map(os.path.exists, (f"/proc/{pid}" for pid in trainers))) and time.monotonic() < end:
        time.sleep(0.02)
    assert trainers and not any(os.path.exists(f"/proc/{pid}") for pid in trainers)
    assert not (tmp_path / "killed" / "compression.json").exists()
    assert compress("killed").wait() == 0

    left = {out: {file.name: file.read_bytes() for file in (tmp_path / out / "left").iterdir()}
            for out in ("whole", "killed")}
    assert left["whole"] == left["killed"] and len(left["whole"]) >= 3
    rows = [[(row["stage"], row["metrics"]) for row in json.loads((tmp_path / out / "compression.json").read_text())[
        "rows"]] for out in ("whole", "killed")]
    assert rows[0] == rows[1] and len(rows[0]) == 3
