"""Where training runs: a mesh with named axes, and how batches and state lie on it. One device is the smallest mesh."""

from dataclasses import dataclass

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from common.errors import MissingEnvironment
from common.recipe import device_count


@dataclass(frozen=True)
class Devices:
    """A mesh; `batch` and `state` say how those lie on it."""

    mesh: Mesh

    @property
    def batch(self):
        return NamedSharding(self.mesh, PartitionSpec("data"))

    @property
    def state(self):
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def names(self):
        return [str(device) for device in self.mesh.devices.flat]

    @property
    def kind(self):
        """The maker's name of the devices, for their peak rate."""
        return self.mesh.devices.flat[0].device_kind


def open_devices(recipe):
    """The devices that a recipe trains on: JAX's first `devices.data`, whatever their platform, in a mesh that splits
    each batch.

    Raises MissingEnvironment where JAX finds too few devices, BadInput where they do not divide a micro-batch.
    """
    try:
        if recipe.devices.virtual:
            jax.config.update("jax_num_cpu_devices", recipe.devices.virtual)
        found = jax.devices()
    except RuntimeError as error:
        raise MissingEnvironment(f"JAX gives no devices ({error}): run `twinscale doctor`") from None
    count = device_count(recipe, "JAX", len(found), found[0].platform)
    return Devices(jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=found[:count]))


def place(devices, batch):
    """A batch of NumPy arrays on the devices, split over the data axis: a dict of arrays."""
    return jax.device_put(batch, devices.batch)


def hasten():
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute."""
    jax.config.update("jax_disable_most_optimizations", True)
