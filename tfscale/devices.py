"""Where training runs: a tf.distribute strategy, its batches and its sums. One device is the smallest strategy."""

import functools
import os
import re
import signal
import socket
import sys
import textwrap
import threading
import time
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, MissingEnvironment, one_of
from twinscale.common.files import checked
from twinscale.common.kinds import STRICT
from twinscale.common.recipe import AXES, mesh_shape

STRATEGIES = ("auto", "one", "mirrored", "multiworker", "tpu")
TPU_ANSWERS = 30.0  # seconds for a TPU's name to be looked up, and for its hosts to take a connection
TALK_AFTER = 10.0  # seconds of waiting for other hosts until a line says so
GONE = "stopped sending heartbeats|CoordinationService|Socket closed|failed to connect|Connection reset"
TPU_NAMES = ("KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS", "TPU_NAME")  # what TensorFlow's resolver reads where no name is given


@dataclass(frozen=True)
class Devices:
    """A strategy, the names of all its devices, whether its steps are compiled by XLA, the micro-batches that an
    update's batch holds, and which of how many hosts this process is."""

    strategy: tf.distribute.Strategy
    names: list
    jit_compile: bool
    micro_batches: int = 1
    host: int = 0
    hosts: int = 1

    @property
    def libraries(self):
        """What multiplies matrices here besides NumPy, by name."""
        return (("TensorFlow", product),)

    @property
    def kind(self):
        """The maker's name of the devices, for their peak rate."""
        if isinstance(self.strategy, tf.distribute.TPUStrategy):
            return os.environ.get("TPU_ACCELERATOR_TYPE", "TPU")
        physical = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
        return tf.config.experimental.get_device_details(physical[0]).get("device_name", physical[0].device_type)

    @property
    def replicas(self):
        return self.strategy.num_replicas_in_sync

    @property
    def local(self):
        """Replicas of this host."""
        return self.replicas // self.hosts

    @property
    def reader(self):
        """Which of the `readers`, that share each batch's rows, this host is."""
        return self.host

    @property
    def readers(self):
        return self.hosts


def open_devices(recipe):
    """The devices that a recipe trains on, and the strategy over them that `devices.strategy` names. "auto" is
    MultiWorkerMirroredStrategy over several hosts, TPUStrategy where a TPU is named or attached, else TensorFlow's
    first `devices.data` GPUs, or CPUs where there are none: one alone, several mirrored. Several devices mirror the
    weights and share each micro-batch.

    Raises BadInput where the recipe's values do not go together or do not divide a micro-batch, MissingEnvironment
    where TensorFlow finds too few devices, no TPU, or other hosts than `devices.hosts`.
    """
    devices = recipe.devices
    strategy = strategy_of(devices)
    # Two runs of one recipe are to be the same run. On a TPU they are; asked for it, TensorFlow would add up the
    # gradient by logits with a scatter, and counts its places in 32 bits.
    if strategy != "tpu":
        tf.config.experimental.enable_op_determinism()
    # And float32 is to be float32, which a GPU's matrix products are not unless told.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if strategy == "multiworker":
        host, tasks = read_cluster(devices.hosts)
        if len(tasks) > 1:
            return open_hosts(recipe, host, tasks)
        # One is no other training than without TF_CONFIG.
    if strategy == "tpu":
        return open_tpu(recipe)
    if devices.virtual:
        split_cpu(devices.virtual)
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if not found:
        raise MissingEnvironment("TensorFlow sees neither a GPU nor a CPU: run `twinscale doctor`")
    count = mesh_shape(recipe, "TensorFlow", 1 if strategy == "one" else len(found), found[0].device_type)["data"]
    names = [device.name for device in found[:count]]
    if count == 1 and strategy != "mirrored":
        return local_devices(recipe, tf.distribute.OneDeviceStrategy(names[0]), recipe.keras.jit_compile)
    # On CPUs not TensorFlow's collectives, whose calls replicas may make in different orders.
    reduction = tf.distribute.ReductionToOneDevice() if found[0].device_type == "CPU" else None
    # XLA cannot compile what crosses replicas that are mirrored (keras#19246).
    return local_devices(recipe, tf.distribute.MirroredStrategy(names, reduction), False)


def local_devices(recipe, strategy, jit_compile):
    """The Devices of a strategy that one process drives."""
    return Devices(strategy, list(strategy.extended.worker_devices), jit_compile, recipe.train.accumulate)


