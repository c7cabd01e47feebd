"""Our own processes: what each begins with, how children are started, and how they end with the one that started them.

Run as a script, `python -P common/process.py KIND PARENT MODULE WORD...`, it is the first thing that a child of ours
does, before seconds go into importing a framework. Nothing is ever imported from the working directory, whose files may
have the names of modules: `-P` keeps it out, and what PYTHONPATH says of it is dropped.
"""

import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOMS = Path(__file__).resolve().parents[1]  # the folder of our rooms: a checkout, or the installed package
ROOT = ROOMS if (ROOMS / "twinscale").is_dir() else ROOMS.parent  # where `twinscale` lies
KINDS = {"helper": signal.SIGKILL, "training": signal.SIGTERM}  # what ends a child of a kind when its parent is gone
CHILD = "TWINSCALE_CHILD"  # set in a process whose messages go to another of ours: it has no hints for anybody
QUIET = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}  # Keras on TensorFlow, without its start-up lines
STARTUP = ("WARNING: All log messages before absl", "I0000", "W0000", "E0000", "To enable the following instructions")
FEW_CORES = 16
MADE_BETWEEN = 50_000  # objects, from one search for garbage to the next; Python's own is some 700
# What `keep_memory` sets: {variable: (option, value)} of mallopt(3).
KEEPING = {"MALLOC_ARENA_MAX": (-8, 1), "MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1)}
SHARED = "TWINSCALE_SHARED"  # set in a process that may share its processors with another of ours: it has no MFU

CHILDREN, ENDING, LOCK = weakref.WeakSet(), threading.Event(), threading.RLock()


# ---- children

def helper(module: str, *words: object) -> list[str]:
    """The command of a child that works for us alone, a module or, after "-c", a program: it hears no Ctrl-C, and is
    killed when we are gone.

    Linux takes the thread that starts it for its parent: start it from one that lives as long as it is needed.
    """
    return _command("helper", module, words)


def training(*words: object) -> list[str]:
    """The command of a `twinscale` that is told to save and leave when we are gone."""
    return _command("training", "twinscale.common.cli", words)


def printed(python: str, module: str, *words: object) -> tuple[list[str], dict[str, str]]:
    """The command of a module for people to paste: (words, the environment that it needs)."""
    return [python, "-P", "-m", module, *map(str, words)], {} if _installed() else {"PYTHONPATH": str(ROOT)}


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """The Popen of a child that an interrupt ends. Raises KeyboardInterrupt once there was one."""
    with LOCK:
        if ENDING.is_set():
            raise KeyboardInterrupt
        child = subprocess.Popen(command, **options)
        CHILDREN.add(child)
    return child


def run(command: Sequence[str], timeout: float | None = None, **options: Any) -> subprocess.CompletedProcess:
    """As subprocess.run, of a child that an interrupt ends."""
    with start(command, **options) as child:
        try:
            said = child.communicate(timeout=timeout)
        except BaseException:
            child.kill()
            raise
    return subprocess.CompletedProcess(command, child.returncode, *said)


@contextmanager
def interruptible() -> Iterator[None]:
    """While open, SIGINT ends the children first, for which threads of ours wait, and then raises KeyboardInterrupt."""
    ENDING.clear()
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupted(*_):
        with LOCK:
            ENDING.set()
            for child in list(CHILDREN):
                if child.poll() is None:
                    child.kill()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _command(kind, module, words):
    return [sys.executable, "-P", str(Path(__file__).resolve()), kind, str(os.getpid()), module, *map(str, words)]


def _installed():
    """Whether `python -P -m twinscale.common.cli` finds us without help."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return bool(distribution("twinscale"))
    except PackageNotFoundError:
        return False


# ---- what a process begins with

def keep_out_here(root: Path | str = ROOT) -> None:
    """Drops the working directory from where modules are looked for, in this process and those that it starts, unless
    it is where our packages lie or PYTHONPATH names it in full."""
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    parts = [os.path.abspath(part) for part in parts if os.path.normpath(part or ".") != "."]
    with suppress(FileNotFoundError):  # a working directory that is gone
        here = os.getcwd()
        if here not in (*parts, str(root)):
            sys.path[:] = [part for part in sys.path if os.path.abspath(part or ".") != here]
    os.environ.pop("PYTHONPATH", None)
    os.environ |= {"PYTHONSAFEPATH": "1", **({"PYTHONPATH": os.pathsep.join(parts)} if parts else {})}


def open_standard() -> None:
    """Standard streams that can be written, whatever the shell has left of them.

    One that is closed leads nowhere, or the next file opened would have its number and what is said would end up
    there; one of an encoding that cannot hold a character gets its escape; and what is said on stderr may be lost, as
    on a full disk, but stops nothing.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # one of a terminal or a file can
    sys.stderr = io.TextIOWrapper(Talk(), sys.stderr.encoding, "backslashreplace", line_buffering=True,
                                  write_through=True)


class Talk(io.RawIOBase):
    """stderr, whose failures are nobody's but its reader's."""

    def write(self, said: Any) -> int:
        with suppress(OSError):
            os.write(2, said)
        return len(said)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)


