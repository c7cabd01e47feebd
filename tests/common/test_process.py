"""Processes: what they import, how they end, and that each failure is one line with its code."""

import asyncio
import gc
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinscale.common import cli, errors, process
from twinscale.common.data.cache import cache_dir
from twinscale.common.data.tfds_source import data_dir
from twinscale.common.files.output import nothing_left
from twinscale.common.verbs import shared

SLOW_WORKER = """
import json, os, subprocess, sys, time
from twinscale.common import process
child = process.start(process.helper("-c", "import time; time.sleep(60)"))
print(json.dumps({"value": [os.getpid(), child.pid]}), flush=True)
time.sleep(60)
"""
COMPARISON = """
import sys, time
from twinscale.benchmarks import workers
from twinscale.common import cli, process

def hang(worker):
    sys.stdout.write("{} {}\\n".format(*worker.ask("pids")))  # at once, for another thread writes too
    sys.stdout.flush()
    worker.ask("nothing that is ever answered")

def body(*_, **__):
    with workers.open_workers(rooms={"keras": "fake_worker", "jax": "fake_worker"}) as opened:
        workers.each(opened, hang)

cli.app = body
sys.argv = ["twinscale"]
sys.exit(cli.main())
"""


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def comparison(tmp_path):
    """(A process that waits for two workers in a pool, its workers' and their children's numbers)."""
    (tmp_path / "fake_worker.py").write_text(SLOW_WORKER)
    path = os.pathsep.join([str(process.ROOT), str(tmp_path)])
    with subprocess.Popen([sys.executable, "-P", "-c", COMPARISON], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, "PYTHONPATH": path}, start_new_session=True) as ours:
        pids = [int(word) for _ in range(2) for word in ours.stdout.readline().split()]
        assert len(pids) == 4 and all(map(alive, pids))
        try:
            yield ours, pids
        finally:
            os.killpg(ours.pid, signal.SIGKILL)


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["alone", "group"])
def test_an_interrupt_ends_what_waits_for_workers_at_once_and_leaves_none(comparison, send):
    ours, pids = comparison
    begun = time.monotonic()
    send(ours.pid, signal.SIGINT)
    assert ours.wait(10) == 130 and time.monotonic() - begun < 10
    assert wait_for(lambda: not any(map(alive, pids)), 2)
    assert ours.stderr.read() == "twinscale: interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_and_their_children_die_with_their_parent(comparison, number):
    ours, pids = comparison
    os.kill(ours.pid, number)
    assert wait_for(lambda: not any(map(alive, pids)), 2)


# ---- what is imported

def test_nothing_of_the_working_directory_is_imported_by_a_child(tmp_path):
    for name in ("json", "token", "types", "runpy", "common/errors", "common/__init__", "twinscale"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text("open('hit', 'w')")
    asks = ("import json, os, subprocess, sys, twinscale.common.errors\n"
            "grand = subprocess.run([sys.executable, '-c', 'import json; print(json.__file__)'], text=True, "
            "stdout=subprocess.PIPE).stdout.strip()\n"
            "print(json.dumps([twinscale.common.errors.__file__, grand, os.environ.get('PYTHONPATH'), sys.argv[1:]]))")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "elsewhere") + os.pathsep + "lib"}
    done = subprocess.run(process.helper("-c", asks, "word"), cwd=tmp_path, env=environment, capture_output=True,
                          text=True)
    ours, grand, path, words = json.loads(done.stdout)
    assert Path(ours) == process.ROOT / "common" / "errors.py" and Path(grand).parent != tmp_path
    assert path == os.pathsep.join([str(tmp_path / "elsewhere"), str(tmp_path / "lib")])
    assert not (tmp_path / "hit").exists() and words == [asks, "word"]


@pytest.mark.parametrize("given, kept", [("", None), (":", None), (".", None), ("./:/a::b", "/a:{here}/b"),
                                         ("{here}", "{here}")])
