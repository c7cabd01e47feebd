"""Where training runs: a mesh with named axes over the devices of all hosts, and how batches, weights and activations
lie on it. One device is the smallest mesh."""

import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from twinscale.common.chips import CHIPS
from twinscale.common.errors import BadInput, MissingEnvironment, no_devices
from twinscale.common.families import traits_of
from twinscale.common.recipe import AXES, mesh_shape
from twinscale.common.topology import check_libtpu, libtpu_version, numbers

ROWS = ("replica", "data", "fsdp")  # the axes that share a batch

# How a tensor's dimensions lie on the mesh: the first rule whose pattern is found in its path. Dimensions that are not
# named, and those that an axis does not divide, are whole on every device. Products of two kernels alternate, columns
# then rows, so that only the second ends in a sum over `tensor` (Shoeybi et al. 2019); `fsdp` cuts what is left.
WEIGHTS = (
    (r"(query|key|value|gate|up|head|layer_\d+)\.kernel$", ("fsdp", "tensor")),
    (r"(output|down)\.kernel$", ("tensor", "fsdp")),
    (r"(query|key|value|gate|up)\.bias$", ("tensor",)),
    (r"^embedding\.embedding$", (("tensor", "fsdp"),)),  # cut across, a table's width and rows of a batch would clash
    (r"^position\.embedding$", ("fsdp",)),
    (r"(conv|conv_\d|shortcut)\.kernel$", (None, None, "fsdp", "tensor")),
)

# The same of what the places of a model compute. Positions are shared over `sequence` but for keys and values, which
# every device gathers, since any query may read them.
ACTIVATIONS = (
    (r"(query|key)\.rotary$", (ROWS, None, "tensor")),
    (r"(key|value)$", (ROWS, None, "tensor")),
    (r"(query|mix|gate|up|activation|gated|head)$", (ROWS, "sequence", "tensor")),
    (r"(scores|mask|shares)$", (ROWS, "tensor", None, "sequence")),
    (r"(residual_\d|embedding|position|sum|dropout|norm|norm_\d|output|down)$", (ROWS, "sequence")),
    (r"", (ROWS,)),
)

# What lets collectives run beside computation: XLA's options, by platform.
OVERLAP = {
    "tpu": {"xla_tpu_enable_async_collective_fusion": True, "xla_tpu_overlap_compute_collective_tc": True,
            "xla_tpu_enable_async_collective_fusion_fuse_all_gather": True, "xla_enable_async_all_gather": True},
    "gpu": {"xla_gpu_enable_latency_hiding_scheduler": True},
}

# Options that a libtpu refuses from a version on, but for some kinds of devices: XLA says that programs may hang or be
# wrong. Of what is not listed here, what is refused is dropped all the same; see `compiling`.
REFUSED = {"xla_tpu_enable_async_collective_fusion_fuse_all_gather": ((0, 0, 43), CHIPS["v5e"].kinds)}
MOST_GENERAL = 3  # underscores of a name that others may refine: `xla_tpu` is no option

# What makes equal programs give equal bits, likewise: CPUs and TPUs do it anyway. It holds for cuDNN's attention too.
DETERMINISTIC = {"gpu": {"xla_gpu_deterministic_ops": True}}


@dataclass(frozen=True)
class Devices:
    """A mesh over all hosts; this one is number `host`."""

    mesh: Mesh
    host: int = 0
    hosts: int = 1

    @property
    def names(self):
        return [str(device) for device in self.mesh.devices.flat]

    @property
    def libraries(self):
        """What multiplies matrices here besides NumPy, by name."""
        return (("JAX", product),)

    @property
    def kind(self):
        """The maker's name of the devices, for their peak rate."""
        return self.mesh.devices.flat[0].device_kind

    @cached_property
    def held(self):
        """{host: the shares of a batch that its devices hold}."""
        shares, held = self.size(ROWS), {}
        for device, (index,) in self.rows.devices_indices_map((shares,)).items():
            held[device.process_index] = held.get(device.process_index, frozenset()) | {index.start or 0}
        return held

    @property
    def reader(self):
        """The number among `readers` of the hosts that read this one's rows."""
        return sorted(set(self.held.values()), key=min).index(self.held[self.host])

    @property
    def readers(self):
        """How many parts of a batch the hosts read: those whose devices share nothing but rows each read their own."""
        return len(set(self.held.values()))

    def sharding(self, *spec):
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    @property
    def whole(self):
        """On every device."""
        return self.sharding()

    @property
    def rows(self):
        """Split along a first axis, of rows."""
        return self.sharding(ROWS)

    @property
    def each(self):
        """Split along a first axis, a part for every device."""
        return self.sharding(AXES)

    @property
    def micro_batches(self):
        """Micro-batches along a first axis, each split along its rows."""
        return self.sharding(None, ROWS)

    def weights(self, path, shape):
        """The sharding of the tensor at a path. Stacked blocks lie as each of them does; so do a teacher's tensors, and
        masks and clustered weights, which have their weight's shape."""
        stacked = path.startswith("blocks.")
        named = re.sub(r"^teacher\.|_(mask|clustered)$", "", path)
        spec = self.spec(WEIGHTS, named, shape[stacked:])
        return self.sharding(*([None] * stacked), *spec)

    def activations(self, place, shape):
        """The sharding of what a place computes."""
        return self.sharding(*self.spec(ACTIVATIONS, place, shape))

    def spec(self, rules, name, shape):
        """A mesh axis, several or None for each dimension, by the first of `rules` that knows the name."""
        axes = next((axes for pattern, axes in rules if re.search(pattern, name)), ())
        return [axis if axis and size % self.size(axis) == 0 else None for axis, size in zip(axes, shape, strict=False)]

    def size(self, axes):
        return int(np.prod([self.mesh.shape[axis] for axis in ([axes] if isinstance(axes, str) else axes)]))


