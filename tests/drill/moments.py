"""Inside a training's process: its moments by name, and what can be done to it at one of them.

    "begin"                before the command line is read
    "batch N"              before step N is dispatched
    "compile"              as the first step is dispatched
    "save N", "begun N"    before a save of step N begins, and once `Store.write` has returned
    "wait N"               in the background, before `Store.wait`
    "commit N"             all is on disk, and the manifest is not
    "saved N"              run.json says that step N is saved
    "evaluate"             before an evaluation
    "EVENT PATH K"         the K-th time that Python is about to open for writing, rename, make or remove a path under
                           the watched directory, or to sync it; digits in paths are N

What happened goes down a pipe, one JSON object a line: a kill cannot take it back, and a full disk does not stop it.
"""

import atexit
import ctypes
import errno
import importlib
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from twinscale.common.backends import BACKENDS, on_jax

RUNTIMES = {"jax": "twinscale.jaxscale", "tensorflow": "twinscale.tfscale"}  # whose the trainer and the store are
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.symlink", "os.link"}
UNCOUNTED = re.compile(r"(hosts(/|$)|events\.|\.lock$)")  # written by the clock, and so at no step of their own


def runtime_module(backend, name):
    """A module of the package that trains a backend's program: "train", "checkpoint"."""
    return importlib.import_module(f"{RUNTIMES[BACKENDS[backend].runtime]}.{name}")


@dataclass(frozen=True)
class Start:
    """One process: the command line's arguments, and what is done to it: ((moment, action, {name: value}), ...)."""

    backend: str
    arguments: tuple
    watched: Path  # the directory whose files are counted
    environment: dict = field(default_factory=dict)
    done: tuple = ()
    controls: tuple = ()  # names of `tests.drill.controls`
    cache: Path | None = None  # of what JAX has compiled


def run(start: Start, journal: Connection, output: Connection):
    """The child's whole life; it ends the process."""
    os.setsid()  # whoever is left behind later is found by it
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing outlives the drill
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    os.environ.update(start.environment)
    multiprocessing.set_start_method("fork", force=True)  # what a training has, and its queues then leave no semaphore
    child = Child(start, journal)
    child.instrument()
    for name in start.controls:
        importlib.import_module("tests.drill.controls").CONTROLS[name](start.backend)
    child.at("begin")
    from twinscale.common import cli

    sys.argv = ["twinscale", *start.arguments]
    code = cli.main(list(start.arguments))
    # As the interpreter itself would end, but for what multiprocessing would do instead.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def around(owner, name, before=None, after=None):
    """Has what is given called with a method's arguments before and after it."""
    function = getattr(owner, name)

    def watched(*arguments, **options):
        if before:
            before(*arguments, **options)
        returned = function(*arguments, **options)
        if after:
            after(*arguments, **options)
        return returned

    setattr(owner, name, watched)


