"""Several hosts that train together: how they find each other, and what they say to each other."""

import functools
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import checked
from twinscale.common.files.kinds import STRICT

if TYPE_CHECKING:
    from twinscale.tfscale.devices import Devices

TALK_AFTER = 10.0  # seconds of waiting for other hosts until a line says so
GONE = "stopped sending heartbeats|CoordinationService|Socket closed|failed to connect|Connection reset"


class Task(TypedDict):
    """Which of a cluster's hosts this one is."""

    __pydantic_config__ = STRICT

    type: str
    index: int | str


class Cluster(TypedDict):
    """TF_CONFIG."""

    __pydantic_config__ = STRICT

    cluster: dict[str, list[str]]
    task: Task


def read_cluster(hosts: int) -> tuple[int, dict[tuple[str, int], tuple[str, int]]]:
    """This host's number, and {(job, task): address} of every host in order, of TF_CONFIG.

    Raises MissingEnvironment where it is missing or torn, or names other than `hosts` hosts (0: any number).
    """
    example = ("""set TF_CONFIG='{"cluster": {"worker": ["HOST0:PORT", "HOST1:PORT"]}, """
               """"task": {"type": "worker", "index": 0}}' on each host, with its own index""")
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        raise MissingEnvironment(f"devices.hosts={hosts}, but TF_CONFIG is not set: {example}, or set devices.hosts=1")
    try:
        config = checked("TF_CONFIG", text.encode(errors="surrogateescape"), Cluster)
        cluster, own = config["cluster"], (config["task"]["type"], int(config["task"]["index"]))
        tasks = {(job, task): split_address(address) for job in ("chief", "worker")
                 for task, address in enumerate(cluster.get(job, ()))}
    except (BadInput, ValueError) as error:
        raise MissingEnvironment(f"TF_CONFIG is not what TensorFlow reads ({error}): {example}") from None
    if own not in tasks:
        raise MissingEnvironment(f"TF_CONFIG: task {own[0]} {own[1]} is none of its cluster's {len(tasks)} workers: "
                                 f"{example}")
    if hosts not in (0, len(tasks)):
        raise MissingEnvironment(f"devices.hosts={hosts}, but TF_CONFIG names {len(tasks)}: make them agree, or set "
                                 "devices.hosts=0 to take what TF_CONFIG says")
    return list(tasks).index(own), tasks


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of "HOST:PORT"; raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


@functools.cache  # A process joins its cluster once.
def hosts_strategy(gpus: int) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy over the hosts of TF_CONFIG, each with its first `gpus` GPUs, or its CPU."""
    kind = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(implementation=kind.AUTO if gpus else kind.RING)
    try:
        if gpus:
            tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:gpus], "GPU")
        handler = signal.getsignal(signal.SIGTERM)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        # TensorFlow puts a handler of its own in place, which swallows the signal.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        return strategy
    except (RuntimeError, tf.errors.OpError) as error:
        raise MissingEnvironment(f"TensorFlow cannot join the hosts of TF_CONFIG: {error}; it must be the first thing "
                                 "that a process does with TensorFlow, so start another process") from None


def await_hosts(host: int, addresses: Sequence[tuple[str, int]], deadline: float) -> None:
    """Waits until every host of `addresses` takes connections, this one by a stand-in for TensorFlow's server. For that
    waits where no signal, no thread and no timeout reaches it.

    Raises MissingEnvironment after `deadline` seconds (0: never), or where this host's own port is taken.
    """
    begun, told = time.monotonic(), False
    try:
        server = socket.create_server(("", addresses[host][1]), backlog=2 * len(addresses))
    except OSError as error:
        raise MissingEnvironment(f"TF_CONFIG: host {host} cannot listen on its port {addresses[host][1]}: "
                                 f"{error.strerror}") from None
    waiting = [n for n in range(len(addresses)) if n != host]
    with server:
        while waiting:
            waiting = [n for n in waiting if not knock(addresses[n], 2.0)]
            spent = time.monotonic() - begun
            named = ", ".join(f"{n} ({addresses[n][0]}:{addresses[n][1]})" for n in waiting)
            if waiting and deadline and spent > deadline:
                raise MissingEnvironment(f"host {named} has not come within devices.compile_deadline={deadline:g} "
                                         "seconds: is it started, and its address reached from here?")
            if waiting and not told and spent > TALK_AFTER:
                told = True
                print(f"waiting for host {named}", file=sys.stderr, flush=True)
            time.sleep(0.1 if waiting else 0)


def knock(address: tuple[str, int], seconds: float) -> bool:
    """Whether something takes connections at (host, port)."""
    try:
        socket.create_connection(address, seconds).close()
    except OSError:
        return False
    return True


def agree(devices: "Devices", values: Sequence[int] | np.ndarray) -> np.ndarray:
    """Every host's integers (n,), int64: (hosts, n). It waits for all hosts."""
    return gather(devices, np.asarray(values, np.int64))


def is_lost(error: BaseException) -> bool:
    """Whether an exception of a step, an evaluation or `agree` says that another host is gone."""
    return isinstance(error, tf.errors.UnavailableError | tf.errors.DeadlineExceededError) or (
        isinstance(error, tf.errors.OpError) and re.search(GONE, str(error)) is not None)


def gather(devices: "Devices", x: np.ndarray) -> np.ndarray:
    """An array of every host, stacked: NumPy (hosts, ...). It waits for all hosts."""
    if devices.hosts == 1:
        return np.asarray(x)[None]
    return gathering(devices.strategy)(tf.constant(x)).numpy()[::devices.local]


@functools.cache
def gathering(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """The compiled function behind `gather`: a tensor to those of all replicas, stacked."""

    def replica(x):
        return tf.distribute.get_replica_context().all_gather(x[None], 0)

    @tf.function(autograph=False)
    def compiled(x):
        return strategy.experimental_local_results(strategy.run(replica, (x,)))[0]

    return compiled
