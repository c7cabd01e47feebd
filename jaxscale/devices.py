"""Where training runs: a mesh with named axes, and how batches and state lie on it. One device is the smallest mesh."""

from dataclasses import dataclass

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from common.errors import MissingEnvironment


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
    """The devices that a recipe trains on: JAX's first, whatever its platform.

    Raises MissingEnvironment where JAX finds no device.
    """
    try:
        first = jax.devices()[:1]
    except RuntimeError as error:
        raise MissingEnvironment(f"JAX finds no device ({error}): run `twinscale doctor`") from None
    return Devices(jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=first))


def place(devices, batch):
    """A batch of NumPy arrays on the devices, split over the data axis: a dict of arrays."""
    return jax.device_put(batch, devices.batch)


def hasten():
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute."""
    jax.config.update("jax_disable_most_optimizations", True)