def quieten() -> None:
    """Sets what TensorFlow and Keras read when they are imported into this process; a level of messages that is set
    already stays."""
    os.environ |= QUIET | {name: os.environ[name] for name in ("TF_CPP_MIN_LOG_LEVEL",) if name in os.environ}


@contextmanager
def hushed() -> Iterator[None]:
    """While open, a library's start-up lines on stderr (what it says of absent GPUs, even with its messages off) are
    held back, and only what is none of them is said afterwards."""
    import tempfile

    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said.read().decode(errors="replace").splitlines():
                if line.strip() and not line.startswith(STARTUP):
                    print(line, file=sys.stderr)


def keep_memory() -> None:
    """Has the C library keep what arrays are freed for those that are made next, in this process. It would give large
    ones back, and of each that a step makes the kernel would clear every page anew, which takes a third of a small
    model's step on a CPU. What is set in the environment stands.

    Only what lies in the one arena is kept, which is one lock: nothing is changed where many cores would wait for it.
    """
    import ctypes

    with suppress(AttributeError, OSError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        if len(os.sched_getaffinity(0)) <= FEW_CORES:
            for name, (option, value) in KEEPING.items():
                if name not in os.environ:
                    mallopt(option, value)


def collect_rarely() -> None:
    """Has Python look for garbage more rarely in this process. Frameworks make millions of objects when they are
    imported and when they trace, next to none of them garbage in a ring, and looking through them takes a tenth of that
    time."""
    gc.set_threshold(MADE_BETWEEN, 20, 100)


def quieten_failures(asked: str | None) -> None:
    """Lets what a library's thread, task or finaliser raises on a full disk or the like print no traceback: whoever
    waits for it says so in one line. What nobody expected is one line at once; the whole way where TWINSCALE_TRACEBACK
    is `asked`."""
    if asked:
        return
    threading.excepthook = sys.unraisablehook = _failed_aside
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it logs what a task has raised and nobody took


def _failed_aside(failed):
    from twinscale.common.errors import known, unexpected

    error = failed.exc_value
    if error is not None and not known(error) and str(error) != "Event loop is closed":  # said of the end of others
        print(f"twinscale: {unexpected(error)}", file=sys.stderr)


def give_up_output() -> None:
    """Lets what stdout still holds go nowhere, so that the interpreter does not fail on it again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_with(parent: int | str, kind: str = "helper") -> None:
    """Has Linux end this process when `parent`, the process that has made it, is gone, as children of a kind are."""
    import ctypes

    ctypes.CDLL(None).prctl(1, KINDS[kind])  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # gone before we could ask to be told
        os._exit(128 + KINDS[kind])


def _begin(kind, parent):
    """What a child does first."""
    import importlib.util

    end_with(parent, kind)
    if kind == "helper":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ[CHILD] = "1"
    keep_out_here()
    keep_memory()
    collect_rarely()
    quieten_failures(os.environ.get("TWINSCALE_TRACEBACK"))
    found = importlib.util.find_spec("twinscale")
    if found is None or Path(found.origin).resolve().parents[1] != ROOT:
        sys.path.insert(0, str(ROOT))  # run from its source
    from twinscale.common import limited

    if limited.limit() is not None:
        limited.take_room()


def _run_module(module):
    """Runs a module as a script. What it raises, as where there is no memory to import a framework, is one line on
    stderr, and the exit code that is returned."""
    import runpy

    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception as error:
        from twinscale.common.errors import NO, known, show_traceback, unexpected

        show_traceback(error)
        said = known(error)
        print(f"twinscale: {said or unexpected(error)}", file=sys.stderr)
        return said.exit_code if said else NO
    return 0


if __name__ == "__main__":
    kind, parent, module, *words = sys.argv[1:]
    _begin(kind, parent)
    sys.argv[1:] = words
    if module == "-c":
        exec(words[0], {"__name__": "__main__"})
    else:
        sys.exit(_run_module(module))
