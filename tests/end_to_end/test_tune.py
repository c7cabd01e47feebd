"""A search whose process is killed half-way goes on, and finds what one that was not would have found."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from twinscale.common import process

pytest.importorskip("optuna", reason="the extra `tune` is not installed")
SPACE = """
seed = 3
[space]
optimizer.learning_rate = { low = 1e-4, high = 3e-1, log = true }
train.accumulate = { choices = [1, 16] }
train.global_batch = { low = 8, high = 40, step = 8 }
"""


def started(tmp_path, out):
    (tmp_path / "space.toml").write_text(SPACE)
    words = ("tune", "mlp-digits", "train.steps=60", "train.eval_every=10", "train.save_every=10", "--backend", "jax",
             "--space", str(tmp_path / "space.toml"), "--trials", "6", "--out", str(tmp_path / out))
    return subprocess.Popen([sys.executable, "-P", "-m", "twinscale.common.cli", *words], text=True,
                            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            env={**os.environ, "PYTHONPATH": str(process.ROOT)})


@pytest.mark.slow
def test_a_search_that_is_killed_has_exactly_the_trials_that_it_would_have_had(tmp_path):
    whole = started(tmp_path, "whole")
    assert whole.wait() == 0, whole.stderr.read()
    killed = started(tmp_path, "killed")
    for line in killed.stderr:
        if "3 of 6" in line:
            break
    time.sleep(1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "tune.json").exists()
    again = started(tmp_path, "killed")
    said = again.stderr.read()
    assert again.wait() == 0 and "1 of 6" not in said
    found = [json.loads((tmp_path / out / "tune.json").read_text())["trials"] for out in ("whole", "killed")]
    assert "trial" in (tmp_path / "killed" / "report.md").read_text() and (tmp_path / "killed" / "best.toml").is_file()
    told = [[(trial["number"], trial["state"], trial["params"], trial["metric"]) for trial in trials]
            for trials in found]
    assert told[0] == told[1] and len(told[0]) == 6
