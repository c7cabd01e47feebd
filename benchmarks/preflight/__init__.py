"""What the TPU's compiler says of a recipe's train step, for each backend and without a TPU: whether it compiles and
fits, what it computes, moves and communicates, and how fast it could be at best.

    twinscale preflight recipes/decoder-stdlib.toml --topology v5e:2x2 --out build/preflight

The compiler's figures (memory, the module that the counts are of) are exact. A roofline (Williams et al. 2009) is a
ceiling and no prediction: it takes for granted that everything runs beside everything else at the maker's full rate.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.output import again, check_files, made, tell
from twinscale.benchmarks.preflight.compare import (
    FILE,
    SCHEMA_VERSION,
    compare_golden,
    of_golden,
    other_versions,
    parity,
    read_golden,
    reduced,
)
from twinscale.benchmarks.preflight.compilers import check_libtpu, check_packages, compile_all, find_libtpu
from twinscale.benchmarks.preflight.peers import compiled_by, planned
from twinscale.benchmarks.preflight.report import write_report
from twinscale.benchmarks.preflight.rows import title
from twinscale.benchmarks.preflight.words import show
from twinscale.benchmarks.results import Preflight
from twinscale.common.backends import BOTH
from twinscale.common.data.shapes import data_shape
from twinscale.common.errors import DID_IT, NO, BadInput
from twinscale.common.files.access import plain, write_json
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.machine.doctor import versions
from twinscale.common.machine.topology import Topology, library_version, parse
from twinscale.common.recipe.runtime import check_runtime, unread
from twinscale.common.recipe.schema import AXES, Recipe, mesh_shape

if TYPE_CHECKING:
    from twinscale.common.machine.chips import Chip

BACKENDS = BOTH[::-1]  # unless others are asked for
KEYS = ("schema_version", "results")
ASSUMPTIONS = {
    "keras": "TensorFlow lowers the step for one device and the global batch; compiled here with the batch split over "
             "all chips and every variable whole on each, as tf.distribute.TPUStrategy has it. XLA's partitioner puts "
             "the collectives in, which on a TPU TPUStrategy does. What a recipe says of devices.fsdp, tensor and "
             "sequence is left out: the Keras trainer has no such axes.",
    "keras-jax": "The Keras program's step on JAX, over the mesh that the recipe shapes, as the one of jax.",
    "jax": "The step as jaxscale builds it, over the mesh that the recipe shapes; devices.data takes all chips that "
           "the other axes leave.",
    "roofline": "A ceiling and no prediction: computation, HBM and the networks at the maker's full rate, all at once, "
                "and every link of a chip in use.",
    "devices": "A chip of two devices: figures are of one device. The links are the chip's; a ring through both "
               "devices leaves the chip once, so they carry what one device sends, and nothing of what a chip's own "
               "two devices exchange.",
    "kernels": "What Pallas kernels compute is not in the module: their operations are counted from the recipe, over "
               "the pairs that a causal mask lets through.",
    "maxtext-compile": "MaxText's step as its own train_compile makes it, of a Llama block of the same sizes, with its "
                       "defaults for what the recipe does not say: its options of XLA (none), its loss, its schedule's "
                       "shape, weight decay on every tensor, and the kernel is always told which document a position "
                       "is of. Counted by the same account as ours."}


def preflight(recipe: Recipe, out: Path, *, topologies: Sequence[str] = (), slices: int = 1,
              backends: Sequence[str] = (), peers: Sequence[str] = (), check: str | Path | None = None,
              write_golden: str | Path | None = None, as_json: bool = False, overwrite: bool = False,
              words: Sequence[str] = ()) -> int:
    """Compiles, prints a table, writes `out`/preflight.json and a report; returns the exit code: 0 all compile and fit,
    or with `check` are no worse than before, else 1.

    Args:
      recipe: the validated recipe.
      out: the directory; nothing else in it is touched.
      topologies: names as `common.machine.topology.parse` takes; with `check` none are those of the golden.
      slices: of each topology, joined by the data-centre network.
      backends: of "jax", "keras-jax" and "keras"; none: jax and keras, or with `check` those of the golden.
      peers: of `benchmarks.preflight.peers.PEERS`, whose steps stand beside that of "jax".
      check: path of an earlier preflight.json, or one that `write_golden`, a path, has written.
      as_json: print what preflight.json holds in place of the table.
      words: of the command line, which say what is compiled; for the report.
    Raises BadInput, MissingEnvironment before anything is compiled or written.
    """
    check_files(out, [FILE, "report.html", "report.md"], KEYS, overwrite)
    if write_golden:
        check_files(Path(write_golden).parent, [Path(write_golden).name], KEYS, True, "--write-golden")
    golden = read_golden(check) if check else None
    recipe = uncompressed(recipe)
    pairs = of_golden(golden, topologies, slices, backends) if golden else [
        (backend, topology) for topology in wanted(topologies, slices) for backend in backends or BACKENDS]
    asked = list(dict.fromkeys(topology for _, topology in pairs))
    backends = list(dict.fromkeys(backend for backend, _ in pairs))
    jobs = [(backend, topology, placed(recipe, topology, backend)) for backend, topology in pairs]
    library = find_libtpu(os.environ)
    check_libtpu(asked, library)
    check_packages(backends)
    shape, used = data_shape(recipe), {**versions(), "libtpu": library_version(library)}
    others = planned(peers, jobs, shape[0])
    for backend in backends:
        if ignored := unread(recipe, backend):
            tell(backend, ignored)
    with tempfile.TemporaryDirectory() as folder:
        results = compile_all(jobs, library, Path(folder), shape)
        beside = compiled_by(others, results, used, shape, Path(folder))
    worse = compare_golden(golden, results) if golden else []
    result = {"schema_version": SCHEMA_VERSION, "recipe": recipe.model_dump(mode="json"), "hash": recipe.hash,
              "results": results, **({"peers": beside} if beside else {}), "parity": parity(results),
              "assumptions": ASSUMPTIONS,
              "versions": used, "made": made(), "commands": again("preflight", *words, out=out),
              "chips": {topology.chip.name: chip_figures(topology.chip) for topology in asked},
              "check": {"golden": str(check), "worse": worse, "versions": other_versions(golden, used)} if golden else
              None}
    write_result(out / FILE, Preflight, result)
    write_report(plain(result), out)
    if write_golden:
        write_json(write_golden, reduced(result))
    answer(result, show, as_json)
    if golden:
        return NO if worse else DID_IT
    return DID_IT if all(row["fits"] for row in results) else NO


# ---- what is asked for

def uncompressed(recipe: Recipe) -> Recipe:
    """The recipe without stages of compression, whose dense training is what is asked for."""
    return recipe.with_values(compress={"stages": ()}) if recipe.compress.stages else recipe


def wanted(topologies: Sequence[str], slices: int) -> list[Topology]:
    """The Topologies of names. Raises BadInput where there are none."""
    if not topologies:
        raise BadInput("--topology: which slice? such as --topology v5e:4x4, or --topology v5p-128")
    return list(dict.fromkeys(parse(name, slices) for name in topologies))


def placed(recipe: Recipe, topology: Topology, backend: str) -> Recipe:
    """The recipe with a mesh over all devices of a topology; in Keras they share the batch alone, whatever the recipe
    says. Raises BadInput where that cannot be."""
    check_runtime(recipe, backend)
    devices, count, chip = recipe.devices, topology.devices, topology.chip
    named = f"the {count} {'chips' if chip.devices == 1 else f'devices ({chip.devices} a chip)'} of {title(topology)}"
    if backend == "keras":
        if not chip.tensorflow:
            raise BadInput(f"--topology {topology.name}: TensorFlow does not run on {chip.kind}; take --runtime jax "
                           "or --backend jax")
        if topology.slices > 1:
            raise BadInput(f"--slices {topology.slices}: TPUStrategy trains on one slice; take --runtime jax or "
                           "--backend jax")
        recipe = recipe.with_values(devices=dict.fromkeys(AXES, 1) | {"data": 0})
        devices = recipe.devices
    if devices.replica not in (1, topology.slices):
        raise BadInput(f"devices.replica={devices.replica}, but --slices {topology.slices}: make them agree")
    others = topology.slices * devices.fsdp * devices.tensor * devices.sequence
    shares = " x ".join(f"devices.{axis}={getattr(devices, axis)}" for axis in ("fsdp", "tensor", "sequence"))
    if count % others:
        raise BadInput(f"{shares} does not divide {named}: take axes whose product does")
    if devices.data not in (0, 1, count // others):
        raise BadInput(f"devices.data={devices.data} does not make up {named}: set devices.data=0")
    recipe = recipe.with_values(devices={"replica": topology.slices, "data": count // others, "hosts": 1, "virtual": 0})
    mesh_shape(recipe, "the topology", count, chip.name)
    return recipe


def chip_figures(chip: "Chip") -> dict[str, Any]:
    """What the report says of a chip; rates of one device where it has several."""
    kind = chip.kind if chip.devices == 1 else f"{chip.kind}, each of its {chip.devices} devices"
    return {"kind": kind, "peak_flops": chip.peak_flops / chip.devices, "hbm_bytes": chip.hbm_bytes,
            "hbm_bandwidth": chip.hbm_bandwidth / chip.devices, "links": chip.links,
            "link_bandwidth": chip.link_bandwidth, "dcn_bandwidth": chip.dcn_bandwidth,
            "cores": chip.cores, "devices": chip.devices, "sources": chip.sources}
