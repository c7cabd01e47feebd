"""A training killed with SIGKILL at a random moment and run again ends bit for bit where an undisturbed one does."""

import random
import subprocess
import sys
import time

import pytest

from common.run import read_metrics, read_run
from common.tensors import load_tensors

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


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["keras", "jax"])
def test_a_killed_training_resumes_bit_for_bit(backend, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)

    def start(run):
        return subprocess.Popen([sys.executable, "-m", "common.cli", "train", str(tmp_path / "r.toml"), "--backend",
                                 backend, "--run", str(tmp_path / run), "--trace", "full"], stderr=subprocess.DEVNULL)

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
