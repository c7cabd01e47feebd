"""Batches and sums on the devices: each host's rows to its replicas, and what the replicas have made of them back."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from twinscale.tfscale.devices_hosts import gather

if TYPE_CHECKING:
    from twinscale.common.training.room import Batch
    from twinscale.tfscale.devices import Devices


def place(devices: "Devices", batch: "Batch") -> "dict[str, tf.Tensor | tf.distribute.DistributedValues]":
    """This host's rows of a batch, NumPy arrays, on its devices: a dict of tensors, of several replicas each with its
    share of every micro-batch."""
    if devices.replicas == 1:
        with tf.device(devices.strategy.extended.worker_devices[0]):
            return {name: tf.convert_to_tensor(array) for name, array in batch.items()}

    def share(context):
        i = context.replica_id_in_sync_group % devices.local
        return {name: tf.constant(split(devices, x)[:, i].reshape(-1, *x.shape[1:])) for name, x in batch.items()}

    return devices.strategy.experimental_distribute_values_from_function(share)


def split(devices: "Devices", x: np.ndarray) -> np.ndarray:
    """A host's array (B, ...) as (micro-batches, its replicas, rows, ...); evaluation's batches are of one
    micro-batch."""
    parts = devices.micro_batches if len(x) % (devices.micro_batches * devices.local) == 0 else 1
    return np.reshape(x, (parts, devices.local, -1, *x.shape[1:]))


def run(devices: "Devices", function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` on every replica, inside the caller's tf.function."""
    return devices.strategy.run(function, args=arguments)


def first(devices: "Devices", values: Any) -> Any:
    """The first replica's tensors of what `run` returned: of sums, those of all."""
    return tf.nest.map_structure(lambda x: devices.strategy.experimental_local_results(x)[0], values)


def rows_of(devices: "Devices", values: "tf.Tensor | tf.distribute.DistributedValues") -> np.ndarray:
    """The tensors (B, ...) of which every replica has computed its rows, in the order of the global batch: NumPy. All
    hosts call it."""
    local = [x.numpy() for x in devices.strategy.experimental_local_results(values)]
    parts = np.stack([np.reshape(x, (devices.micro_batches, -1, *x.shape[1:])) for x in local], 1)
    rows = gather(devices, parts.reshape(-1, *parts.shape[3:]))
    return np.moveaxis(rows, 0, 1).reshape(-1, *rows.shape[2:])


def add_up(values: Any) -> Any:
    """The sum over replicas of a structure of tensors, which no gradient goes through; call it in replica context."""
    values = tf.nest.map_structure(tf.stop_gradient, values)  # as `models.layers.over_replicas` says
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