def open_devices(recipe):
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
    devices = Devices(mesh, jax.process_index(), hosts)
    parts = set(devices.held.values())
    if len({len(part) for part in parts}) > 1 or sum(len(part) for part in parts) > devices.size(ROWS):
        raise BadInput(f"{hosts} hosts of {mesh.size // hosts} devices: the mesh {dict(mesh.shape)} would have hosts "
                       "read overlapping parts of a batch; let devices.tensor x devices.sequence divide, or be a "
                       "multiple of, a host's devices")
    return devices


def join_hosts(recipe):
    """Joins the other hosts: those that JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say, else those
    of the cluster that JAX itself recognises (Cloud TPU, SLURM, GKE, Open MPI)."""
    known = {name: os.environ.get(f"JAX_{name.upper()}") for name in ("num_processes", "process_id")}
    if any(value is not None and not value.isdigit() for value in known.values()):
        raise MissingEnvironment(f"JAX_NUM_PROCESSES={known['num_processes']!r} and JAX_PROCESS_ID="
                                 f"{known['process_id']!r}: both are whole numbers")
    wanted = recipe.devices.hosts
    if wanted and known["num_processes"] and int(known["num_processes"]) != wanted:
        raise MissingEnvironment(f"devices.hosts={wanted}, but JAX_NUM_PROCESSES={known['num_processes']}: make them "
                                 "agree, or set devices.hosts=0")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        jax.distributed.initialize(**{name: int(value) for name, value in known.items() if value is not None},
                                   # Later than our own watchdog, which says more.
                                   heartbeat_timeout_seconds=max(100, round(2 * recipe.devices.watchdog)))
    except (RuntimeError, ValueError) as error:
        raise MissingEnvironment(f"devices.hosts={wanted}, but the hosts did not meet ({str(error).splitlines()[0]}): "
                                 "start each with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, as "
                                 "`twinscale launch` does") from None
    if wanted and jax.process_count() != wanted:
        raise MissingEnvironment(f"devices.hosts={wanted}, but the cluster has {jax.process_count()}: make them agree, "
                                 "or set devices.hosts=0")


def arranged(shape, devices):
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


def agree(devices, values):
    """The values (n,) of every host, int64 (hosts, n) NumPy; each host waits here for the others."""
    if devices.hosts == 1:
        return np.array(values, np.int64)[None]
    halves = np.array(values, np.int64).view(np.int32)  # as JAX has int64 only where it is switched on
    return np.asarray(multihost_utils.process_allgather(halves)).reshape(devices.hosts, -1).view(np.int64)