class Child:
    """What runs in a child, and what is to be done to it."""

    def __init__(self, start, journal):
        self.start, self.journal = start, journal
        self.counts, self.root = Counter(), str(start.watched)
        self.wanted = {}
        for moment, action, values in start.done:
            self.wanted.setdefault(moment, []).append((action, values))
        self.busy = threading.local()
        self.instead = lambda batch: {}  # what a batch holds in place of what it should

    def note(self, what, **values):
        line = json.dumps({"what": what, "time": time.monotonic(), **values}) + "\n"
        os.write(self.journal.fileno(), line.encode())

    def at(self, moment):
        """Does what is to be done at a moment."""
        for action, values in self.wanted.get(moment, ()):
            self.note("done", moment=moment, action=action)
            ACTIONS[action](self, **values)

    # ---- where the training is

    def instrument(self):
        """Puts the moments into the training's code, and lets it leave its whole last state."""
        store = runtime_module(self.start.backend, "checkpoint").Store
        if on_jax(self.start.backend) and self.start.cache:
            import jax

            jax.config.update("jax_compilation_cache_dir", str(self.start.cache))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        self.watch_loop()
        self.watch_saves(store)
        self.watch_files()

    def watch_loop(self):
        """The loop's batches, compilations and evaluations become moments, and its whole last state is traced."""
        from twinscale.common.training import ledger as loop_ledger
        from twinscale.common.training import loop

        probe, batches, evaluate = loop.Probe, loop.training_batches, loop.held_out_sums
        dispatch = loop_ledger.Ledger.dispatch

        def watched_batches(*arguments, **options):
            for number, batch, digest in batches(*arguments, **options):
                self.note("batch", step=number, digest=digest)
                self.at(f"batch {number}")
                yield number, batch | self.instead(batch), digest

        def watched_evaluate(*arguments):
            self.note("evaluate")
            self.at("evaluate")
            return evaluate(*arguments)

        def watched_dispatch(ledger, *arguments):
            if ledger.compiled is None:
                self.note("compile")
                self.at("compile")
            return dispatch(ledger, *arguments)

        loop_ledger.peak_flops = lambda *_: (1e12, "not measured here")  # half a second, of no use here
        loop.Probe = lambda **values: replace(probe(**values), trace="full", traced=(), twin_steps=0)
        loop.training_batches, loop.held_out_sums = watched_batches, watched_evaluate
        loop_ledger.Ledger.dispatch = watched_dispatch

    def watch_saves(self, store):
        """What is saved and read by a backend's `Store`, and what run.json says of it, become moments."""
        from twinscale.common.training.checkpoints import Checkpoints
        from twinscale.common.training.run import Run

        known = {}  # of a Store, the step that it writes

        def save(checkpoints, step, *_):
            self.note("save", step=step)
            self.at(f"save {step}")

        def write(store, step, *_):
            known[store] = step

        def begun(store, step, *_):
            self.note("begun", step=step)
            self.at(f"begun {step}")

        def wait(store):
            self.at(f"wait {known.get(store)}")

        def commit(checkpoints, step, *_):
            self.note("commit", step=step)
            self.at(f"commit {step}")

        def read(store, step, *_):
            self.note("read", step=step)

        def updated(run, **values):
            if "saved" in values:
                self.note("saved", step=values["saved"])
                self.at(f"saved {values['saved']}")

        around(Checkpoints, "save", before=save)
        around(Checkpoints, "write_manifest", before=commit)
        around(store, "write", before=write, after=begun)
        around(store, "wait", before=wait)
        around(store, "read", before=read)
        around(Run, "update", after=updated)

    def watch_files(self):
        """Python's writes under the watched directory become moments."""
        fsync = os.fsync

        def hook(event, arguments):
            if event not in EVENTS or getattr(self.busy, "now", False):
                return
            path = self.written(event, arguments)
            if path:
                self.touch(event, path)

        def watched_fsync(fd):
            number = fd if isinstance(fd, int) else fd.fileno()
            path = self.named(os.readlink(f"/proc/self/fd/{number}"))
            if path:
                self.touch("os.fsync", path)
            return fsync(fd)

        os.fsync = watched_fsync
        sys.addaudithook(hook)

    def touch(self, event, path):
        what = f"{event} {path}"
        self.counts[what] += 1
        self.busy.now = True
        try:
            self.note("file", moment=f"{what} {self.counts[what]}")
            self.at(f"{what} {self.counts[what]}")
        finally:
            self.busy.now = False

    def written(self, event, arguments):
        """The path under the watched directory that an audit event is about to change, digits as N, or None."""
        if event == "open":
            path, mode, flags = arguments
            if not (set(mode or "") & set("wax+") or (flags or 0) & WRITING):
                return None
            return self.named(path)
        if event in ("os.rename", "os.link", "os.symlink"):
            source, target = self.named(arguments[0], arguments[2:3]), self.named(arguments[1], arguments[3:4])
            return target and f"{source} -> {target}"
        return self.named(arguments[0], arguments[1:2] if event in ("os.remove", "os.rmdir") else arguments[2:3])

    def named(self, path, folder=()):
        if isinstance(path, int) or path is None:
            return None
        path = os.fsdecode(path)
        if not os.path.isabs(path):
            fd = folder[0] if folder else -1
            path = os.path.join(os.readlink(f"/proc/self/fd/{fd}") if isinstance(fd, int) and fd >= 0 else os.getcwd(),
                                path)
        if not path.startswith(self.root + "/"):
            return None
        path = path[len(self.root) + 1:]
        return None if UNCOUNTED.match(path) else re.sub(r"\d+", "N", re.sub(r"[0-9a-f]{32}", "HASH", path))


# ---- what can be done


def kill(child, number=signal.SIGKILL):
    os.kill(os.getpid(), number)
    if number == signal.SIGKILL:
        time.sleep(60)  # never: the signal is on its way


def term(child, times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)


def later(child, seconds, number=signal.SIGTERM):
    """Sends itself a signal after some time, while what is done now is being done."""
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def fail(child, code):
    number = getattr(errno, code)
    raise OSError(number, os.strerror(number))


def limit(child, size):
    """From now on no file grows past `size` bytes: what is written then is short, and then an error."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def stick(child, seconds=600):
    time.sleep(seconds)


def hold(child, path):
    """Waits until a file is there."""
    while not path.exists():
        time.sleep(0.01)


def poison(child):
    """From now on no pixel is a number, which TensorFlow's fused product, bias and ReLU makes 0 of in a graph without
    XLA: the loss stays finite, the gradient does not."""
    child.instead = lambda batch: {"inputs": np.full_like(batch["inputs"], np.nan)}


def clock(child, seconds):
    """Sets the clock, and leaves the monotonic one."""
    from datetime import datetime, timedelta

    import twinscale.common.training.run as run

    now = time.time
    time.time = lambda: now() + seconds

    class Datetime(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(seconds=seconds)

    run.datetime = Datetime


def hide(child, step):
    """This host does not see a checkpoint that was there when it began, as if its file system lagged."""
    from twinscale.common.training.checkpoints import Checkpoints

    listed, began = Checkpoints.listed, time.time()
    Checkpoints.listed = lambda checkpoints: [
        other for other in listed(checkpoints)
        if other != step or checkpoints.files.manifest(other).stat().st_mtime > began]


ACTIONS = {"kill": kill, "term": term, "later": later, "fail": fail, "limit": limit, "stick": stick, "hold": hold,
           "poison": poison, "clock": clock, "hide": hide}
