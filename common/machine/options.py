"""XLA's options for a train step as data: those that steps are compiled with, chip by chip, and those that might help
and are not set. What the compiler makes of each, `twinscale preflight --options` says. To add one, add its entry to
OPTIONS: without `chips` it is only tried."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from twinscale.common.machine.chips import CHIPS, of_kind

MAXTEXT = "MaxText, benchmarks/xla_flags_library.py"
RECIPES = "AI-Hypercomputer, tpu-recipes"
JAX = "JAX, GPU performance tips"
LIBTPU = "the names in libtpu 0.0.45"
XLA = "OpenXLA, DebugOptions in xla.proto"
EVERY = tuple(CHIPS)  # chips by name
SPARSE = ("v5p", "v6e", "tpu7x")  # chips with SparseCores that compute (OpenXLA, A deep dive into SparseCore)

Value = bool | int | str


@dataclass(frozen=True)
class Option:
    """One of XLA's options.

    platform: as JAX names it; chips: the TPUs that we set it for, by name; none: it is a candidate.
    wish: what of a recipe asks for it, its key in `jax`.
    value, off: what it is set to, and what stands for not setting it.
    tried: the TPUs whose compiler is asked of it; beside: other options that it wants, which go where it goes.
    refused: the first libtpu that refuses it, and the chips for which it does not.
    """

    name: str
    purpose: str
    source: str
    platform: str = "tpu"
    chips: tuple[str, ...] = ()
    wish: str = "overlap"
    value: Value = True
    off: Value = False
    tried: tuple[str, ...] = EVERY
    beside: Mapping[str, Value] = field(default_factory=dict)
    refused: tuple[tuple[int, ...], tuple[str, ...]] | None = None


# What a SparseCore's collective wants beside it; a fusion with computation and a SparseCore exclude each other.
OFFLOADED: dict[str, Value] = {"xla_tpu_use_tc_device_shape_on_sc": True, "xla_sc_disable_megacore_partitioning": True,
                               "xla_sc_enable_instruction_fusion": False}
# Without the last two it takes gathers along one axis of the network alone.
GATHERED: dict[str, Value] = {"xla_tpu_enable_async_collective_fusion_fuse_all_gather": False,
                              "xla_tpu_enable_sparse_core_collective_offload_2d_all_gather": True,
                              "xla_tpu_enable_sparse_core_collective_offload_3d_all_gather": True}

OPTIONS = (
    Option("xla_tpu_enable_async_collective_fusion", "fuses collectives with computation, in parts that run in turn",
           MAXTEXT, chips=EVERY),
    Option("xla_tpu_overlap_compute_collective_tc", "lets the TensorCore compute while it sends in such a fusion",
           MAXTEXT, chips=EVERY),
    # XLA says that programs may hang or be wrong where it refuses it. On v5p and v6e the SparseCores gather.
    Option("xla_tpu_enable_async_collective_fusion_fuse_all_gather", "does so for all-gathers", MAXTEXT,
           chips=("v4", "v5e", "tpu7x"), refused=((0, 0, 43), ("v5e",))),
    Option("xla_enable_async_all_gather", "splits an all-gather into its start and its end", MAXTEXT, chips=EVERY),
    Option("xla_tpu_enable_sparse_core_collective_offload_all_gather", "gathers on the SparseCores, beside the core",
           MAXTEXT, chips=("v5p", "v6e"), tried=SPARSE, beside=OFFLOADED | GATHERED),
    Option("xla_gpu_enable_latency_hiding_scheduler", "orders the program so that collectives are waited for least",
           JAX, platform="gpu"),
    # CPUs and TPUs give equal bits anyway. It holds for cuDNN's attention too.
    Option("xla_gpu_deterministic_ops", "takes only operations that give equal bits in every run", XLA,
           platform="gpu", wish="deterministic"),
    # ---- candidates
    Option("xla_enable_async_all_reduce", "splits an all-reduce into its start and its end", MAXTEXT),
    Option("xla_enable_async_collective_permute", "splits a permutation into its start and its end", MAXTEXT),
    Option("xla_enable_async_reduce_scatter_fusion", "splits a fused reduce-scatter into its start and its end",
           RECIPES),
    Option("xla_tpu_enable_async_collective_fusion_multiple_steps", "lets a fused collective span several computations",
           MAXTEXT),
    Option("xla_tpu_enable_async_collective_fusion_fuse_all_reduce", "fuses all-reduces with computation", MAXTEXT),
    Option("xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter", "fuses reduce-scatters with computation",
           MAXTEXT),
    Option("xla_tpu_enable_data_parallel_all_reduce_opt", "reduces gradients over the data axis behind the next "
           "layer's backward pass", MAXTEXT, beside={"xla_tpu_data_parallel_opt_different_sized_ops": True}),
    Option("xla_tpu_enable_sparse_core_collective_offload_reduce_scatter", "scatters sums on the SparseCores", MAXTEXT,
           tried=SPARSE, beside=OFFLOADED | {"xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter": False}),
    Option("xla_tpu_enable_sparse_core_collective_offload_all_reduce", "adds up on the SparseCores", MAXTEXT,
           tried=SPARSE, beside=OFFLOADED | {"xla_tpu_enable_async_collective_fusion_fuse_all_reduce": False}),
    Option("xla_tpu_enable_sparse_core_collective_offload_dense_all_to_all", "exchanges on the SparseCores", LIBTPU,
           tried=SPARSE, beside=OFFLOADED),
    Option("xla_tpu_enable_async_all_to_all", "splits an exchange into its start and its end", LIBTPU),
    Option("xla_jf_spmd_threshold_for_windowed_einsum_mib", "gathers whole before a product, not in parts that go "
           "round meanwhile", MAXTEXT, value=1000000, off=0),
    Option("xla_tpu_prefer_async_allgather_to_allreduce", "gathers asynchronously where it could add up", RECIPES),
    Option("xla_tpu_assign_all_reduce_scatter_layout", "lays out what is reduced so that it can be scattered", MAXTEXT,
           beside={"xla_tpu_use_minor_sharding_for_major_trivial_input": True,
                   "xla_tpu_relayout_group_size_threshold_for_reduce_scatter": 1}),
    Option("xla_tpu_enable_ag_backward_pipelining", "gathers the backward pass's weights one block early", MAXTEXT),
    Option("xla_tpu_enable_scheduler_memory_pressure_tracking", "shows the scheduler how full the memory is", MAXTEXT),
    Option("xla_tpu_aggressive_opt_barrier_removal", "drops the barriers of rematerialisation once they have done",
           MAXTEXT),
    Option("xla_tpu_enable_latency_hiding_layer_scheduler", "schedules whole layers against collectives", RECIPES,
           tried=SPARSE, beside={"xla_tpu_enable_sparse_core_collective_aggregator": True}),
    Option("xla_latency_hiding_scheduler_rerun", "schedules again with less memory where the first does not fit",
           MAXTEXT, value=2, off=0),
)

WISHES = ("overlap", "deterministic")


def chosen(platform: str, kind: str, wishes: Collection[str]) -> dict[str, Value]:
    """{name: value} of the options that a step is compiled with, those that a libtpu refuses among them, and with each
    what it wants beside it.

    Args:
      platform, kind: of a device, as JAX names them. A TPU of a kind that is not known has what all chips have.
      wishes: of WISHES, what the recipe asks for.
    """
    chip = of_kind(kind)
    ours = [option for option in OPTIONS if option.platform == platform and option.wish in wishes
            and (platform != "tpu" or (chip.name in option.chips if chip else option.chips == EVERY))]
    return {name: value for option in ours for name, value in {option.name: option.value, **option.beside}.items()}


def is_refused(name: str, kind: str, version: tuple[int, ...] | None) -> bool:
    """Whether an option that is switched on is known to be refused by a libtpu of a version, None where it is not
    known, for a kind of devices."""
    option = next((option for option in OPTIONS if option.name == name), None)
    if option is None or option.refused is None or version is None:
        return False
    since, but = option.refused
    chip = of_kind(kind)
    return version >= since and (chip is None or chip.name not in but)


def tried_on(chip: str) -> list[Option]:
    """The options that the compiler of a chip, by name, is asked of: those that are set first."""
    of_tpus = [option for option in OPTIONS if option.platform == "tpu"]
    return [*(option for option in of_tpus if chip in option.chips),
            *(option for option in of_tpus if chip not in option.chips and chip in option.tried)]
