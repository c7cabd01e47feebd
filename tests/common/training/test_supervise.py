"""A supervised training is started again where that may help, not where it cannot, and never against a request to
end."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from twinscale.common.training import supervise as supervision
from twinscale.common.training.supervise import supervise

# Stands for the training: the n-th start ends with the n-th code (a negative one is a signal to itself) and notes the
# n-th step as saved.
TRAINING = """#!{python}
import json, os, sys
from pathlib import Path
run = Path({run!r})
starts = json.loads((run / "starts").read_text()) if (run / "starts").exists() else 0
(run / "starts").write_text(json.dumps(starts + 1))
code, saved = {plan!r}[min(starts, len({plan!r}) - 1)]
info = {{"schema_version": 1, "backend": "jax", "recipe_hash": "", "state": "running", "starts": 1, "saved": saved}}
(run / "run.json").write_text(json.dumps(info))
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""


@pytest.fixture
def training(tmp_path, monkeypatch):
    """training([(code, saved step), ...], restarts): (exit code, starts)."""

    def make(plan, restarts=5):
        program = tmp_path / "training"
        program.write_text(TRAINING.format(python=sys.executable, run=str(tmp_path), plan=plan))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        popen = subprocess.Popen
        monkeypatch.setattr(supervision, "PAUSE", lambda state: 0)
        monkeypatch.setattr(supervision.subprocess, "Popen", lambda _: popen([str(program)]))
        return supervise([], str(tmp_path), restarts), json.loads((tmp_path / "starts").read_text())

    return make


@pytest.mark.parametrize("code", [75, 70, 71, 74, -signal.SIGKILL, -signal.SIGABRT])
def test_what_may_go_well_next_time_is_started_again(training, code, capfd):
    assert training([(code, 10), (0, 20)]) == (0, 2)
    said = 128 - code if code < 0 else code
    assert f"ended with exit code {said} after its checkpoint of step 10; starting it again" in capfd.readouterr().err


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130 - 128])
def test_what_would_come_again_is_not(training, code):
    assert training([(code, 10)]) == (code, 1)


def test_starts_in_vain_are_counted_and_progress_starts_the_count_anew(training):
    assert training([(70, 10)], restarts=3) == (70, 4)  # the first one came further than nothing


def test_progress_starts_the_count_anew(training):
    plan = [(70, 10), (70, 10), (70, 20), (70, 20), (70, 30), (0, 40)]
    assert training(plan, restarts=2) == (0, 6)


def test_a_request_to_end_is_passed_on_and_obeyed(tmp_path):
    program = f"""
import sys, subprocess
from twinscale.common.training import supervise
real = subprocess.Popen
child = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); print('up', flush=True); time.sleep(60)"
supervise.subprocess.Popen = lambda _: real([sys.executable, "-c", child])
sys.exit(supervise.supervise([], {str(tmp_path)!r}, 5))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as ours:
        assert ours.stdout.readline() == b"up\n"
        begun = time.monotonic()
        os.kill(ours.pid, signal.SIGTERM)
        assert ours.wait(20) == 75 and time.monotonic() - begun < 15


def test_a_request_to_end_in_a_pause_starts_nothing_more(tmp_path):
    program = f"""
import sys, subprocess
from twinscale.common.training import supervise
supervise.PAUSE = lambda state: 60
real = subprocess.Popen
supervise.subprocess.Popen = lambda _: real([sys.executable, "-c", "print('start', flush=True); raise SystemExit(70)"])
sys.exit(supervise.supervise([], {str(tmp_path)!r}, 5))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ours:
        assert b"starting it again in 60 s" in ours.stderr.readline()
        begun = time.monotonic()
        os.kill(ours.pid, signal.SIGTERM)
        assert ours.wait(20) == 75 and time.monotonic() - begun < 15
        assert ours.stdout.read() == b"start\n"
