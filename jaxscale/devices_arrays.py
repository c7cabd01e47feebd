"""Arrays on the devices of all hosts: batches, weights where they are made, and what a traced function lays out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, SingleDeviceSharding

if TYPE_CHECKING:
    from twinscale.common.training.room import Batch
    from twinscale.jaxscale.devices import Devices


def place(devices: "Devices", batch: "Batch", micro_batches: int = 1) -> dict[str, jax.Array]:
    """This host's rows of a batch, NumPy arrays, as their part of global arrays: a dict, split along the rows, with
    several micro-batches along a first axis."""
    sharding = devices.rows
    if micro_batches > 1:
        sharding = devices.micro_batches
        batch = {name: x.reshape(micro_batches, -1, *x.shape[1:]) for name, x in batch.items()}
    if devices.hosts == 1:
        return jax.device_put(batch, sharding)  # all in one call
    axis, several = int(micro_batches > 1), devices.readers
    shapes = {name: (*x.shape[:axis], x.shape[axis] * several, *x.shape[axis + 1:]) for name, x in batch.items()}
    return {name: jax.make_array_from_process_local_data(sharding, x, shapes[name]) for name, x in batch.items()}


def place_signals(devices: "Devices", signals: Sequence[int]) -> jax.Array:
    """A few numbers of this host, said by the first of its devices: float32 (devices, numbers)."""
    said = np.zeros((devices.mesh.size // devices.hosts, len(signals)), np.float32)
    said[0] = signals
    if devices.hosts == 1:
        return jax.device_put(said, devices.each)
    return jax.make_array_from_process_local_data(devices.each, said, (devices.mesh.size, len(signals)))


LAID_OUT = []  # devices of the functions that are being traced


@contextmanager
def laid_out(devices: "Devices") -> Iterator[None]:
    """While open, what is traced lies on the devices as the rules say."""
    LAID_OUT.append(devices)
    try:
        yield
    finally:
        LAID_OUT.pop()


def lay(place: str, x: jax.Array) -> jax.Array:
    """x, lying as the rule of its place says."""
    devices = LAID_OUT[-1] if LAID_OUT else None
    if devices is None or devices.mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, devices.activations(place, x.shape))


def lay_columns(x: jax.Array) -> jax.Array:
    """Rows (B, T, D) of a table, cut by their width as the table is, where `fsdp` divides it."""
    devices = LAID_OUT[-1] if LAID_OUT else None
    return x if devices is None or x.shape[-1] % devices.size("fsdp") else lay("columns", x)


def lay_weights(tensors: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Gradients by path, lying as the slots of their weights do."""
    devices = LAID_OUT[-1] if LAID_OUT else None
    if devices is None or devices.mesh.size == 1:
        return tensors
    return {path: jax.lax.with_sharding_constraint(x, devices.slots(path, x.shape)) for path, x in tensors.items()}


def shares_apart(one: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[[Any], Any]]:
    """(`one` for the rows of each share that `replica` and `data` make of a batch by itself, what adds its results up
    over the shares). So devices that hold the same weights send no gradients to each other until then.

    Args:
      one: ({}, a batch (B, ...)) to ({}, sums over its rows); of several shares its results have a first axis of them.
    """
    devices = LAID_OUT[-1] if LAID_OUT else None
    shares = devices.size(devices.copies) if devices else 1
    if devices is None or shares == 1:
        return one, lambda values: values

    def each(running, batch):
        parted = {name: x.reshape(shares, -1, *x.shape[1:]) for name, x in batch.items()}
        with laid_out(replace(devices, apart=devices.copies)):
            return running, jax.vmap(lambda part: one({}, part)[1], spmd_axis_name=devices.copies)(parted)

    return each, lambda values: jax.tree.map(lambda x: x.sum(0), values)


def products(layers: Sequence[Any], x: jax.Array, fused: bool) -> list[jax.Array]:
    """What each of some `models.layers.Linear` makes of x (..., D): (..., its outputs), in its dtype.

    `fused`: their kernels are laid side by side where they are computed with, and the one product is parted, so that
    nothing that knows a kernel by its name has to know of it. Devices that share the columns of each kernel have their
    share of all of them next to each other: side by side as they are, columns would have to be sent.
    """
    if not fused:
        return [layer(x) for layer in layers]
    shares = LAID_OUT[-1].size("tensor") if LAID_OUT else 1  # which divides all columns, or is refused
    cast = [layer.promote_dtype((x, layer.kernel[...], layer.bias if layer.bias is None else layer.bias[...]),
                                dtype=layer.dtype) for layer in layers]
    beside = jnp.concatenate([kernel.reshape(len(kernel), shares, -1) for _, kernel, _ in cast], -1)
    y = layers[0].dot_general(cast[0][0], beside.reshape(len(beside), -1), (((x.ndim - 1,), (0,)), ((), ())))
    ends = np.cumsum([layer.out_features // shares for layer in layers])[:-1]
    parts = [part.reshape(*x.shape[:-1], -1) for part in jnp.split(y.reshape(*x.shape[:-1], shares, -1), ends, -1)]
    return [(part if bias is None else part + bias).astype(layer.dtype)
            for part, (_, _, bias), layer in zip(parts, cast, layers, strict=True)]


def sequence_shared() -> bool:
    """Whether several devices share each row's positions."""
    return bool(LAID_OUT) and LAID_OUT[-1].mesh.shape["sequence"] > 1


def born(path: str, shape: tuple[int, ...], dtype: jax.typing.DTypeLike, sharding: NamedSharding,
         canonical: Callable[[str], np.ndarray], layers: int) -> jax.Array:
    """The array of a path where it lies, whole nowhere: this host makes one canonical tensor at a time and keeps what
    its own devices hold.

    Args:
      sharding: how it lies.
      canonical: from canonical name to a NumPy array.
      layers: blocks that a path of `blocks` stacks.
    """
    where: Mapping[jax.Device, Any] = sharding.addressable_devices_indices_map(shape)  # none is None
    parts = {bounds(index, shape): index for index in where.values()}
    if path.startswith("blocks."):
        held = {key: np.empty((layers, *[stop - start for start, stop in key[1:]]), dtype) for key in parts}
        for i in range(layers):
            layer = canonical(path.replace("blocks.", f"block_{i}.", 1))
            for key, index in parts.items():
                held[key][i] = layer[index[1:]]
    else:
        whole = canonical(path)
        held = {key: np.asarray(whole[index], dtype) for key, index in parts.items()}
    arrays = [jax.device_put(held[bounds(index, shape)], SingleDeviceSharding(device, memory_kind=sharding.memory_kind))
              for device, index in where.items()]
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def bounds(index: Sequence[slice], shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """An index of slices into a shape as a key: ((start, stop), ...)."""
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
