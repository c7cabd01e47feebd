"""Signs of life: a stuck process ends itself and says what it did, a slow one does not, a silent host is named."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from twinscale.common.errors import HUNG, LOST
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.pulse import Pulse, is_gone

PROGRAM = """
import sys, time
from types import SimpleNamespace
from pathlib import Path
from twinscale.common.training.pulse import Pulse
from twinscale.common.recipe.schema import Recipe
recipe = Recipe(name="x", model={"family": "decoder"}, devices={"watchdog": 1.0, "compile_deadline": 30.0})
with Pulse(Path(sys.argv[1]), SimpleNamespace(host=0, hosts=1), recipe) as pulse:
    print("begun", flush=True)
    exec(sys.argv[2])
print("ended", flush=True)
"""
HANGS = "def the_collective_that_hangs(): time.sleep(60)\npulse.allow('step 3')\nthe_collective_that_hangs()"


def process(path, body):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, path, body], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def test_a_process_that_is_stuck_ends_and_leaves_its_stacks(tmp_path):
    stuck = process(tmp_path, HANGS)
    out, err = stuck.communicate(timeout=30)
    assert stuck.returncode == HUNG and "ended" not in out
    assert "step 3 took longer than its time (devices.watchdog=1 s" in err
    assert all("the_collective_that_hangs" in text for text in (err, (tmp_path / "hosts" / "0.stacks").read_text()))


@pytest.mark.parametrize("body", [
    "for _ in range(4): pulse.allow('a step'); time.sleep(0.5)",  # slow, but it moves
    "pulse.allow('the first step', patient=True); time.sleep(2)"])  # compiling has its own time
def test_a_process_that_moves_is_left_alone(tmp_path, body):
    slow = process(tmp_path, body)
    out, _ = slow.communicate(timeout=30)
    assert slow.returncode == 0 and "ended" in out and not (tmp_path / "hosts/0.stacks").exists()


def test_a_process_that_was_stopped_for_a_while_goes_on(tmp_path):
    stopped = process(tmp_path, "pulse.limit = 6\npulse.allow('step 3')\ntime.sleep(2)")
    assert stopped.stdout.readline() == "begun\n"
    stopped.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    stopped.send_signal(signal.SIGCONT)
    out, _ = stopped.communicate(timeout=30)
    assert stopped.returncode == 0 and "ended" in out


def pulse(path, host, hosts):
    return Pulse(path, SimpleNamespace(host=host, hosts=hosts), Recipe(name="x", model={"family": "decoder"}))


def test_silent_hosts_are_named(tmp_path):
    with pulse(tmp_path, 0, 4) as first, pulse(tmp_path, 1, 4):
        (tmp_path / "hosts" / "2.json").write_text(json.dumps({"process": 77, "machine": "m", "state": "alive"}))
        time.sleep(0.3)
        said = str(first.lost(RuntimeError("Connection closed by peer")))
    assert "host 2 (process 77 on m)" in said and "host 3 (never heard of)" in said and "host 1" not in said
    assert "Connection closed by peer" in said


@pytest.mark.parametrize("state", ["alive", "failed"])
def test_a_host_that_died_ends_the_others_promptly(tmp_path, state):
    """Where no exception says so: a collective may wait for ever for a process that is dead."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    beat = {"process": dead.pid, "machine": socket.gethostname(), "state": state, "beat": 3, "seconds": 3}
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "1.json").write_text(json.dumps(beat))
    waits = process(tmp_path, "pulse.hosts = 2\ntime.sleep(60)")
    begun = time.monotonic()
    _, err = waits.communicate(timeout=30)
    assert waits.returncode == LOST and time.monotonic() - begun < 15
    assert f"another host is gone; no sign of life from host 1 (process {dead.pid}" in err


def test_a_host_that_has_left_well_is_not_missed(tmp_path):
    with pulse(tmp_path, 1, 2):
        pass
    with pulse(tmp_path, 0, 2) as first:
        assert first.beats()[1]["state"] == "left" and not is_gone(first.beats()[1])


def test_sigterm_is_a_wish_and_twice_is_the_same_wish(tmp_path):
    with pulse(tmp_path, 0, 1) as ours:
        assert not ours.stopping
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert ours.stopping
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
