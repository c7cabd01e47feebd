"""A row of preflight.json: what the compiler says of one backend's step on one topology, and what we count in it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.preflight.hlo import account
from twinscale.common.backends import on_jax
from twinscale.common.families import reads_text, traits_of
from twinscale.common.machine.flops import train_flops
from twinscale.common.machine.topology import Topology, titled
from twinscale.common.recipe.schema import Recipe, micro_batch, positions

if TYPE_CHECKING:
    from twinscale.common.machine.chips import Chip

APART = 0.05  # from which a difference between the backends is named
CONVENTION = "causal"  # FLOPs of `common/machine/flops.py` that the ceiling of MFU is of
# Products of attention's two factors that a call of each kernel computes: forward 2; of the backward pass those of
# the scores and of their gradients again, with one for queries, or two for keys and values, or where it is fused three.
KERNELS = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}
FUSED = {"splash_mha_dkv": 5}


def row(recipe: Recipe, classes: int, example_shape: tuple[int, ...], backend: str, topology: Topology,
        report: Mapping[str, Any], text: Any) -> dict[str, Any]:
    """A backend's figures on a topology, of the compiler's report and the text of the module that it made."""
    chip = topology.chip
    capacity = report["capacity_bytes"] or chip.hbm_bytes
    found = {"backend": backend, "topology": topology.name, "slices": topology.slices, "chips": topology.chips,
             "devices": topology.devices, "kind": report["kind"], "mesh": report["mesh"],
             "compiles": report["compiles"], "fits": None, "error": report["error"],
             "hbm_bytes_per_device": report["over_bytes"], "hbm_capacity_bytes": capacity, "memory": report["memory"],
             "xla_flags": report["xla_flags"], "lower_seconds": report["lower_seconds"],
             "compile_seconds": report["compile_seconds"], "attention": attention(recipe, backend)}
    if not report["compiles"]:
        found["fits"] = False if report["over_bytes"] else None
        return found | {"headroom_bytes": report["over_bytes"] and capacity - report["over_bytes"]}
    memory = report["memory"]
    held = sum(memory[part] for part in ("arguments", "temporaries", "output", "code")) - memory["alias"]
    counted = account(text, topology.slices)
    kernels, unknown = kernel_flops(recipe, counted["kernels"])
    ici = sent_over(counted["collectives"], chip)["ici"]
    return found | {
        "fits": held <= capacity, "hbm_bytes_per_device": held, "headroom_bytes": capacity - held,
        "flops_per_device": counted["flops"] + kernels, "flops_by_place": counted["flops_by_place"],
        "kernel_flops_per_device": kernels, "kernels": counted["kernels"], "uncounted_kernels": unknown,
        "matrix_flops_per_device": counted["matrix_flops"] + kernels, "compiler_flops": report["compiler_flops"],
        "bytes_moved_per_device": counted["bytes_moved"], "collectives": counted["collectives"],
        "bytes_per_link": round(ici / topology.links) if topology.links else 0, "links": topology.links,
        "fusions": counted["fusions"], "fusions_by_kind": counted["fusions_by_kind"],
        "unknown_loops": counted["unknown_loops"], "unread_collectives": counted["unread_collectives"]} | roofline(
            recipe, classes, example_shape, topology, counted["matrix_flops"] + kernels, counted["bytes_moved"],
            counted["collectives"])


def attention(recipe: Recipe, backend: str) -> str | None:
    """What computes attention on TPUs: "einsum" or a kernel; None where there is none."""
    attention = traits_of(recipe.model).attention
    if not attention:
        return None
    return "einsum" if not on_jax(backend) else recipe.jax.kernel(
        recipe.train.precision, attention.width, recipe.data.sequence, not recipe.data.cross_documents, "tpu",
        sequence=recipe.devices.sequence)


def kernel_flops(recipe: Recipe, kernels: Mapping[str, int]) -> tuple[int, list[str]]:
    """(operations that a device's calls of kernels compute, [names of kernels that are not known])."""
    total, unknown, attention = 0, [], traits_of(recipe.model).attention
    known = KERNELS | (FUSED if recipe.jax.splash.use_fused_bwd_kernel else {})
    for name, calls in kernels.items():
        products = next((products for start, products in known.items() if name.startswith(start)), None)
        if products is None or not attention:
            unknown.append(name)
            continue
        devices, length = recipe.devices, recipe.data.sequence
        rows = micro_batch(recipe) // (devices.replica * devices.data * devices.fsdp)
        pairs = length * (length + 1) // 2 // devices.sequence
        heads = attention.heads // devices.tensor
        total += 2 * products * calls * rows * heads * attention.width * pairs
    return total, unknown


def roofline(recipe: Recipe, classes: int, example_shape: tuple[int, ...], topology: Topology, flops: float,
             moved: float, collectives: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The least seconds of a step by what it computes, moves and sends, the one that binds, and what that leaves."""
    chip = topology.chip
    sent = sent_over(collectives, chip)
    seconds = {"compute": flops * chip.devices / chip.peak_flops, "hbm": moved * chip.devices / chip.hbm_bandwidth,
               "interconnect": sent["ici"] / (chip.link_bandwidth * max(1, topology.links)),
               "dcn": sent["dcn"] / chip.dcn_bandwidth}
    bound = max(seconds, key=seconds.__getitem__)
    model = recipe.train.global_batch * train_flops(recipe.model, classes, example_shape, CONVENTION)
    # A first layer's gradient by its inputs is counted by the convention, and not computed.
    ceiling = min(1.0, model / (seconds[bound] * topology.chips * chip.peak_flops))
    return {"bound": bound, "seconds_at_least": seconds, "mfu_ceiling": ceiling,
            "mfu_convention": f"{CONVENTION} FLOPs / bfloat16 peak of {topology.chips} x {chip.kind}",
            "throughput_ceiling": positions(recipe) / seconds[bound],
            "unit": "tokens/s" if reads_text(recipe.model) else "images/s"}


def sent_over(collectives: Sequence[Mapping[str, Any]], chip: "Chip") -> dict[str, float]:
    """{"ici", "dcn": bytes that a chip must send over the network}: of a chip of several devices what one of them
    sends, for a ring leaves the chip once, and nothing of what its own devices may exchange within it. What goes to
    other slices goes for each device."""
    ici = sum(each["bytes_sent"] for each in collectives if each["network"] == "ici" and (
        each["group"] > chip.devices or each["kind"] == "collective-permute"))  # whose groups are pairs anywhere
    dcn = sum(each["bytes_sent"] for each in collectives if each["network"] == "dcn")
    return {"ici": ici, "dcn": dcn * chip.devices}


def totals(found: Mapping[str, Any]) -> dict[tuple[str, str], tuple[int, int]]:
    """{(kind, network): (count, bytes)} of a row's collectives, over groups of all sizes."""
    added = {}
    for each in found.get("collectives") or ():
        count, size = added.get((each["kind"], each["network"]), (0, 0))
        added[each["kind"], each["network"]] = count + each["count"], size + each["bytes"]
    return added


def title(topology: Topology) -> str:
    """A topology as people name it."""
    return titled(topology.name, topology.slices)