def is_lost(error):
    """Whether an exception says that another host is gone."""
    return isinstance(error, jax.errors.JaxRuntimeError | ValueError) and any(
        word in str(error) for word in ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination service"))


def place(devices, batch, micro_batches=1):
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


def place_signals(devices, signals):
    """A few numbers of this host, said by the first of its devices: float32 (devices, numbers)."""
    said = np.zeros((devices.mesh.size // devices.hosts, len(signals)), np.float32)
    said[0] = signals
    if devices.hosts == 1:
        return jax.device_put(said, devices.each)
    return jax.make_array_from_process_local_data(devices.each, said, (devices.mesh.size, len(signals)))


def compiler_options(recipe, devices):
    """XLA's options for a step. Raises BadInput where the recipe's kernel of attention cannot run on the devices, or
    the compiler refuses one of the recipe's own options."""
    device, execution = devices.mesh.devices.flat[0], recipe.jax
    if attention := traits_of(recipe.model).attention:  # here, before anything is compiled or written
        execution.kernel(recipe.train.precision, attention.width, recipe.data.sequence,
                         not recipe.data.cross_documents, device.platform,
                         getattr(device, "compute_capability", None), devices.mesh.shape["sequence"])
    options = {**(OVERLAP.get(device.platform, {}) if execution.overlap else {}),
               **(DETERMINISTIC.get(device.platform, {}) if execution.deterministic else {})}
    if device.platform == "tpu":
        options = {name: value for name, value in options.items() if not is_refused(name, device.device_kind)}
    if execution.xla_options:
        nothing = jax.jit(lambda x: x).lower(jax.ShapeDtypeStruct((), np.float32, sharding=devices.whole))
        compiling(lambda own: nothing.compile(compiler_options=own), execution.xla_options, execution.xla_options)
    return options | execution.xla_options


def is_refused(name, kind):
    """Whether an option is known to be refused by the libtpu that is there, for a kind of devices."""
    since, but = REFUSED.get(name, (None, ()))
    there = libtpu_version(os.environ)
    return since is not None and kind not in but and there is not None and numbers(there) >= since


def compiling(attempt, options, own):
    """What `attempt(options)` returns, which compiles. Options that the compiler refuses are left out and said to be,
    a line each on stderr. Raises BadInput for one of the user's `own`, which are not left out in silence."""
    left = dict(options)
    while True:
        try:
            return attempt(dict(left))
        except (jax.errors.JaxRuntimeError, ValueError, TypeError) as error:
            name = refused_option(str(error), left)
            if name is None:
                raise
            said = next(line.strip() for line in str(error).splitlines() if line.strip())
            if name in own:
                raise BadInput(f"jax.xla_options.{name}: XLA refuses it: {said[:300]}; take it out") from None
            del left[name]
            print(f"XLA's option {name} is left out, which the compiler refuses: {said[:300]}", file=sys.stderr,
                  flush=True)


def refused_option(said, options):
    """The option that a compiler's words are about, or None: one that they name, or rather one that refines what they
    name, for libtpu says to switch `..._fusion` off where `..._fusion_fuse_all_gather` is what it will not have."""
    named = [word for word in re.findall(r"\w+", said) if word in options or word.count("_") >= MOST_GENERAL]
    about = [name for name in options if any(name == word or name.startswith(f"{word}_") for word in named)]
    return max(about, key=len, default=None)


# What halves the time that XLA takes for a CPU's program, and lets it run the longer: kernels are emitted by the older
# way, which knows no MLIR, all in one piece, and LLVM leaves its dearer passes out. The XLA of jax 0.12 has lost the
# older way; a flag of that name would end the process.
HASTE = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 12) else {}
HASTE |= {"xla_cpu_parallel_codegen_split_count": 1}


def jit(function, options, own, **how):
    """`jax.jit` of a function with XLA's options, of which it leaves out those that the compiler refuses when it
    compiles first; see `compiling`."""
    made = []
    if jax.config.read("jax_disable_most_optimizations") and jax.default_backend() == "cpu":
        options = HASTE | options

    def call(*arguments):
        if made:
            return made[0](*arguments)

        def attempt(left):
            tried = jax.jit(function, compiler_options=left, **how)
            results = tried(*arguments)
            made.append(tried)
            return results

        return compiling(attempt, options, own)

    call.lower = jax.jit(function, **how).lower  # without options, which are for the compiler
    return call


LAID_OUT = []  # devices of the functions that are being traced


@contextmanager
def laid_out(devices):
    """While open, what is traced lies on the devices as the rules say."""
    LAID_OUT.append(devices)
    try:
        yield
    finally:
        LAID_OUT.pop()


def lay(place, x):
    """x, lying as the rule of its place says."""
    devices = LAID_OUT[-1] if LAID_OUT else None
    if devices is None or devices.mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, devices.activations(place, x.shape))


def lay_weights(tensors):
    """Tensors by path, such as gradients, lying as their weights do."""
    devices = LAID_OUT[-1] if LAID_OUT else None
    if devices is None or devices.mesh.size == 1:
        return tensors
    return {path: jax.lax.with_sharding_constraint(x, devices.weights(path, x.shape)) for path, x in tensors.items()}


def sequence_shared():
    """Whether several devices share each row's positions."""
    return bool(LAID_OUT) and LAID_OUT[-1].mesh.shape["sequence"] > 1


def born(path, shape, dtype, devices, canonical, layers):
    """The array of a path where it lies, whole nowhere: this host makes one canonical tensor at a time and keeps what
    its own devices hold.

    Args:
      canonical: from canonical name to a NumPy array.
      layers: blocks that a path of `blocks` stacks.
    """
    sharding = devices.weights(path, shape)
    where = sharding.addressable_devices_indices_map(shape)
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
    arrays = [jax.device_put(held[bounds(index, shape)], device) for device, index in where.items()]
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def bounds(index, shape):
    """An index of slices into a shape as a key: ((start, stop), ...)."""
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def jit_once(function, **how):
    """`jax.jit` of a function that computes less than it compiles: on a CPU in haste. Last places may round otherwise
    than in a step that is compiled in full: both are float arithmetic of the same program."""
    hasty = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True, **HASTE}
    return jax.jit(function, compiler_options=hasty if jax.default_backend() == "cpu" else None, **how)


def product(array):
    """A function that multiplies a square array by itself, waits, and is measured; see `common/flops.py`."""
    square = jnp.asarray(array)
    return lambda: jnp.matmul(square, square).block_until_ready()


def hasten():
    """Compiles as little as can be, for the life of the process: for programs that compile more than they compute. Call
    it before anything is compiled, as XLA reads its flags once."""
    jax.config.update("jax_disable_most_optimizations", True)
    flags = [f"--{name}={str(value).lower()}" for name, value in HASTE.items()]
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()  # what comes last holds
