"""Memory that is limited by `ulimit -v`: whatever ends the command, one line says memory, with its code."""

import os
import subprocess
import sys
import time

import pytest

from tests.common.mounts import COMPRESSED
from twinscale.common import limited, process
from twinscale.common.errors import MISSING, MissingEnvironment
from twinscale.common.files.run_files import RunFiles
from twinscale.common.training.checkpoints import Checkpoints

BODY = "import os, signal, sys, time\nfrom twinscale.common import cli\ndef body(*_, **__):\n    {}\n" \
       "cli.app = body\nsys.argv = ['twinscale']\nsys.exit(cli.main())"
STACK = "os.write(2, b'F0000 00:00:1.5 7 env.cc:84] Check failed: ret == 0\\n    @     0x7fc6 absl::Flush()\\n'); "


def limited_to(kilobytes, body, **options):
    limits = f'ulimit -c 0; ulimit -v {kilobytes}; exec "$@"'
    words = ["sh", "-c", limits, "sh", sys.executable, "-P", "-c", BODY.format(body)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options,
                            env={**os.environ, "PYTHONPATH": str(process.ROOT)})


@pytest.mark.parametrize("kilobytes, body, words", [
    (1_000_000, STACK + "os.abort()", "SIGABRT, under ulimit -v 1,000,000 kB"),
    (1_000_000, "os.write(2, b'OpenBLAS error: Memory allocation still failed.\\n'); os._exit(1)", "OpenBLAS error"),
    (200_000, "pass", "too little for Python and NumPy")])
def test_whatever_ends_it_one_line_says_memory(kilobytes, body, words):
    ended = limited_to(kilobytes, body)
    said = ended.communicate(timeout=30)[1]
    assert ended.returncode == MISSING and said.count("\n") == 1
    assert said.startswith("twinscale: memory has ended (") and words in said


def test_what_ends_well_or_otherwise_is_as_it_was():
    ended = limited_to(1_000_000, "os.write(2, b'said\\n'); print('data'); return 3")
    assert ended.communicate(timeout=30) == ("data\n", "said\n") and ended.returncode == 3


def test_an_interrupt_reaches_it_and_its_end_ends_it():
    ours = limited_to(1_000_000, "print(os.getpid(), flush=True); time.sleep(60)")
    child = int(ours.stdout.readline())
    assert child != ours.pid
    ours.send_signal(2)
    assert ours.communicate(timeout=10)[1] == "twinscale: interrupted\n" and ours.returncode == 130
    ours = limited_to(1_000_000, "print(os.getpid(), flush=True); time.sleep(60)")
    child = int(ours.stdout.readline())
    ours.kill()
    ours.communicate()
    end = time.monotonic() + 5
    while os.path.exists(f"/proc/{child}") and time.monotonic() < end:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{child}")


@pytest.mark.parametrize("limits, loaded", [("ulimit -v 4000000; ", "True"), ("", "False")])
def test_a_child_takes_openblas_room_while_there_is_some(limits, loaded):
    """A writer of LiteRT under `ulimit -v 2000000` looked for it for ever, with both frameworks in its memory."""
    asks = process.helper("-c", "import sys; print('numpy' in sys.modules, 'scipy.linalg' in sys.modules)")
    done = subprocess.run(["sh", "-c", limits + 'exec "$@"', "sh", *asks], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [loaded, loaded]


def test_a_worker_that_memory_has_ended_is_known_by_its_signal(monkeypatch):
    assert limited.lack(-6, ()) is None  # without a limit an abort may be anything
    monkeypatch.setattr(limited, "limit", lambda: 2**30)
    assert isinstance(limited.lack(-6, ()), MissingEnvironment) and limited.lack(1, [b"KeyError: 'OpenBLAS'"]) is None
    assert limited.is_last_word(b"    @     0x7fc6 absl::Flush()") and not limited.is_last_word(b"step 1/20")


def test_a_checkpoint_that_memory_ended_is_no_matter_of_the_disk(tmp_path):
    saver = object.__new__(Checkpoints)
    saver.files, saver.devices = RunFiles(tmp_path), type("One", (), {"hosts": 1})
    error = saver.cannot(5, MemoryError())
    assert isinstance(error, MissingEnvironment)
    assert "memory has ended" in str(error) and "there is none before" in str(error)


@pytest.mark.slow
def test_whatever_the_verb_and_wherever_memory_ends_it_ends_in_one_line(tmp_path):
    """From where no framework can be imported to where both can; none may look for memory for ever."""
    recipe, run = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text(COMPRESSED)

    def start(kilobytes, *words):
        limits = f'ulimit -c 0; ulimit -v {kilobytes}; exec "$@"'
        command = ["sh", "-c", limits, "sh", sys.executable, "-P", "-m", "twinscale.common.cli", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300,
                              env={**os.environ, "PYTHONPATH": str(process.ROOT)})

    assert start("unlimited", "train", recipe, "--backend", "jax", "--run", run).returncode == 0
    verbs = {"export": ("export", run, "--to"), "compare": ("compare", recipe, "compress.stages=[]", "--out"),
             "compress": ("compress", run, "--recipe", recipe, "--backend", "keras", "--out")}
    for kilobytes in (1_000_000, 2_000_000):
        for verb, words in verbs.items():
            done = start(kilobytes, *words, tmp_path / f"{verb}-{kilobytes}")
            said = [line for line in done.stderr.splitlines() if "twinscale: " in line]
            assert done.returncode == MISSING and len(said) == 1, (verb, kilobytes, done.stderr)
            assert "memory has ended" in said[0] and "Traceback" not in done.stderr, (verb, kilobytes, done.stderr)