def strategy_of(devices):
    """The strategy that a recipe's section asks for: "multiworker", "tpu", "one", "mirrored", or "auto" for either of
    the last two. Raises BadInput where it contradicts the section's other values."""
    for axis in AXES:
        if axis != "data" and getattr(devices, axis) > 1:
            raise BadInput(f"devices.{axis}={getattr(devices, axis)}: Keras mirrors the weights on every device and "
                           "shares the batch alone; set it to 1, or train with --backend jax")
    strategy = one_of(dict(zip(STRATEGIES, STRATEGIES, strict=True)), devices.strategy, "devices.strategy")
    if strategy == "auto":
        if devices.hosts != 1:
            return "multiworker"
        return "tpu" if devices.tpu != "local" or tf.config.list_physical_devices("TPU") else strategy
    if devices.hosts != 1 and strategy != "multiworker":
        fix = ", for one drives all of a TPU" if strategy == "tpu" else ', or devices.strategy="multiworker"'
        raise BadInput(f'devices.strategy="{strategy}" trains from one process, but devices.hosts={devices.hosts}: set '
                       f"devices.hosts=1{fix}")
    if devices.hosts == 1 and strategy == "multiworker":
        raise BadInput('devices.strategy="multiworker", but devices.hosts=1: set it to the number of workers in '
                       "TF_CONFIG, or to 0 for as many as there are")
    if strategy == "one" and devices.data > 1:
        raise BadInput(f'devices.strategy="one", but devices.data={devices.data}: set it to 1, or '
                       'devices.strategy="mirrored"')
    return strategy


# ---- several hosts

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


def read_cluster(hosts):
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


def split_address(address):
    """(host, port) of "HOST:PORT"; raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def open_hosts(recipe, host, tasks):
    """The devices of several hosts, all of which call this: it waits for them."""
    if recipe.devices.virtual > 1:
        raise BadInput(f"devices.virtual={recipe.devices.virtual}: TensorFlow's MultiWorkerMirroredStrategy takes one "
                       "CPU of each host; set it to 0 and start more hosts, or train with --backend jax")
    gpus, hosts = tf.config.list_physical_devices("GPU"), len(tasks)
    found = hosts * max(1, len(gpus))
    count = mesh_shape(recipe, "TensorFlow", found, "GPU" if gpus else "CPU")["data"]
    if count % hosts:
        raise BadInput(f"devices.data={count} over {hosts} hosts: take a multiple of {hosts}, or 0 for all {found} "
                       "devices")
    if not hosts_strategy.cache_info().currsize:
        await_hosts(host, list(tasks.values()), recipe.devices.compile_deadline)
    strategy = hosts_strategy(count // hosts if gpus else 0)
    own = strategy.extended.worker_devices
    suffixes = [name[name.index("/device:"):] for name in own]
    names = [f"/job:{job}/replica:0/task:{task}{suffix}" for job, task in tasks for suffix in suffixes]
    return Devices(strategy, names, False, recipe.train.accumulate, host, hosts)


@functools.cache  # A process joins its cluster once.
def hosts_strategy(gpus):
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


def await_hosts(host, addresses, deadline):
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


# ---- TPUs

def open_tpu(recipe):
    """The cores of the TPU that `devices.tpu` names; "local" is the one attached to this machine."""
    name = recipe.devices.tpu
    resolver, topology = connect_tpu(name)
    found = tf.config.list_logical_devices("TPU")
    count = mesh_shape(recipe, "TensorFlow", len(found), "TPU")["data"]
    chosen = tf.tpu.experimental.DeviceAssignment.build(topology, num_replicas=count) if count < len(found) else None
    # TPUStrategy compiles what replicas run by itself.
    return local_devices(recipe, tf.distribute.TPUStrategy(resolver, chosen), False)


@functools.cache  # Initialising a TPU again would lose what lies on it.
def connect_tpu(name):
    """The resolver and topology of a TPU, initialised. Raises MissingEnvironment where there is none, within
    a minute."""
    asked = f'TPUClusterResolver(tpu="{name}")'
    known = ", ".join(f"{key}={os.environ[key]}" for key in TPU_NAMES if key in os.environ) or (
        f"{' and '.join(TPU_NAMES)} are not set")
    fix = ("run on a TPU VM with the package tensorflow-tpu, name a TPU with devices.tpu, or set "
           'devices.strategy="auto"')
    try:
        resolver = within(TPU_ANSWERS, lambda: tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name))
        if name != "local":
            cluster = within(TPU_ANSWERS, resolver.cluster_spec)
            for address in cluster.as_dict()["worker"]:
                if not knock(split_address(address), TPU_ANSWERS):
                    raise OSError(f"nothing answers at {address}")
            tf.config.experimental_connect_to_cluster(resolver)
        return resolver, tf.tpu.experimental.initialize_tpu_system(resolver)
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, ImportError) as error:
        said = textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" ...")
        raise MissingEnvironment(f"no TPU: {asked} ({known}) finds none ({said}): {fix}") from None


def within(seconds, function):
    """What `function` returns; raises TimeoutError after `seconds`."""
    outcome = []

    def attempt():
        try:
            outcome.append((function(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    value, error = outcome[0]
    if error:
        raise error
    return value


def knock(address, seconds):
    """Whether something takes connections at (host, port)."""
    try:
        socket.create_connection(address, seconds).close()
    except OSError:
        return False
    return True


# ---- batches, sums and agreement

def split_cpu(count):
    """Makes `count` devices of the CPU; raises MissingEnvironment where TensorFlow runs already with another number."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except (RuntimeError, ValueError):
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise MissingEnvironment(f"devices.virtual={count}, but TensorFlow runs already with "
                                     f"{len(tf.config.list_logical_devices('CPU'))}: start another process") from None


