"""Where training runs: a tf.distribute strategy. One device is the smallest one."""

import functools
import os
import textwrap
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from twinscale.common.errors import BadInput, MissingEnvironment, one_of
from twinscale.common.recipe.schema import AXES, Recipe, mesh_shape
from twinscale.tfscale.devices_hosts import await_hosts, hosts_strategy, knock, read_cluster, split_address

if TYPE_CHECKING:
    from twinscale.common.recipe import running

STRATEGIES = ("auto", "one", "mirrored", "multiworker", "tpu")
TPU_ANSWERS = 30.0  # seconds for a TPU's name to be looked up, and for its hosts to take a connection
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
    def libraries(self) -> tuple[tuple[str, Callable], ...]:
        """What multiplies matrices here besides NumPy, by name."""
        return (("TensorFlow", product),)

    @property
    def kind(self) -> str:
        """The maker's name of the devices, for their peak rate."""
        if isinstance(self.strategy, tf.distribute.TPUStrategy):
            return os.environ.get("TPU_ACCELERATOR_TYPE", "TPU")
        physical = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
        return tf.config.experimental.get_device_details(physical[0]).get("device_name", physical[0].device_type)

    @property
    def compiles(self) -> bool:
        """Whether XLA compiles what runs here."""
        return self.jit_compile or isinstance(self.strategy, tf.distribute.TPUStrategy)

    @property
    def replicas(self) -> int:
        """Of all hosts: each computes a share of every micro-batch."""
        return self.strategy.num_replicas_in_sync

    @property
    def local(self) -> int:
        """Replicas of this host."""
        return self.replicas // self.hosts

    @property
    def reader(self) -> int:
        """Which of the `readers`, that share each batch's rows, this host is."""
        return self.host

    @property
    def readers(self) -> int:
        """How many hosts share each batch's rows: all."""
        return self.hosts


def open_devices(recipe: Recipe) -> Devices:
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


def local_devices(recipe: Recipe, strategy: tf.distribute.Strategy, jit_compile: bool) -> Devices:
    """The Devices of a strategy that one process drives."""
    return Devices(strategy, list(strategy.extended.worker_devices), jit_compile, recipe.train.accumulate)


def strategy_of(devices: "running.Devices") -> str:
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


def open_hosts(recipe: Recipe, host: int, tasks: Mapping[tuple[str, int], tuple[str, int]]) -> Devices:
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


def split_cpu(count: int) -> None:
    """Makes `count` devices of the CPU; raises MissingEnvironment where TensorFlow runs already with another number."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except (RuntimeError, ValueError):
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise MissingEnvironment(f"devices.virtual={count}, but TensorFlow runs already with "
                                     f"{len(tf.config.list_logical_devices('CPU'))}: start another process") from None


def product(array: np.ndarray) -> Callable[[], np.ndarray]:
    """A function that multiplies a square array by itself, waits, and is measured; see `common/machine/flops.py`."""
    square = tf.constant(array)
    return lambda: tf.linalg.matmul(square, square).numpy()


# ---- TPUs

def open_tpu(recipe: Recipe) -> Devices:
    """The cores of the TPU that `devices.tpu` names; "local" is the one attached to this machine."""
    name = recipe.devices.tpu
    resolver, topology = connect_tpu(name)
    found = tf.config.list_logical_devices("TPU")
    count = mesh_shape(recipe, "TensorFlow", len(found), "TPU")["data"]
    chosen = tf.tpu.experimental.DeviceAssignment.build(topology, num_replicas=count) if count < len(found) else None
    # TPUStrategy compiles what replicas run by itself.
    return local_devices(recipe, tf.distribute.TPUStrategy(resolver, chosen), False)


@functools.cache  # Initialising a TPU again would lose what lies on it.
def connect_tpu(name: str) -> tuple[tf.distribute.cluster_resolver.TPUClusterResolver, tf.tpu.experimental.Topology]:
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


def within(seconds: float, function: Callable[[], Any]) -> Any:
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
