"""Where training runs: a tf.distribute strategy, its batches and its sums. One device is the smallest strategy."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from common.errors import MissingEnvironment
from common.recipe import device_count


@dataclass(frozen=True)
class Devices:
    """A strategy, whether its steps are compiled by XLA, and the micro-batches that an update's batch holds."""

    strategy: tf.distribute.Strategy
    jit_compile: bool
    micro_batches: int = 1

    @property
    def names(self):
        return list(self.strategy.extended.worker_devices)

    @property
    def kind(self):
        """The maker's name of the devices, for their peak rate."""
        physical = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
        return tf.config.experimental.get_device_details(physical[0]).get("device_name", physical[0].device_type)

    @property
    def replicas(self):
        return self.strategy.num_replicas_in_sync


def open_devices(recipe):
    """The devices that a recipe trains on: TensorFlow's first `devices.data`, GPUs where there are any, else CPUs. One
    runs alone, several mirror the weights and share each micro-batch.

    Raises MissingEnvironment where TensorFlow finds too few devices, BadInput where they do not divide a micro-batch.
    """
    if recipe.devices.virtual:
        split_cpu(recipe.devices.virtual)
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if not found:
        raise MissingEnvironment("TensorFlow sees neither a GPU nor a CPU: run `twinscale doctor`")
    count = device_count(recipe, "TensorFlow", len(found), found[0].device_type)
    # Two runs of one recipe are to be the same run.
    tf.config.experimental.enable_op_determinism()
    # And float32 is to be float32, which a GPU's matrix products are not unless told.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    names = [device.name for device in found[:count]]
    if count == 1:
        return Devices(tf.distribute.OneDeviceStrategy(names[0]), recipe.keras.jit_compile, recipe.train.accumulate)
    # On CPUs not TensorFlow's collectives, whose calls replicas may make in different orders.
    reduction = tf.distribute.ReductionToOneDevice() if found[0].device_type == "CPU" else None
    # XLA cannot compile what crosses replicas that are mirrored (keras#19246).
    return Devices(tf.distribute.MirroredStrategy(names, reduction), False, recipe.train.accumulate)


def split_cpu(count):
    """Makes `count` devices of the CPU; raises MissingEnvironment where TensorFlow runs already with another number."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except (RuntimeError, ValueError):
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise MissingEnvironment(f"devices.virtual={count}, but TensorFlow runs already with "
                                     f"{len(tf.config.list_logical_devices('CPU'))}: start another process") from None


def place(devices, batch):
    """A batch of NumPy arrays on the devices: a dict of tensors, of several replicas each with its share of every
    micro-batch."""
    if devices.replicas == 1:
        with tf.device(devices.strategy.extended.worker_devices[0]):
            return {name: tf.convert_to_tensor(array) for name, array in batch.items()}

    def share(context):
        i = context.replica_id_in_sync_group
        return {name: tf.constant(split(devices, x)[:, i].reshape(-1, *x.shape[1:])) for name, x in batch.items()}

    return devices.strategy.experimental_distribute_values_from_function(share)


def split(devices, x):
    """An array (B, ...) as (micro-batches, replicas, rows, ...); evaluation's batches are of one micro-batch."""
    parts = devices.micro_batches if len(x) % (devices.micro_batches * devices.replicas) == 0 else 1
    return np.reshape(x, (parts, devices.replicas, -1, *x.shape[1:]))


def run(devices, function, *arguments):
    """`function` on every replica, inside the caller's tf.function."""
    return devices.strategy.run(function, args=arguments)


def first(devices, values):
    """The first replica's tensors of what `run` returned: of sums, those of all."""
    return tf.nest.map_structure(lambda x: devices.strategy.experimental_local_results(x)[0], values)


def rows_of(devices, values):
    """The tensors (B, ...) of which every replica has computed its rows, in the order of the batch: NumPy."""
    local = [x.numpy() for x in devices.strategy.experimental_local_results(values)]
    parts = np.stack([np.reshape(x, (devices.micro_batches, -1, *x.shape[1:])) for x in local], 1)
    return parts.reshape(-1, *parts.shape[3:])


def add_up(values):
    """The sum over replicas of a structure of tensors; call it in replica context."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def hasten():
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute."""
    tf.config.run_functions_eagerly(True)
