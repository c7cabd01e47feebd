"""Trials on a cluster of Ray: each process of a backend is held by an actor, on whichever node has a CPU for it.

All nodes have Twinscale, and see the search's directory under one path, which is looked at before the first training.
"""

import os
import re
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twinscale.common import process
from twinscale.common.backends import module_of
from twinscale.common.errors import NO, BadInput, TwinscaleError, error_of, first_line, known, need, unexpected
from twinscale.common.files.access import read_text, shown
from twinscale.common.files.run_files import LOCK

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

PATIENCE = 10.0  # seconds that a cluster may take to answer
STARTING = 60.0  # seconds that a node may take to start a process which looks at the directory
EVERY = 0.5  # seconds between looks at whether we were interrupted


class Hand:
    """What an actor is of: a backend's process on its node."""

    def __init__(self, backend: str) -> None:
        from twinscale.benchmarks.workers import Worker

        self.worker = Worker(backend, module=module_of(backend), anew=False)

    def ask(self, call: str, recipe: Mapping[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """{"value"} of a call, or {"error", "exit_code"}."""
        from twinscale.common.recipe.schema import Recipe

        try:
            return {"value": self.worker.ask(call, Recipe.model_validate(dict(recipe)), **arguments)}
        except Exception as error:  # to be raised where it was asked for
            said = known(error)
            return {"error": str(said or unexpected(error)), "exit_code": said.exit_code if said else NO}

    def stop(self) -> None:
        """Tells the training to save and to stop."""
        with suppress(ProcessLookupError):
            os.kill(self.worker.process.pid, signal.SIGTERM)


class Far:
    """A process of a backend somewhere in the cluster, asked as a Worker is."""

    def __init__(self, backend: str) -> None:
        import ray

        # One of its threads asks and waits, another hears that it is to stop.
        self.backend, self.gone = backend, False
        self.hand = ray.remote(num_cpus=1, max_concurrency=2)(Hand).remote(backend)
        self.process = SimpleNamespace(poll=lambda: 1 if self.gone else None)

    def ask(self, call: str, recipe: "Recipe", **arguments: Any) -> Any:
        """As Worker's. Raises KeyboardInterrupt where we are interrupted meanwhile."""
        import ray

        plain = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in arguments.items()}
        asked = self.hand.ask.remote(call, recipe.model_dump(mode="json"), plain)
        while not ray.wait([asked], timeout=EVERY)[0]:
            if process.ENDING.is_set():
                raise KeyboardInterrupt
        try:
            reply = ray.get(asked)
        except ray.exceptions.RayError as error:
            self.gone = True
            raise TwinscaleError(f"{self.backend}: its node or actor is gone: {first_line(error, 200)}") from None
        if "error" in reply:
            raise error_of(reply["exit_code"], reply["error"])
        return reply["value"]

    def close(self) -> None:
        """Ends the actor, and with it the process."""
        import ray

        self.gone = True
        with suppress(Exception):  # of a cluster that is gone
            ray.kill(self.hand)


def stop(far: Far) -> None:
    """Has a training save and stop."""
    far.hand.stop.remote()


def check_shared(folder: Path) -> None:
    """Raises BadInput where a node that trains does not see a directory as it is here. The directory's lock, which is
    this process's own, gets a text that all of them read."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    said, asked = secrets.token_hex(16), []
    (folder / LOCK).write_text(said)
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            look = ray.remote(num_cpus=0, scheduling_strategy=there)(seen)
            asked.append((node["NodeManagerAddress"], look.remote(str(folder / LOCK))))
    for name, answer in asked:
        try:
            found = ray.get(answer, timeout=STARTING)
        except Exception as error:  # of a node that has died, is too slow or lacks Twinscale
            raise BadInput(f"--out {shown(folder)}: the cluster's node {shown(name)} cannot look whether it is there: "
                           f"{shown(first_line(error, 200))}; install Twinscale on every node") from None
        if found != said:
            raise BadInput(f"--out {shown(folder)}: the cluster's node {shown(name)} does not see it; give a directory "
                           "that all nodes share under one path, such as one of NFS")


def seen(path: str) -> str:
    """A file's text, "" where there is none to be read."""
    with suppress(BadInput):
        return read_text(path)
    return ""


@contextmanager
def cluster(address: str, option: str = "--ray ", shared: Path | None = None) -> Iterator[Callable[[str], Far]]:
    """Yields what makes a process of a backend in the cluster at an address; "local" is one of this machine's own.
    `option` is how it was asked for, `shared` the directory that trainings are in. Raises MissingEnvironment without
    Ray, BadInput where nothing answers there, or where a node does not see the directory."""
    need("ray", why=f"{option.strip(' =')} asks for a cluster of it")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if end := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address):  # Ray itself would try for minutes
            socket.create_connection((end[1], int(end[2])), PATIENCE).close()
        import ray

        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise BadInput(f"{option}{shown(address)}: no cluster answers ({shown(first_line(error, 200))}); give "
                       "HOST:PORT as `ray start --head` says, auto, or local") from None
    try:
        if shared:
            check_shared(shared)
        yield Far
    finally:
        ray.shutdown()
