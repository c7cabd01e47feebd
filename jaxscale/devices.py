"""Where training runs: a mesh with named axes over the devices of all hosts, and how batches, weights and activations
lie on it. One device is the smallest mesh."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from twinscale.common.errors import BadInput, MissingEnvironment, no_devices
from twinscale.common.families import traits_of
from twinscale.common.families.sharding import Rule, axes_of
from twinscale.common.machine.topology import check_libtpu, libtpu_version
from twinscale.common.recipe.running import Jax
from twinscale.common.recipe.schema import AXES, Recipe, mesh_shape
from twinscale.jaxscale.devices_hosts import join_hosts

ROWS = ("replica", "data", "fsdp")  # the axes that share a batch
HOST = "pinned_host"  # the kind of a host's memory that devices read

# How a tensor's dimensions lie on the mesh: the first rule whose pattern is found in its path. Dimensions that are not
# named, and those that an axis does not divide, are whole on every device. Products of two kernels alternate, columns
# then rows, so that only the second ends in a sum over `tensor` (Shoeybi et al. 2019); `fsdp` cuts what is left.
WEIGHTS = (
    (r"\.adapter\.", ()),  # narrow ones, whole on every device
    (r"(query|key|value|gate|up|head|layer_\d+)\.kernel$", ("fsdp", "tensor")),
    (r"(output|down)\.kernel$", ("tensor", "fsdp")),
    (r"(query|key|value|gate|up)\.bias$", ("tensor",)),
    (r"^embedding\.embedding$", ("tensor", "fsdp")),  # by its rows over fsdp, its gradient would be added up whole
    (r"^position\.embedding$", ("fsdp",)),
    (r"(conv|conv_\d|shortcut)\.kernel$", (None, None, "fsdp", "tensor")),
)

# The same of what the places of a model compute. Positions are shared over `sequence` but for keys and values, which
# every device gathers, since any query may read them.
ACTIVATIONS = (
    (r"^columns$", (("replica", "data"), "sequence", "fsdp")),  # of a table's rows, before they are shared by rows
    (r"\badapter\.\w+$", (ROWS, "sequence")),
    (r"(query|key)\.rotary$", (ROWS, None, "tensor")),
    (r"(key|value)$", (ROWS, None, "tensor")),
    (r"(query|mix|gate|up|activation|gated|head)$", (ROWS, "sequence", "tensor")),
    (r"(scores|mask|shares)$", (ROWS, "tensor", None, "sequence")),
    (r"(residual_\d|embedding|position|sum|dropout|norm|norm_\d|output|down)$", (ROWS, "sequence")),
    (r"", (ROWS,)),
)
RING = ((r"(query|key|value)(\.rotary)?$", (ROWS, "sequence", "tensor")), *ACTIVATIONS)  # nothing is gathered


@dataclass(frozen=True)
class Devices:
    """A mesh over all hosts; this one is number `host`."""

    mesh: Mesh
    host: int = 0
    hosts: int = 1
    rules: tuple[Rule, ...] | None = None  # of a model whose inside is not known; None: WEIGHTS
    execution: Jax = Jax()
    apart: tuple[str, ...] = ()  # axes whose shares of a batch are traced one by one

    @property
    def copies(self) -> tuple[str, ...]:
        """The axes over which weights are the same, that share a batch."""
        return tuple(axis for axis in ROWS if axis != "fsdp" and self.size(axis) > 1)

    @property
    def names(self) -> list[str]:
        """Of the devices of all hosts."""
        return [str(device) for device in self.mesh.devices.flat]

    @property
    def libraries(self) -> tuple[tuple[str, Callable], ...]:
        """What multiplies matrices here besides NumPy, by name."""
        return (("JAX", product),)

    @property
    def kind(self) -> str:
        """The maker's name of the devices, for their peak rate."""
        return self.mesh.devices.flat[0].device_kind

    @cached_property
    def held(self) -> dict[int, frozenset[int]]:
        """{host: the shares of a batch that its devices hold}."""
        shares, held = self.size(ROWS), {}
        where: Mapping[Any, Any] = self.rows.devices_indices_map((shares,))  # whose hints are not whole
        for device, (index,) in where.items():
            held[device.process_index] = held.get(device.process_index, frozenset()) | {index.start or 0}
        return held

    @property
    def reader(self) -> int:
        """The number among `readers` of the hosts that read this one's rows."""
        return sorted(set(self.held.values()), key=min).index(self.held[self.host])

    @property
    def readers(self) -> int:
        """How many parts of a batch the hosts read: those whose devices share nothing but rows each read their own."""
        return len(set(self.held.values()))

    def sharding(self, *spec: str | tuple[str, ...] | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    @property
    def whole(self) -> NamedSharding:
        """On every device."""
        return self.sharding()

    @property
    def rows(self) -> NamedSharding:
        """Split along a first axis, of rows."""
        return self.sharding(ROWS)

    @property
    def each(self) -> NamedSharding:
        """Split along a first axis, a part for every device."""
        return self.sharding(AXES)

    @property
    def micro_batches(self) -> NamedSharding:
        """Micro-batches along a first axis, each split along its rows."""
        return self.sharding(None, ROWS)

    def weights(self, path: str, shape: Sequence[int]) -> NamedSharding:
        """The sharding of the tensor at a path. Stacked blocks lie as each of them does; so do a teacher's tensors, and
        masks and clustered weights, which have their weight's shape. Of what an optimizer keeps in another shape, a
        dimension that the devices do not divide is whole."""
        stacked = path.startswith("blocks.")
        if self.rules is not None:
            axes = axes_of(self.rules, path, shape, self.size("fsdp"))
            return self.sharding(*(axis if axis and size % self.size(axis) == 0 else None
                                   for axis, size in zip(axes, shape, strict=True)))
        named = re.sub(r"^teacher\.|_(mask|clustered)$", "", path)
        spec = self.spec(WEIGHTS, named, shape[stacked:])
        return self.sharding(*([None] * stacked), *spec)

    def slots(self, path: str, shape: Sequence[int], resting: bool = False) -> NamedSharding:
        """The sharding of what belongs to the tensor at a path: a gradient, an average, or an optimizer's slot.

        It lies as the tensor does. With `jax.shard_optimizer` it is cut over `data` too, at the first dimension that
        this divides, rather one that is whole; not between stacked blocks, each of whose gradients is added up by
        itself. `resting`: a slot between steps, which with `jax.offload_optimizer` is in the host's memory.
        """
        lying, stacked = self.weights(path, shape), path.startswith("blocks.")
        if self.execution.shard_optimizer and self.together(("data",)):
            spec = [*lying.spec, *[None] * (len(shape) - len(lying.spec))]
            cuts = [() if axis is None else (axis,) if isinstance(axis, str) else tuple(axis) for axis in spec]
            fit = [i for i in range(stacked, len(shape)) if shape[i] % self.size((*cuts[i], "data")) == 0]
            if fit:
                i = min(fit, key=lambda i: (self.size(cuts[i]) > 1, i))
                spec[i] = (*cuts[i], "data")
                lying = self.sharding(*spec)
        return lying.with_memory_kind(HOST) if resting and self.execution.offload_optimizer else lying

    def activations(self, place: str, shape: Sequence[int]) -> NamedSharding:
        """The sharding of what a place computes."""
        return self.sharding(*self.spec(RING if self.execution.attention == "ring" else ACTIVATIONS, place, shape))

    def spec(self, rules: Iterable[tuple[str, tuple[Any, ...]]], name: str, shape: Sequence[int]
             ) -> list[str | tuple[str, ...] | None]:
        """A mesh axis, several or None for each dimension, by the first of `rules` that knows the name."""
        axes = next((axes for pattern, axes in rules if re.search(pattern, name)), ())
        axes = tuple(self.together(axis) if isinstance(axis, tuple) else axis for axis in axes)
        return [axis if axis and size % self.size(axis) == 0 else None for axis, size in zip(axes, shape, strict=False)]

    def together(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Those of some axes whose shares of a batch are not traced one by one."""
        return tuple(axis for axis in axes if axis not in self.apart)

    def size(self, axes: str | Iterable[str]) -> int:
        return int(np.prod([self.mesh.shape[axis] for axis in ([axes] if isinstance(axes, str) else axes)]))


def open_devices(recipe: Recipe) -> Devices:
    """The devices that a recipe trains on: JAX's first ones, whatever their platform, in the mesh that the recipe
    shapes; with `devices.hosts`, those of all hosts.

    Raises MissingEnvironment where JAX finds too few devices or hosts, or has a libtpu too old for them, BadInput
    where the mesh does not divide what it shares.
    """
    os.environ.update(recipe.jax.environment(os.environ))
    try:
        if recipe.devices.virtual:
            jax.config.update("jax_num_cpu_devices", recipe.devices.virtual)
        if recipe.devices.hosts != 1 and not jax.distributed.is_initialized():
            join_hosts(recipe)
        found = jax.devices()
    except (RuntimeError, ValueError, AssertionError) as error:  # the last where JAX_PLATFORMS names what is not there
        raise MissingEnvironment(no_devices(next(iter(str(error).splitlines()), ""))) from None
    check_libtpu(found[0].device_kind, libtpu_version(os.environ))
    shape = mesh_shape(recipe, "JAX", len(found), found[0].platform)
    count, hosts = int(np.prod(list(shape.values()))), jax.process_count()
    if hosts > 1 and count != len(found):
        raise MissingEnvironment(f"the mesh has {count} devices, but {hosts} hosts have {len(found)}, and each must "
                                 "take part with all of its own: set devices.data=0")
    mesh = Mesh(arranged(shape, found[:count]), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    memories = [memory.kind for memory in found[0].addressable_memories()]
    if recipe.jax.offload_optimizer and HOST not in memories:
        raise BadInput(f"jax.offload_optimizer=true: {found[0].device_kind} has no memory {HOST}, but "
                       f"{', '.join(memories)}; set it to false")
    devices = Devices(mesh, jax.process_index(), hosts, rules_of(recipe), recipe.jax)
    parts = set(devices.held.values())
    if len({len(part) for part in parts}) > 1 or sum(len(part) for part in parts) > devices.size(ROWS):
        raise BadInput(f"{hosts} hosts of {mesh.size // hosts} devices: the mesh {dict(mesh.shape)} would have hosts "
                       "read overlapping parts of a batch; let devices.tensor x devices.sequence divide, or be a "
                       "multiple of, a host's devices")
    return devices


def rules_of(recipe: Recipe) -> tuple[Rule, ...] | None:
    """The rules by which the tensors of a recipe's model lie; None of a model of ours, whose names are known."""
    sharding = traits_of(recipe.model).sharding
    return None if sharding is None else sharding.rules


def arranged(shape: Mapping[str, int], devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices in an array of the mesh's shape: across slices only along `replica`, and within one so that
    neighbours on the mesh are neighbours in the network."""
    sizes = tuple(shape.values())
    if devices[0].platform != "tpu":
        return np.array(devices).reshape(sizes)

    def laid(**how):
        if shape["replica"] > 1:
            return mesh_utils.create_hybrid_device_mesh((1, *sizes[1:]), (sizes[0], *[1] * (len(sizes) - 1)), devices,
                                                        **how)
        return mesh_utils.create_device_mesh(sizes, devices, **how)

    try:
        return laid()
    except NotImplementedError:  # of 16 x 16 chips, an axis of 64 takes one side whole and a part of the other
        return laid(allow_split_physical_axes=True)


def product(array: np.ndarray) -> Callable[[], jax.Array]:
    """A function that multiplies a square array by itself, waits, and is measured; see `common/machine/flops.py`."""
    square = jnp.asarray(array)
    return lambda: jnp.matmul(square, square).block_until_ready()
