"""Processes that stand for hosts: what they say, how they end, and that none is left. No framework."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twinscale.common.errors import MissingEnvironment
from twinscale.common.launch.local import free_ports, run_local

ROOT = Path(__file__).parents[3]
SHELL = ["bash", "-c"]


def test_free_ports_differ_and_are_free():
    ports = free_ports(5)
    assert len(set(ports)) == 5 and all(port > 1023 for port in ports)


def hosts(*scripts, grace=5, environments=None):
    """(exit code, what was said, seconds) of shell scripts in the place of hosts; no process may be left of them."""
    said, began = [], time.monotonic()
    mark = f"TWINSCALE_TEST_{os.getpid()}_{began}"
    environments = environments or [{}] * len(scripts)
    code = run_local([[*SHELL, script] for script in scripts], [{**e, "MARK": mark} for e in environments], grace,
                     said.append)
    deadline = time.monotonic() + 10  # a process that has been sent SIGKILL dies when the kernel comes to it
    while left_behind(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left_behind(mark)
    return code, said, time.monotonic() - began


def left_behind(mark):
    """The numbers of living processes whose environment holds a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            alive = path.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if alive and mark.encode() in path.joinpath("environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_output_is_prefixed_line_by_line_and_complete():
    code, said, _ = hosts("echo one; echo two >&2; printf three", "echo $NAME; printf '\\n\\xff\\r\\n'",
                          environments=[{}, {"NAME": "four"}])
    assert code == 0
    assert [line for line in said if line.startswith("[0]")] == ["[0] one", "[0] two", "[0] three"]
    assert [line for line in said if line.startswith("[1]")] == ["[1] four", "[1] ", "[1] \ufffd"]
    code, said, _ = hosts("seq 20000")
    assert code == 0 and said == [f"[0] {n}" for n in range(1, 20001)]


def test_a_host_that_dies_is_named_and_ends_the_others():
    code, said, seconds = hosts("sleep 60", "exit 3", "sleep 60", grace=0.3)
    assert code == 3 and seconds < 300
    assert sorted(said) == sorted(["twinscale: host 1 left with exit code 3; 0.3 s for hosts 0 and 2 to leave too",
                    "twinscale: hosts 0 and 2 did not leave: SIGTERM",
                    "twinscale: host 0 was killed by SIGTERM", "twinscale: host 2 was killed by SIGTERM"])


def test_the_others_may_leave_by_themselves_first():
    code, said, seconds = hosts("kill -9 $$", "sleep 0.5; echo saved; exit 71")
    assert code == 137 and seconds < 300
    assert said == ["twinscale: host 0 was killed by SIGKILL; 5 s for host 1 to leave too", "[1] saved",
                    "twinscale: host 1 left with exit code 71 (another host is gone)"]


def test_a_host_that_ignores_sigterm_is_killed_and_so_is_what_it_started():
    code, said, seconds = hosts("trap '' TERM; sleep 60 & while true; do sleep 0.05; done", "sleep 0.3; exit 4",
                                grace=0.3)
    assert code == 4 and seconds < 300
    assert "twinscale: host 0 did not leave: SIGKILL" in said and "twinscale: host 0 was killed by SIGKILL" in said


def test_what_a_host_leaves_behind_is_ended():
    code, said, seconds = hosts("sleep 60 & sleep 60 & echo done")  # which hold its output open
    assert (code, said) == (0, ["[0] done"]) and seconds < 30


@pytest.mark.parametrize("codes, code", [((0, 0), 0), ((75, 75), 75), ((0, 75), 75), ((75, 1), 1), ((70, 70), 70)])
def test_the_exit_code_is_that_of_all(codes, code):
    assert hosts(*(f"exit {each}" for each in codes))[0] == code


def test_the_first_that_died_decides():
    assert hosts("sleep 0.5; exit 71", "exit 74")[0] == 74


def test_a_command_that_cannot_run_ends_those_that_do():
    mark = f"TWINSCALE_TEST_{os.getpid()}_missing"
    with pytest.raises(MissingEnvironment, match="host 1: no-such-program cannot be run"):
        run_local([["sleep", "60"], ["no-such-program"]], [{"MARK": mark}] * 2, 5, lambda text: None)
    assert not left_behind(mark)


LAUNCHER = """
import sys
from twinscale.common.launch.plan import run_local
scripts, say = sys.argv[1:], lambda text: print(text, flush=True)
sys.exit(run_local([["bash", "-c", script] for script in scripts], [{}] * len(scripts), 5, say))
"""

SAVES = "trap 'echo saved; exit 75' TERM INT; echo up; while true; do sleep 0.05; done"
STUBBORN = "trap 'echo no' TERM INT; echo up; while true; do sleep 0.05; done"


def launcher(scripts, act):
    """(exit code, what was said) of a launcher of scripts, on which `act` is called once all of them are up."""
    mark = f"TWINSCALE_TEST_{os.getpid()}_{time.monotonic()}"
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, *scripts], stdout=subprocess.PIPE, text=True, cwd=ROOT,
                          env={**os.environ, "MARK": mark}) as process:
        up = [process.stdout.readline() for _ in scripts]
        assert sorted(up) == [f"[{n}] up\n" for n in range(len(scripts))]
        act(process)
        said = process.stdout.read().splitlines()
    until = time.monotonic() + 5
    while left_behind(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left_behind(mark)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_to_all(number):
    code, said = launcher([SAVES, SAVES], lambda process: process.send_signal(number))
    assert code == 75 and said[0] == f"twinscale: {number.name}: passed on to hosts 0 and 1"
    assert {"[0] saved", "[1] saved"} <= set(said)


def test_the_third_signal_kills():
    def act(process):
        for words in ("passed on to", "passed on to", "the third signal, SIGKILL for"):
            process.send_signal(signal.SIGTERM)
            while not (line := process.stdout.readline()).startswith("twinscale:"):
                assert line == "[0] no\n" or line == "[1] no\n"
            assert line == f"twinscale: SIGTERM: {words} hosts 0 and 1\n"
    assert launcher([STUBBORN, STUBBORN], act)[0] == 137


def test_hosts_do_not_outlive_a_launcher_that_is_killed():
    assert launcher([SAVES, SAVES], lambda process: process.kill())[0] == -9