def agree(devices, values):
    """Every host's integers (n,), int64: (hosts, n). It waits for all hosts."""
    return gather(devices, np.asarray(values, np.int64))


def is_lost(error):
    """Whether an exception of a step, an evaluation or `agree` says that another host is gone."""
    return isinstance(error, tf.errors.UnavailableError | tf.errors.DeadlineExceededError) or (
        isinstance(error, tf.errors.OpError) and re.search(GONE, str(error)) is not None)


def gather(devices, x):
    """An array of every host, stacked: NumPy (hosts, ...). It waits for all hosts."""
    if devices.hosts == 1:
        return np.asarray(x)[None]
    return gathering(devices.strategy)(tf.constant(x)).numpy()[::devices.local]


@functools.cache
def gathering(strategy):
    """The compiled function behind `gather`: a tensor to those of all replicas, stacked."""

    def replica(x):
        return tf.distribute.get_replica_context().all_gather(x[None], 0)

    @tf.function(autograph=False)
    def compiled(x):
        return strategy.experimental_local_results(strategy.run(replica, (x,)))[0]

    return compiled


def place(devices, batch):
    """This host's rows of a batch, NumPy arrays, on its devices: a dict of tensors, of several replicas each with its
    share of every micro-batch."""
    if devices.replicas == 1:
        with tf.device(devices.strategy.extended.worker_devices[0]):
            return {name: tf.convert_to_tensor(array) for name, array in batch.items()}

    def share(context):
        i = context.replica_id_in_sync_group % devices.local
        return {name: tf.constant(split(devices, x)[:, i].reshape(-1, *x.shape[1:])) for name, x in batch.items()}

    return devices.strategy.experimental_distribute_values_from_function(share)


def split(devices, x):
    """A host's array (B, ...) as (micro-batches, its replicas, rows, ...); evaluation's batches are of one
    micro-batch."""
    parts = devices.micro_batches if len(x) % (devices.micro_batches * devices.local) == 0 else 1
    return np.reshape(x, (parts, devices.local, -1, *x.shape[1:]))


def run(devices, function, *arguments):
    """`function` on every replica, inside the caller's tf.function."""
    return devices.strategy.run(function, args=arguments)


def first(devices, values):
    """The first replica's tensors of what `run` returned: of sums, those of all."""
    return tf.nest.map_structure(lambda x: devices.strategy.experimental_local_results(x)[0], values)


def rows_of(devices, values):
    """The tensors (B, ...) of which every replica has computed its rows, in the order of the global batch: NumPy. All
    hosts call it."""
    local = [x.numpy() for x in devices.strategy.experimental_local_results(values)]
    parts = np.stack([np.reshape(x, (devices.micro_batches, -1, *x.shape[1:])) for x in local], 1)
    rows = gather(devices, parts.reshape(-1, *parts.shape[3:]))
    return np.moveaxis(rows, 0, 1).reshape(-1, *rows.shape[2:])


def add_up(values):
    """The sum over replicas of a structure of tensors; call it in replica context."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def product(array):
    """A function that multiplies a square array by itself, waits, and is measured; see `common/flops.py`."""
    square = tf.constant(array)
    return lambda: tf.linalg.matmul(square, square).numpy()


def hasten():
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute."""
    tf.config.run_functions_eagerly(True)
