"""Where training runs: a tf.distribute strategy, its batches and its sums. One device is the smallest strategy."""

from dataclasses import dataclass

import tensorflow as tf

from common.errors import BadInput, MissingEnvironment


@dataclass(frozen=True)
class Devices:
    """A strategy and whether its steps are compiled by XLA."""

    strategy: tf.distribute.Strategy
    jit_compile: bool

    @property
    def names(self):
        return list(self.strategy.extended.worker_devices)

    @property
    def kind(self):
        """The maker's name of the devices, for their peak rate."""
        physical = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
        return tf.config.experimental.get_device_details(physical[0]).get("device_name", physical[0].device_type)


def open_devices(recipe):
    """The devices that a recipe trains on; one GPU where there is one, else the CPU.

    Raises MissingEnvironment where TensorFlow sees no device at all, BadInput where the recipe wants several.
    """
    if recipe.devices.data > 1:
        raise BadInput(f"devices.data={recipe.devices.data}: backend keras trains on one device; set devices.data=1")
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if not found:
        raise MissingEnvironment("TensorFlow sees neither a GPU nor a CPU: run `twinscale doctor`")
    # Two runs of one recipe are to be the same run.
    tf.config.experimental.enable_op_determinism()
    return Devices(tf.distribute.OneDeviceStrategy(found[0].name), recipe.keras.jit_compile)


def place(devices, batch):
    """A batch of NumPy arrays on the devices: a dict of tensors."""
    with tf.device(devices.strategy.extended.worker_devices[0]):
        return {name: tf.convert_to_tensor(array) for name, array in batch.items()}


def run(devices, function, *arguments):
    """`function` on every replica, inside the caller's tf.function."""
    return devices.strategy.run(function, args=arguments)


def add_up(values):
    """The sum over replicas of a structure of tensors; call it in replica context."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def hasten():
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute."""
    tf.config.run_functions_eagerly(True)