def test_what_pythonpath_says_of_the_working_directory_is_dropped_unless_in_full(tmp_path, monkeypatch, given, kept):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "/usr/lib"])
    monkeypatch.setenv("PYTHONPATH", given.format(here=tmp_path))
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    process.keep_out_here(root="/nowhere")
    assert os.environ.get("PYTHONPATH") == (kept and kept.format(here=tmp_path))
    assert sys.path == (["", str(tmp_path), "/usr/lib"] if given == "{here}" else ["/usr/lib"])
    assert os.environ["PYTHONSAFEPATH"] == "1"


def test_every_child_is_started_by_the_one_door():
    """No other file of ours knows how Python is called; `launch` prints a command, which the door has made."""
    rooms = ("common", "benchmarks", "tfscale", "jaxscale", "kerasjax", "swap")
    files = [file for room in rooms for file in (process.ROOT / room).rglob("*.py") if file.name != "process.py"]
    assert len(files) > 50 and [file for file in files if "[sys.executable" in file.read_text()] == []


# ---- failures

def raising(error):
    def body(*_, **__):
        raise error
    return body


@pytest.fixture
def quietened(monkeypatch):
    for module, name in ((threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    level = logging.getLogger("asyncio").level
    process.quieten_failures("")
    yield
    logging.getLogger("asyncio").setLevel(level)


@pytest.mark.parametrize("error, lines", [(OSError("handle is closed"), 0), (KeyError("x"), 1)])
def test_a_librarys_thread_that_fails_prints_no_traceback(quietened, capsys, error, lines):
    thread = threading.Thread(target=raising(error))
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert said.count("\n") == lines and "Traceback" not in said


@pytest.mark.parametrize("error, lines", [(OSError(28, "No space left on device"), 0), (KeyError("x"), 1),
                                          (RuntimeError("Event loop is closed"), 0)])
def test_neither_does_what_it_leaves_to_the_end(quietened, capsys, error, lines):
    class Library:
        def __del__(self):
            raise error

    async def task():
        raise error

    async def left():
        asyncio.get_running_loop().create_task(task())
        await asyncio.sleep(0)

    Library()
    asyncio.run(left())
    gc.collect()
    said = capsys.readouterr().err
    assert said.count("\n") == lines and "Traceback" not in said


def test_the_traceback_of_what_nobody_expected_is_there_for_the_asking(monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", raising(KeyError("x")))
    monkeypatch.setenv("TWINSCALE_TRACEBACK", "1")
    assert cli.main([]) == 1 and "in raising" not in (said := capsys.readouterr().err)
    assert "Traceback" in said and "internal error" in said.splitlines()[-1]


@pytest.mark.parametrize("streams, environment, code", [
    (">&-", {}, 0), ("2>&-", {}, 0), (">&- 2>&- <&-", {}, 0), ("2>/dev/full", {}, 0), (">/dev/full", {}, 74),
    ("", {"PYTHONIOENCODING": "ascii"}, 0), ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0),
])
def test_streams_that_are_closed_full_or_ascii(tmp_path, streams, environment, code):
    (tmp_path / "r.toml").write_text('name = "x"\n[model]\nfamily = "decoder"\n[data]\nsource = "text:größe"\n')
    main = "import sys; sys.argv = ['twinscale', 'recipe', 'show', 'r.toml']; from twinscale.common.cli import main; " \
           "sys.exit(main())"
    done = subprocess.run(["sh", "-c", f'"$0" -P -c "$1" {streams}', sys.executable, main], cwd=tmp_path, text=True,
                          capture_output=True, encoding="utf-8", env={**os.environ, **environment})
    assert done.returncode == code and "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.stderr.count("\n") == (0 if "2>" in streams else 1)
    assert ("next:" in done.stderr) == (code == 0 and "2>" not in streams)
    if not streams:
        assert "text:gr" in done.stdout
    if streams == "2>&-":  # what was said is not among the data
        assert "twinscale:" not in done.stdout


def test_a_cache_of_nobodys_home_and_the_users_choice(monkeypatch, tmp_path):
    for name in ("TWINSCALE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "twinscale"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which its specification says to ignore
    assert cache_dir() == tmp_path / ".cache" / "twinscale"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/twinscale")
    monkeypatch.setenv("TWINSCALE_CACHE", "/mine")
    assert cache_dir() == Path("/mine")
    monkeypatch.setenv("TWINSCALE_CACHE", "~nobody-of-that-name/x")
    with pytest.raises(errors.MissingEnvironment, match="set TWINSCALE_CACHE"):
        cache_dir()


def test_who_has_no_home_at_all_is_told_what_to_set(monkeypatch):
    """As in a container, under a number that no account has."""
    def nobody(number):
        raise KeyError(number)

    for name in ("HOME", "TWINSCALE_CACHE", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    for place, variable in ((cache_dir, "TWINSCALE_CACHE"), (data_dir, "TFDS_DATA_DIR")):
        with pytest.raises(errors.MissingEnvironment, match=f"no home directory here: set {variable}"):
            place()


@pytest.mark.parametrize("error, left", [(errors.BadInput("x"), False), (errors.MissingEnvironment("x"), False),
                                         (errors.NonFinite("x"), True), (KeyboardInterrupt(), True)])
def test_bad_input_and_what_is_missing_leave_nothing_behind(tmp_path, error, left):
    (tmp_path / "build").mkdir()
    with pytest.raises(type(error)), nothing_left(tmp_path / "build" / "new" / "out"):
        (tmp_path / "build" / "new" / "out" / "runs").mkdir(parents=True)
        raise error
    assert (tmp_path / "build" / "new").exists() == left and (tmp_path / "build").exists()


@pytest.mark.parametrize("words", [
    ["bench", "r.toml"], ["preflight", "r.toml", "--topology", "v5e:2x2"],
    ["preflight", "r.toml", "--search", "--topology", "v5e:2x2"], ["plan", "--flops", "1e21", "--topology", "v5e-16"]],
    ids=["bench", "preflight", "search", "plan"])
@pytest.mark.parametrize("error, left", [(errors.BadInput("x"), False), (errors.MissingEnvironment("x"), False),
                                         (errors.TwinscaleError("x"), True)])
def test_verbs_that_leave_a_few_files_leave_none_either(tmp_path, monkeypatch, words, error, left):
    def write(*given, out=None, **_):
        out = out or given[1]
        out.mkdir(parents=True)
        (out / "bench.json").touch()
        raise error

    (tmp_path / "r.toml").write_text('name = "x"\n[model]\nfamily = "mlp"\n[data]\nsource = "digits"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shared, "room", lambda name: SimpleNamespace(**{name.rpartition(".")[2]: write}))
    assert cli.main([*words, "--out", "new/out"]) == error.exit_code
    assert (tmp_path / "new").exists() == left


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(errors.BadInput), nothing_left(tmp_path):
        (tmp_path / "ours").touch()
        raise errors.BadInput("x")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "ours"}


# ---- hints


def test_start_up_lines_of_a_library_are_held_back_and_nothing_else(capfd):
    with process.hushed():
        os.write(2, b"I0000 00:00:1.2 3 cudart_stub.cc:31] no cuda\nE0000 failed call to cuInit\nreal\n")
    assert capfd.readouterr().err == "real\n"


def test_stderr_that_fails_stops_nothing(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(process.os, "write", lambda _, said: os.writev(full.fileno(), [said]))
        io.TextIOWrapper(process.Talk(), write_through=True).write("lost")


def test_keras_starts_without_what_nobody_uses_and_leaves_it_to_whoever_asks():
    program = ("import sys, importlib.util; from twinscale.tfscale import HIDDEN; "
               "print([name for name in HIDDEN if name in sys.modules], "
               "[name for name in HIDDEN if importlib.util.find_spec(name) is None]); import matplotlib.figure, jax")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env={**os.environ, **process.QUIET})
    assert said.stdout.split() == ["[]", "[]"]
