"""Signs of life: each host writes its own once a second, a watchdog ends a process that is stuck, and a request to
stop is heard.

    hosts/N.json      {"process", "machine", "state", "beat", "seconds"}: which it is, whether it is "alive", has "left"
                      well or "failed", beats so far, seconds since it began
    hosts/N.stacks    what every thread was doing when the watchdog fired
"""

import contextlib
import ctypes
import faulthandler
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Self

from typing_extensions import TypedDict

from twinscale.common.errors import HUNG, BadInput, HostLost, Stopped, TwinscaleError
from twinscale.common.files.access import escaped_lines, local, no_follow, read_json, write_json
from twinscale.common.files.kinds import STRICT, Count, Seconds
from twinscale.common.files.run_files import RunFiles

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

EVERY = 1.0  # seconds between beats
SILENT = 2.5  # seconds without a beat that tell a dead or stopped process from a living one


class Beat(TypedDict):
    """hosts/N.json."""

    __pydantic_config__ = STRICT

    process: Count
    machine: str
    state: str
    seconds: NotRequired[Seconds]


ABORTED = []  # the pulse of the process that an abort ends


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def ABORT(_: int) -> None:
    """The handler of SIGABRT as C calls it, with the signal's number. It stays referenced here: C would call a callback
    that Python has freed. It does not return, for the process would be aborted then."""
    ABORTED[0].leave(ABORTED[0].lost("the framework gave this process up"))


def is_gone(beat: Mapping[str, Any]) -> bool:
    """Whether a host has ended badly, by its last sign of life: it says so, or its process on this machine is dead."""
    if beat["state"] != "alive" or beat["machine"] != socket.gethostname():
        return beat["state"] == "failed"
    try:
        return Path(f"/proc/{beat['process']}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return Path("/proc/self/stat").exists()


class Pulse:
    """The signs of life of this host, in a run's directory. As a context it beats and watches."""

    def __init__(self, path: Any, devices: Any, recipe: "Recipe") -> None:
        self.files, self.host, self.hosts = RunFiles(path), devices.host, devices.hosts
        self.limit, self.patience = recipe.devices.watchdog, recipe.devices.compile_deadline
        self.began = time.monotonic()
        self.ended, self.stopping, self.beat = threading.Event(), False, 0
        self.deadline: float | None = None
        self.doing = "starting"
        self.thread = threading.Thread(target=self.live, name="pulse", daemon=True)

    @property
    def elapsed(self) -> float:
        """Seconds since this start of the training began."""
        return time.monotonic() - self.began

    def allow(self, doing: str, patient: bool = False) -> None:
        """What is about to be done has its time from now on: `devices.watchdog`, or if it may take longer
        `devices.compile_deadline`."""
        limit = self.patience if patient else self.limit
        self.deadline, self.doing = (time.monotonic() + limit if limit else None), doing

    def live(self) -> None:
        """Gives signs of life until the training has ended, and ends the process where it hangs."""
        gone = 0
        while not self.ended.is_set():
            if self.deadline is not None and time.monotonic() > self.deadline:
                self.give_up()
            self.write("alive")
            gone = gone + 1 if any(is_gone(beat) for beat in self.beats().values()) else 0
            if gone > 2:  # the framework was first to say so, if it was going to
                self.leave(self.lost("it has ended"))
            self.ended.wait(EVERY)

    def write(self, state: str) -> None:
        """Leaves a sign of life; a full disk shows where it matters."""
        self.beat += 1
        if local(self.files.path):
            with contextlib.suppress(OSError):
                write_json(self.files.beat(self.host), {
                    "process": os.getpid(), "machine": socket.gethostname(), "state": state, "beat": self.beat,
                    "seconds": round(self.elapsed, 3)})

    def leave(self, error: TwinscaleError) -> None:
        """Ends the process at once with a typed error: what waits for another host may never return."""
        print(f"twinscale: {escaped_lines(error)}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)

    def give_up(self) -> None:
        """Leaves the stacks of all threads and ends the process at once: what is stuck may never return."""
        with contextlib.suppress(Exception):  # nothing may keep it from ending
            self.files.hosts.mkdir(parents=True, exist_ok=True)
            with open(self.files.stacks(self.host), "w", opener=no_follow) as file:
                faulthandler.dump_traceback(file, all_threads=True)
        stderr: Any = sys.__stderr__
        with contextlib.suppress(Exception):
            faulthandler.dump_traceback(stderr, all_threads=True)
        said = (f"host {self.host}: {self.doing} took longer than its time (devices.watchdog={self.limit:g} s, "
                f"devices.compile_deadline={self.patience:g} s){self.suspects()}; stacks in "
                f"{self.files.stacks(self.host)}; run the same command again to go on from the last checkpoint")
        print(f"twinscale: {escaped_lines(said)}", file=sys.stderr, flush=True)
        os._exit(HUNG)

    def beats(self) -> dict[int, Any]:
        """{host: its last sign of life} of the other hosts."""
        found = {}
        for host in set(range(self.hosts)) - {self.host} if local(self.files.path) else ():
            with contextlib.suppress(BadInput):
                found[host] = read_json(self.files.beat(host), Beat)
        return found

    def suspects(self) -> str:
        """The other hosts that give no sign of life, in words."""
        if self.hosts == 1 or not local(self.files.path):
            return ""
        before = self.beats()
        time.sleep(SILENT)
        after = self.beats()
        silent = [f"host {host} (process {after[host]['process']} on {after[host]['machine']})" for host in after
                  if before.get(host) == after[host]]
        silent += [f"host {host} (never heard of)" for host in range(self.hosts)
                   if host != self.host and host not in after]
        return "; no sign of life from " + ", ".join(silent) if silent else "; all other hosts are alive"

    def lost(self, error: BaseException | str) -> HostLost:
        """The HostLost of an exception that says so."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        said = next((line for line in lines if re.search(r"abort|peer|heartbeat|connect|closed", line)), lines[0])
        return HostLost(f"host {self.host}: another host is gone{self.suspects()} ({said.strip()[:200]}); run "
                        "the same command again to go on from the last checkpoint")

    def listen(self) -> None:
        """From now on SIGTERM asks to stop after the step, and is answered once."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.stop)

    def catch_abort(self) -> None:
        """Lets a framework that aborts this process, as JAX's coordination service does once it misses a host, end it
        as HostLost does. Python's own handlers would come too late."""
        libc = ctypes.CDLL(None)
        libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
        libc.signal(signal.SIGABRT, ctypes.cast(ABORT, ctypes.c_void_p))
        ABORTED[:] = [self]

    def stop(self, *_: Any) -> None:
        self.stopping = True

    def __enter__(self) -> Self:
        self.files.hosts.mkdir(parents=True, exist_ok=True)
        self.before = signal.getsignal(signal.SIGTERM)
        self.listen()
        if self.hosts > 1:
            self.catch_abort()
        self.allow("starting", patient=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self.ended.set()
        self.thread.join()
        self.write("failed" if kind and not issubclass(kind, Stopped) else "left")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before or signal.SIG_DFL)
