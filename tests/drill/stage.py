"""Starts trainings in processes that are ready in half a second, watches them, and counts those that hang."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from tests.drill.moments import Start, run
from twinscale.common.backends import BACKENDS, module_of, options_of

ALL = ["sklearn.datasets", "tensorboardX", "twinscale.common.cli", "twinscale.common.training.loop",
       "tests.drill.moments"]
OF_RUNTIMES = {"jax": ["jax", "jax.numpy", "jax.experimental.multihost_utils", "orbax.checkpoint"],
               "tensorflow": ["tensorflow", "keras"]}
LONGEST = 120.0  # seconds that a process may take until it counts as hanging
STEPS, EVERY, EPOCH = 24, 4, 6
RECIPE = """name = "drill"
seed = 11
[data]
source = "digits"
held_out = 0.25
[model]
family = "mlp"
hidden = [16]
dropout = 0.1
[optimizer]
ema = 0.9
[schedule]
kind = "cosine"
warmup = 4
[train]
steps = 24
global_batch = 230
log_every = 1
save_every = 4
save_minutes = 0.0
keep = 2
[keras]
jit_compile = false
"""


class Disagreement(Exception):
    """What happened is not what the oracle says."""


class Hang(Disagreement):
    """A process did not end in its time."""


def demand(condition, said):
    """Raises Disagreement unless the condition holds."""
    if not condition:
        raise Disagreement(said)


class Process:
    """A training's process: what it was asked, what it says, what happens in it."""

    def __init__(self, context, start, longest):
        self.start, self.longest = start, longest
        self.pipes = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        self.heard = [bytearray(), bytearray()]  # the journal; stdout and stderr
        self.process = context.Process(target=run, args=(start, *(sender for _, sender in self.pipes)))
        self.process.start()
        self.readers = [threading.Thread(target=self.read, args=(i,), daemon=True) for i in range(2)]
        for (_, sender), reader in zip(self.pipes, self.readers, strict=True):
            sender.close()
            reader.start()

    def read(self, i):
        receiver = self.pipes[i][0]
        while part := os.read(receiver.fileno(), 1 << 16):
            self.heard[i] += part
        receiver.close()

    def entries(self, *what):
        """What its journal holds, in order; of some kinds, or all."""
        whole = bytes(self.heard[0]).rpartition(b"\n")[0].decode()
        found = [json.loads(line) for line in whole.splitlines()]
        return [entry for entry in found if not what or entry["what"] in what]

    def steps(self):
        """The steps that it trained, in order."""
        return [entry["step"] for entry in self.entries("batch")]

    def until(self, what, **values):
        """Waits until its journal holds such an entry, and returns it."""
        end = time.monotonic() + self.longest
        while time.monotonic() < end:
            ended = self.code is not None
            for entry in self.entries(what):
                if all(entry.get(name) == value for name, value in values.items()):
                    return entry
            demand(not ended, f"it ended with {self.code} before {what} {values}: {self.last_words()}")
            time.sleep(0.002)
        raise Hang(f"it never came to {what} {values}")

    def send(self, number):
        os.kill(self.process.pid, number)

    def wait(self, seconds=None):
        """Its exit code (of a signal, minus its number); raises Hang where it takes longer."""
        seconds = seconds or self.longest
        self.process.join(seconds)
        if self.code is None:
            raise Hang(f"it did not end within {seconds:.0f} s: {self.last_words()}")
        for reader in self.readers:
            reader.join(10)
        return self.code

    def end(self):
        if self.code is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.join(10)

    @property
    def code(self):
        return self.process.exitcode

    def said(self):
        return self.heard[1].decode(errors="replace")

    def last_words(self):
        said = self.said().splitlines()
        ours = [line for line in said if line.startswith("twinscale:") and "next:" not in line]
        return (ours or said or ["it said nothing"])[-1][:400]


@dataclass(frozen=True)
class Job:
    """The processes of one command, one a host, and the run's directory."""

    run: Path
    hosts: tuple

    @property
    def first(self):
        return self.hosts[0]

    def wait(self, seconds=None):
        """The exit code of each host."""
        return [process.wait(seconds) for process in self.hosts]

    def last_words(self):
        return " | ".join(process.last_words() for process in self.hosts)


