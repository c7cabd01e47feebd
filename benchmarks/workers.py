"""Trainers as processes that answer calls; the other end is `common/calls/worker.py`."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from twinscale.benchmarks.compiled import Programs
from twinscale.benchmarks.sides import COLUMNS, ROOMS, rooms_of, sides_of, spoken
from twinscale.common import limited, process
from twinscale.common.errors import TwinscaleError, error_of
from twinscale.common.files.access import escaped_lines

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

SWAPPED = {"keras on jax": "twinscale.kerasjax", "flax on tensorflow": "twinscale.swap.flax_on_tensorflow"}
# On a GPU, two processes that leave each other room.
ENVIRONMENT = {**process.QUIET, process.SHARED: "1", "TF_FORCE_GPU_ALLOW_GROWTH": "true",
               "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
STARTUP = process.STARTUP
CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}  # an environment in which neither framework sees a GPU
MEMORY, IDLE, NOTICED = 4 << 30, 1.5, 0.1  # bytes left, cores that do nothing, and how many seconds they are watched
COMES = 60.0  # seconds within which a copy of a process is there
OWN = "twinscale: "  # what `common/process.py` says of a process that an error ends begins so


class Trainer(Protocol):
    """What answers the calls of one backend: a Worker, or what stands before one."""

    backend: str

    def ask(self, call: str, recipe: Any, **arguments: Any) -> Any:
        """The value of a call of a recipe; raises the TwinscaleError that the trainer raised."""


class Worker:
    """One backend's process: its name, and the module that runs. It compiles all that it runs `anew`, or finds what
    earlier ones have compiled. Of a pair of one framework it runs the program `side`."""

    side: str | None = None
    last = None  # what it said last where that has ended it, which is shown once, as the error

    def __init__(self, backend: str, environment: Mapping[str, str] | None = None, module: str | None = None,
                 anew: bool = True, side: str | None = None) -> None:
        given = {**os.environ, **ENVIRONMENT, **(environment or {})}
        self.backend, self.side = backend, side
        own = {column.room: name for name, column in COLUMNS.items()}.get(module or "", backend)  # by what compiles
        self.programs = None if anew else Programs(own, given)
        self.process: Any = process.start(process.helper(module or ROOMS[backend]), text=True, encoding="utf-8",
                                     errors="replace", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE,
                                     env=given | (self.programs.environment if self.programs else {}))
        self.messages = Thread(target=self.forward, daemon=True)
        self.messages.start()

    def forward(self) -> None:
        """What the process says, on our stderr under its name; not what TensorFlow's start-up always says."""
        for line in self.process.stderr:
            if not line.strip() or line.startswith(STARTUP) or limited.is_last_word(line.encode()):
                continue
            self.say(self.last)
            self.last = line if line.startswith(OWN) else None
            self.say(None if self.last else line)
        if self.process.wait() == 0:
            self.say(self.last)

    def say(self, line: str | None) -> None:
        """Prints a line of the process, if there is one, and none once all is ending."""
        if line and not process.ENDING.is_set():
            print(f"{spoken(self.backend):>5}  {escaped_lines(line)}", end="", file=sys.stderr, flush=True)

    def ask(self, call: str, recipe: "Recipe | None" = None, **arguments: Any) -> Any:
        """The value of a call; raises the TwinscaleError that the trainer raised, or one that it died."""
        line = asked(self.process.stdin, self.process.stdout, call, of_side(recipe, self.side), arguments)
        if not line:
            raise self.died(call)
        if self.programs:
            self.programs.share()
        return value_of(line, spoken(self.backend))

    def died(self, call: str) -> TwinscaleError:
        """The error of a process that has ended without an answer."""
        code = self.process.wait()
        self.messages.join(1)  # its last words come first
        if lacking := limited.lack(code, ()):
            return lacking
        if self.last:
            return error_of(code, f"{spoken(self.backend)}: {self.last.removeprefix(OWN).strip()}")
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        why = "; where memory ends, Linux ends a process so" if code == -signal.SIGKILL else ""
        return error_of(code, f"the {spoken(self.backend)} trainer died during {call} ({how}{why}); its messages are "
                              "above; `twinscale doctor` says what this machine offers")

    def dismiss(self) -> None:
        """Tells the process to end."""
        for end in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # of one that is gone
                end.close()

    def close(self) -> None:
        """Ends the process."""
        self.dismiss()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.messages.join(1)
        if self.programs:
            self.programs.close()


class Copy:
    """A copy of a worker's process, made once that has imported its framework and before it has computed anything: it
    answers the same calls beside it, and takes no time to start. It ends with the worker."""

    def __init__(self, worker: Worker, path: Path) -> None:
        self.backend, self.side, self.process = worker.backend, worker.side, worker.process
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(path))
            door.listen(1)
            worker.ask("fork", path=path)
            door.settimeout(COMES)
            end, _ = door.accept()
        with end:
            end.settimeout(None)
            self.requests, self.replies = end.makefile("w", encoding="utf-8"), end.makefile("r", encoding="utf-8")

    def ask(self, call: str, recipe: "Recipe | None" = None, **arguments: Any) -> Any:
        """As Worker's."""
        if line := asked(self.requests, self.replies, call, of_side(recipe, self.side), arguments):
            return value_of(line, spoken(self.backend))
        raise TwinscaleError(f"the {spoken(self.backend)} trainer's second process died during {call}; its messages "
                             "are above; `twinscale doctor` says what this machine offers")

    def close(self) -> None:
        """Ends the process."""
        for end in (self.requests, self.replies):
            with suppress(OSError):
                end.close()