class Stage:
    """One backend's drill: its directory, its processes, and the runs that many faults share."""

    def __init__(self, out, backend, seed):
        self.out, self.backend, self.seed = out.absolute(), backend, seed
        if out.exists() and not (out / "recipe.toml").exists():
            sys.exit(f"{out}: is there, and no drill's; choose another --out")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        (out / "recipe.toml").write_text(RECIPE)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            [*OF_RUNTIMES[BACKENDS[backend].runtime], f"{module_of(backend)}.room", *ALL])
        with silent():
            ensure_running()
        self.controls, self.longest = (), LONGEST
        self.number, self.started, self.kept, self.stay = 0, [], {}, set()
        self.lost, self.redone = 0, 0  # steps trained again: although they were saved, and since the last save

    def random(self, *what):
        """Chance that depends on the seed and on what it is for, and on nothing that ran before."""
        return random.Random(f"{self.seed} {self.backend} {what}")

    def place(self, like=None):
        """The directory of a new run; with `like`, a copy of another."""
        self.number += 1
        path = self.out / f"{self.number:03}" / "run"
        path.parent.mkdir()
        if like:
            shutil.copytree(like, path, symlinks=True)
        return path

    def start(self, run_dir, *options, done=(), hosts=1, verb="train", watched=None, cache=None):
        """Begins a command, a process for each host. `done` is what is done to each of them, or {host: what}."""
        ports, processes = free_ports(hosts) if hosts > 1 else [], []
        words = [str(self.out / "recipe.toml"), *options, *options_of(self.backend), "--run", str(run_dir)]
        if hosts > 1:
            words += [f"devices.hosts={hosts}", f"devices.data={hosts}"]
        if verb == "convert":
            words = [str(run_dir), *options]
        for host in range(hosts):
            start = Start(self.backend, (verb, *words), watched or run_dir, cluster(ports, host),
                          tuple(done.get(host, ()) if isinstance(done, dict) else done), self.controls,
                          cache or self.out / "compiled")
            processes.append(Process(self.context, start, self.longest))
            self.started.append(processes[-1])
        return Job(run_dir, tuple(processes))

    def leave(self, where):
        """Writes what the processes of a fault have said, and what happened in them, for whoever looks into it."""
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        for i, process in enumerate(self.started):
            words = f"{' '.join(process.start.arguments)}\nexit code {process.code}, done: {process.start.done}\n"
            (where / f"{i}.output").write_text(words + process.said())
            (where / f"{i}.journal").write_bytes(process.heard[0])

    def clear(self):
        """Ends what a fault has left running; returns the ids of processes that outlived those that were started."""
        for process in self.started:
            process.end()
        sessions, left = {process.process.pid for process in self.started}, []
        self.started = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) in sessions and fields[0] != "Z":
                    left.append(int(stat.parent.name))
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def once(self, name, make):
        """What `make` returns, made once a drill, without any control; its directories stay."""
        if name not in self.kept:
            (controls, longest), (self.controls, self.longest) = (self.controls, self.longest), ((), LONGEST)
            mark = self.number
            try:
                self.kept[name] = make()
            finally:
                self.controls, self.longest = controls, longest
            self.stay |= set(range(mark + 1, self.number + 1))
        return self.kept[name]

    def forget(self, mark):
        """Removes the directories made since, but for those that stay."""
        for number in set(range(mark + 1, self.number + 1)) - self.stay:
            shutil.rmtree(self.out / f"{number:03}", ignore_errors=True)


@contextmanager
def silent():
    """What starts here talks to nobody on stderr: TensorFlow greets whoever imports it."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def cluster(ports, host):
    """The environment that tells a process who its fellows are."""
    if not ports:
        return {}
    workers = [f"127.0.0.1:{port}" for port in ports]
    return {"JAX_COORDINATOR_ADDRESS": workers[0], "JAX_NUM_PROCESSES": str(len(ports)), "JAX_PROCESS_ID": str(host),
            "TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": host}})}


def free_ports(count):
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