def of_side(recipe: "Recipe | None", side: str | None) -> "Recipe | None":
    """A recipe as the process of a side is given it."""
    return recipe if recipe is None or side is None else recipe.with_values(model={"side": side})


def asked(requests: Any, replies: Any, call: str, recipe: "Recipe | None", arguments: dict[str, Any]) -> str:
    """The line that answers a call, whole; "" where whoever answers is gone."""
    if recipe is not None:
        arguments["recipe"] = recipe.model_dump(mode="json")
    try:
        requests.write(json.dumps({"call": call, "arguments": arguments}, default=str) + "\n")
        requests.flush()
        line = replies.readline()
    except OSError:  # it has closed its ends
        return ""
    return line if line.endswith("\n") else ""


def value_of(line: str, backend: str) -> Any:
    """The value that a line answers with; raises the TwinscaleError that it says."""
    reply = json.loads(line)
    if "error" in reply:
        raise error_of(reply["exit_code"], f"{backend}: {reply['error']}")
    return reply["value"]


@contextmanager
def copies(workers: Mapping[str, Worker]) -> Iterator[dict[str, Copy]]:
    """{backend: a Copy of its worker} of workers that were asked for nothing yet; without those that cannot be made,
    as where a folder for temporary files has too long a path for a socket: they save time alone."""
    made: dict[str, Copy] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="twinscale-") as folder:
            for backend, worker in workers.items():
                with suppress(OSError):
                    made[backend] = Copy(worker, Path(folder) / backend)
        yield made
    finally:
        for copy in made.values():
            copy.close()


def room_for_another() -> bool:
    """Whether a further process of a backend, beside one of each, ends a comparison sooner: where there is a core for
    it and memory, and no accelerator, which processes share badly."""
    accelerators = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*")]
    cores = len(os.sched_getaffinity(0))
    if accelerators or cores < 2 or psutil.virtual_memory().available < MEMORY:
        return False
    busy = min(psutil.cpu_percent(NOTICED) for _ in range(2))  # what we have just done may still be counted
    return busy / 100 * (psutil.cpu_count() or 1) < cores - IDLE


def each(workers: Mapping[str, Any], function: Callable[[Any], Any]) -> dict[str, Any]:
    """{backend: function(worker)} of every worker, side by side."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return dict(zip(workers, pool.map(function, workers.values()), strict=True))


def together(workers: Mapping[str, Any], function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function(worker)` for `each`, of something that nobody goes on without: where it fails for one worker all are
    ended at once, and what failed first is what is raised."""
    failed = []

    def tried(worker):
        try:
            return function(worker)
        except BaseException as error:
            failed.append(error)
            for other in workers.values():
                other.process.kill()
            raise failed[0] from None

    return tried


def one_behind(workers: Mapping[str, Any], keys: Iterable[Any], work: Callable[[Any, Any], Any],
               before: Callable[[Any], Any] = lambda worker: None) -> dict[str, dict[Any, Any]]:
    """{name: {key: work(worker, key)}} of workers, side by side: JAX, which compiles the faster, leads through the
    keys, and Keras does none before JAX has done it. Each does `before(worker)` first, whatever the other is at.

    Raises what either raises; Keras does not wait for a JAX that has failed.
    """
    led = {key: Future() for key in keys}

    def lead(worker):
        try:
            before(worker)
            for key, done in led.items():
                done.set_result(work(worker, key))
        except BaseException as error:
            for done in led.values():
                if not done.done():
                    done.set_exception(error)
            raise
        return {key: done.result() for key, done in led.items()}

    def follow(worker):
        before(worker)
        found = {}
        for key, done in led.items():
            done.result()
            found[key] = work(worker, key)
        return found

    return each(workers, lambda worker: lead(worker) if worker.backend == "jax" else follow(worker))


@contextmanager
def open_workers(environment: Mapping[str, str] | None = None, rooms: Mapping[str, str] = ROOMS, anew: bool = False,
                 model: Any = None) -> Iterator[dict[str, Worker]]:
    """{backend: Worker} of both backends, or of other `rooms` by name, with more of an environment where it is given;
    the frameworks are imported side by side. They compile `anew` what earlier ones have compiled, or find it. Of a
    recipe's `model` that is two programs of one framework, both are of it, each with its side."""
    sides = sides_of(model)
    rooms = rooms_of(model) if sides else rooms
    workers = {backend: Worker(backend, environment, module, anew, sides.get(backend))
               for backend, module in rooms.items()}
    try:
        yield workers
    except BaseException:  # nobody waits for what they are at
        for worker in workers.values():
            worker.process.kill()
        raise
    finally:
        for worker in workers.values():
            worker.dismiss()
        for worker in workers.values():
            worker.close()
