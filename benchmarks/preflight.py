"""What the TPU's compiler says of a recipe's train step, for both backends and without a TPU: whether it compiles and
fits, what it computes, moves and communicates, and how fast it could be at best.

    twinscale preflight recipes/decoder-stdlib.toml --topology v5e:2x2 --out build/preflight

The compiler's figures (memory, the module that the counts are of) are exact. A roofline (Williams et al. 2009) is a
ceiling and no prediction: it takes for granted that everything runs beside everything else at the maker's full rate.
"""

import importlib.util
import json
import os
import re
import resource
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.output import tell
from benchmarks.workers import STARTUP, Worker
from common.data.shapes import batch_shapes, data_shape
from common.doctor import versions
from common.errors import DID_IT, NO, BadInput, MissingEnvironment, TwinscaleError
from common.flops import train_flops
from common.hlo import account
from common.recipe import AXES, mesh_shape, micro_batch, positions
from common.run import plain, write_json
from common.topology import parse

SCHEMA_VERSION = 1
FILE = "preflight.json"
LIBTPU = "libtpu==0.0.42.1"  # which belongs to jax 0.10.2: of a later one the modules of v5p cannot be read
CONVENTION = "causal"  # FLOPs of `common/flops.py` that the ceiling of MFU is of
STACK = r"\s+@ |PC: @|https://symbolize|[EFIW]\d{4} "  # lines that the compiler's crash handler adds to its first
APART = 0.05  # from which a difference between the backends is named
PACKAGES = {"keras": ("tensorflow", "cpu"), "jax": ("jax", "jax")}
ROOMS = {"keras": "tfscale.lower", "jax": "jaxscale.lower"}  # what lowers; JAX compiles for both
# The compiler is loaded by hand and asks nobody where it runs; what the names of a host say is taken from the topology.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
               "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0",
               "TPU_LOG_DIR": "disabled"}
# Products of attention's two factors that a call of each kernel computes: forward 2; of the backward pass those of
# the scores and of their gradients again, with one for queries, or two for keys and values.
KERNELS = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}
ASSUMPTIONS = {
    "keras": "TensorFlow lowers the step for one device and the global batch; compiled here with the batch split over "
             "all chips and every variable whole on each, as tf.distribute.TPUStrategy has it. XLA's partitioner puts "
             "the collectives in, which on a TPU TPUStrategy does, and may gather a few labels besides.",
    "jax": "The step as jaxscale builds it, over the mesh that the recipe shapes; devices.data takes all chips that "
           "the other axes leave.",
    "roofline": "A ceiling and no prediction: computation, HBM and the networks at the maker's full rate, all at once, "
                "and every link of a chip in use.",
    "kernels": "What Pallas kernels compute is not in the module: their operations are counted from the recipe, over "
               "the pairs that a causal mask lets through."}


def preflight(recipe, out, *, topologies=(), slices=1, backends=("jax", "keras"), check=None, write_golden=None,
              as_json=False, overwrite=False):
    """Compiles, prints a table and writes `out`/preflight.json; returns the exit code: 0 all compile and fit, or with
    `check` are no worse than before, else 1.

    Args:
      recipe: the validated recipe.
      out: the directory; nothing else in it is touched.
      topologies: names as `common.topology.parse` takes; with `check` none are those of the golden.
      slices: of each topology, joined by the data-centre network.
      backends: of "jax" and "keras".
      check: path of an earlier preflight.json, or one that `write_golden`, a path, has written.
      as_json: print what preflight.json holds in place of the table.
    Raises BadInput, MissingEnvironment before anything is compiled or written.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: a file, but a directory is wanted")
    if (out / FILE).exists() and not overwrite:
        raise BadInput(f"--out {out}: holds a {FILE} already; choose another directory or pass --overwrite")
    golden = read_golden(check) if check else None
    recipe = recipe.with_values(compress={"stages": ()}) if recipe.compress.stages else recipe
    asked = wanted(topologies, slices, golden)
    jobs = [(backend, topology, placed(recipe, topology, backend)) for topology in asked for backend in backends]
    library = find_libtpu(os.environ)
    for backend in {"jax", *backends}:  # JAX asks the compiler for both
        package, extra = PACKAGES[backend]
        if importlib.util.find_spec(package) is None:
            raise MissingEnvironment(f"{package} is not installed: pip install 'twinscale[{extra}]'")
    classes, example_shape = data_shape(recipe)
    with tempfile.TemporaryDirectory() as folder:
        results = compiled(recipe, jobs, classes, example_shape, library, Path(folder))
    result = {"schema_version": SCHEMA_VERSION, "recipe": recipe.model_dump(mode="json"), "hash": recipe.hash,
              "results": results, "parity": parity(results), "assumptions": ASSUMPTIONS,
              "versions": {**versions(), "libtpu": library_version(library)},
              "chips": {topology.chip.name: chip_figures(topology.chip) for topology in asked}}
    worse = compare_golden(golden, results) if golden else []
    result["check"] = {"golden": str(check), "worse": worse} if golden else None
    write_json(out / FILE, result)
    if write_golden:
        write_json(write_golden, reduced(result))
    if as_json:
        print(json.dumps(plain(result), indent=2))
    else:
        show(result)
    if golden:
        return NO if worse else DID_IT
    return DID_IT if all(row["fits"] for row in results) else NO


# ---- what is asked for

def wanted(topologies, slices, golden):
    """The Topologies of names, or those that a golden holds."""
    if topologies:
        return list(dict.fromkeys(parse(name, slices) for name in topologies))
    if golden:
        return list(dict.fromkeys(parse(row["topology"], row["slices"]) for row in golden["results"]))
    raise BadInput("--topology: which slice? such as --topology v5e:4x4, or --topology v5p-128")


def placed(recipe, topology, backend):
    """The recipe with a mesh over all chips of a topology. Raises BadInput where that cannot be."""
    devices, chips, named = recipe.devices, topology.chips, f"the {topology.chips} chips of {title(topology)}"
    if backend == "keras":
        if topology.slices > 1:
            raise BadInput(f"--slices {topology.slices}: TPUStrategy trains on one slice; take --backend jax")
        for axis in AXES:
            if axis != "data" and getattr(devices, axis) > 1:
                raise BadInput(f"devices.{axis}={getattr(devices, axis)}: Keras shares the batch alone; set it to 1, "
                               "or take --backend jax")
    if devices.replica not in (1, topology.slices):
        raise BadInput(f"devices.replica={devices.replica}, but --slices {topology.slices}: make them agree")
    others = topology.slices * devices.fsdp * devices.tensor * devices.sequence
    shares = " x ".join(f"devices.{axis}={getattr(devices, axis)}" for axis in ("fsdp", "tensor", "sequence"))
    if chips % others:
        raise BadInput(f"{shares} does not divide {named}: take axes whose product does")
    if devices.data not in (0, 1, chips // others):
        raise BadInput(f"devices.data={devices.data} does not make up {named}: set devices.data=0")
    recipe = recipe.with_values(devices={"replica": topology.slices, "data": chips // others, "hosts": 1, "virtual": 0})
    mesh_shape(recipe, "the topology", chips, topology.chip.name)
    return recipe


def title(topology):
    return f"{topology.slices} x {topology.name}" if topology.slices > 1 else topology.name


def find_libtpu(environment):
    """The path of libtpu.so: that of TPU_LIBRARY_PATH, of the package, or of one that is kept beside the packages,
    for where JAX finds it, it looks for a TPU and complains. Raises MissingEnvironment where there is none."""
    beside = Path(sys.prefix) / "libtpu"
    if given := environment.get("TPU_LIBRARY_PATH"):
        if Path(given).is_file():
            return Path(given)
        raise MissingEnvironment(f"TPU_LIBRARY_PATH={given}: no such file")
    package = importlib.util.find_spec("libtpu")
    places = [Path(package.origin).parent] if package and package.origin else []
    for place in (*places, beside / "libtpu"):
        if (place / "libtpu.so").is_file():
            return place / "libtpu.so"
    raise MissingEnvironment("libtpu, which holds the TPU's compiler, is not installed: pip install --no-deps "
                             f"--target {beside} {LIBTPU}")


def library_version(library):
    """The version of the libtpu that a library belongs to, None where nothing says it."""
    found = sorted(library.parent.parent.glob("libtpu-*.dist-info"))
    return found[-1].name.removeprefix("libtpu-").removesuffix(".dist-info") if found else None


def chip_figures(chip):
    return {"peak_flops": chip.peak_flops, "hbm_bytes": chip.hbm_bytes, "hbm_bandwidth": chip.hbm_bandwidth,
            "links": chip.links, "link_bandwidth": chip.link_bandwidth, "dcn_bandwidth": chip.dcn_bandwidth,
            "cores": chip.cores, "sources": chip.sources}


# ---- compile

def compiled(recipe, jobs, classes, example_shape, library, folder):
    """A row of results for each (backend, topology, recipe), the backends side by side in processes of their own."""
    shape = {"classes": classes, "example_shape": example_shape, "batch": batch_shapes(recipe, example_shape)}

    def side(backend):
        lowered, module = folder / f"{backend}.hlo", folder / f"{backend}.txt"
        call, asked, seconds, rows = "compile_step", shape, 0.0, []
        if backend == "keras":
            with closing(Worker("keras", None, ROOMS["keras"])) as room:
                tell(backend, "lowers the step")
                first = room.ask("lower", recipe, **shape, lowered=lowered)
            call, asked, seconds = "compile_module", {"lowered": lowered, "rows": first["rows"]}, first["seconds"]
        compiler = None
        try:
            for topology, described in (job[1:] for job in jobs if job[0] == backend):
                compiler = compiler or open_compiler(backend, library)
                tell(backend, f"compiles for {title(topology)}")
                try:
                    report = compiler.ask(call, described, **asked, options=topology.options, module=module)
                except TwinscaleError:
                    if compiler.process.poll() is None:
                        raise
                    report = died(described, compiler.process.returncode)
                    compiler.close()
                    compiler = None
                report["lower_seconds"] += seconds
                text = module.read_text() if report["compiles"] else None
                rows.append(row(described, classes, example_shape, backend, topology, report, text))
        finally:
            if compiler:
                compiler.close()
        return rows

    with deep_stack(), ThreadPoolExecutor(2) as pool:
        sides = list(pool.map(side, dict.fromkeys(backend for backend, _, _ in jobs)))
    return [found for beside in zip(*sides, strict=True) for found in beside]


def open_compiler(backend, library):
    """A process that compiles a backend's steps with a libtpu."""
    return Compiler(backend, {**ENVIRONMENT, "TPU_LIBRARY_PATH": str(library)}, ROOMS["jax"])


class Compiler(Worker):
    """A process that compiles. Of a crash's stack it hands on no line but the first."""

    def forward(self):
        for line in self.process.stderr:
            if line.strip() and not line.startswith(STARTUP) and not re.match(STACK, line):
                print(f"{self.backend:>5}  {line}", end="", file=sys.stderr, flush=True)


@contextmanager
def deep_stack():
    """While open, processes start with as deep a stack as this one may give: the compiler recurses, and for a small
    convnet on v6e runs out of the usual 8 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def died(recipe, code):
    """The report of a compiler that crashed."""
    mesh = {axis: getattr(recipe.devices, axis) for axis in AXES}
    return {"compiles": False, "error": f"the compiler died with exit code {code}", "over_bytes": None,
            "capacity_bytes": None, "memory": None, "compiler_flops": None, "mesh": mesh, "kind": None,
            "xla_flags": {}, "lower_seconds": 0.0, "compile_seconds": 0.0}


def row(recipe, classes, example_shape, backend, topology, report, text):
    """A backend's figures on a topology, of the compiler's report and the text of the module that it made."""
    chip = topology.chip
    capacity = report["capacity_bytes"] or chip.hbm_bytes
    found = {"backend": backend, "topology": topology.name, "slices": topology.slices, "chips": topology.chips,
             "kind": report["kind"], "mesh": report["mesh"], "compiles": report["compiles"], "fits": None,
             "error": report["error"], "hbm_bytes_per_device": report["over_bytes"], "hbm_capacity_bytes": capacity,
             "memory": report["memory"], "xla_flags": report["xla_flags"], "lower_seconds": report["lower_seconds"],
             "compile_seconds": report["compile_seconds"], "attention": attention(recipe, backend)}
    if not report["compiles"]:
        found["fits"] = False if report["over_bytes"] else None
        return found | {"headroom_bytes": report["over_bytes"] and capacity - report["over_bytes"]}
    memory = report["memory"]
    held = sum(memory[part] for part in ("arguments", "temporaries", "output", "code")) - memory["alias"]
    counted = account(text, topology.slices)
    kernels, unknown = kernel_flops(recipe, counted["kernels"])
    ici = sum(each["bytes_sent"] for each in counted["collectives"] if each["network"] == "ici")
    return found | {
        "fits": held <= capacity, "hbm_bytes_per_device": held, "headroom_bytes": capacity - held,
        "flops_per_device": counted["flops"] + kernels, "flops_by_place": counted["flops_by_place"],
        "kernel_flops_per_device": kernels, "kernels": counted["kernels"], "uncounted_kernels": unknown,
        "matrix_flops_per_device": counted["matrix_flops"] + kernels, "compiler_flops": report["compiler_flops"],
        "bytes_moved_per_device": counted["bytes_moved"], "collectives": counted["collectives"],
        "bytes_per_link": round(ici / topology.links) if topology.links else 0, "links": topology.links,
        "fusions": counted["fusions"], "fusions_by_kind": counted["fusions_by_kind"],
        "unknown_loops": counted["unknown_loops"]} | roofline(
            recipe, classes, example_shape, topology, counted["matrix_flops"] + kernels, counted["bytes_moved"],
            counted["collectives"])


def attention(recipe, backend):
    """What computes attention on TPUs: "einsum" or a kernel; None where there is none."""
    if recipe.model.family != "decoder":
        return None
    return "einsum" if backend != "jax" else recipe.jax.kernel(
        recipe.train.precision, recipe.model.head_width, recipe.data.sequence, not recipe.data.cross_documents, "tpu",
        sequence=recipe.devices.sequence)


def kernel_flops(recipe, kernels):
    """(operations that a device's calls of kernels compute, [names of kernels that are not known])."""
    total, unknown = 0, []
    for name, calls in kernels.items():
        products = next((products for start, products in KERNELS.items() if name.startswith(start)), None)
        if products is None or recipe.model.family != "decoder":
            unknown.append(name)
            continue
        devices, length = recipe.devices, recipe.data.sequence
        rows = micro_batch(recipe) // (devices.replica * devices.data * devices.fsdp)
        pairs = length * (length + 1) // 2 // devices.sequence
        heads = recipe.model.heads // devices.tensor
        total += 2 * products * calls * rows * heads * recipe.model.head_width * pairs
    return total, unknown


def roofline(recipe, classes, example_shape, topology, flops, moved, collectives):
    """The least seconds of a step by what it computes, moves and sends, the one that binds, and what that leaves."""
    chip = topology.chip
    sent = {network: sum(each["bytes_sent"] for each in collectives if each["network"] == network)
            for network in ("ici", "dcn")}
    seconds = {"compute": flops / chip.peak_flops, "hbm": moved / chip.hbm_bandwidth,
               "interconnect": sent["ici"] / (chip.link_bandwidth * max(1, topology.links)),
               "dcn": sent["dcn"] / chip.dcn_bandwidth}
    bound = max(seconds, key=seconds.get)
    model = recipe.train.global_batch * train_flops(recipe.model, classes, example_shape, CONVENTION)
    # A first layer's gradient by its inputs is counted by the convention, and not computed.
    ceiling = min(1.0, model / (seconds[bound] * topology.chips * chip.peak_flops))
    return {"bound": bound, "seconds_at_least": seconds, "mfu_ceiling": ceiling,
            "mfu_convention": f"{CONVENTION} FLOPs / bfloat16 peak of {topology.chips} x TPU {chip.name}",
            "throughput_ceiling": positions(recipe) / seconds[bound],
            "unit": "tokens/s" if recipe.model.family == "decoder" else "images/s"}


# ---- side by side

def parity(results):
    """The backends side by side on each topology where both compile, with the differences above APART by operation."""
    found = []
    for keras in results:
        jax = next((other for other in results if other["backend"] == "jax" and all(
            other[key] == keras[key] for key in ("topology", "slices"))), None)
        if keras["backend"] != "keras" or jax is None or not (keras["compiles"] and jax["compiles"]):
            continue
        sides = {"jax": operations(jax), "keras": operations(keras)}
        lines = [{"figure": figure, "operation": operation, "jax": a, "keras": b, "difference": difference(a, b)}
                 for figure, operation in dict.fromkeys([*sides["jax"], *sides["keras"]])
                 for a, b in [tuple(side.get((figure, operation), 0) for side in sides.values())]]
        found.append({"topology": keras["topology"], "slices": keras["slices"], "operations": lines,
                      "differences": [line for line in lines if line["difference"] > APART]})
    return found


def operations(found):
    """{(figure, operation): value} of a row; each figure's total comes first."""
    memory = {part: found["memory"][part] for part in ("arguments", "temporaries", "code")}
    flops = found["flops_by_place"] | ({"attention kernels": found["kernel_flops_per_device"]}
                                       if found["kernel_flops_per_device"] else {})
    named = {"flops": {"all": found["flops_per_device"]} | flops,
             "passes of the matrix unit x flops": {"all": found["matrix_flops_per_device"]},
             "hbm bytes": {"all": found["hbm_bytes_per_device"]} | memory,
             "bytes moved": {"all": found["bytes_moved_per_device"]},
             "collectives": {}, "collective bytes": {},
             "fusions": {"all": found["fusions"]} | found["fusions_by_kind"]}
    for (kind, network), (count, size) in totals(found).items():
        named["collectives"][f"{kind} over {network}"] = count
        named["collective bytes"][f"{kind} over {network}"] = size
    return {(figure, operation): value for figure, values in named.items() for operation, value in values.items()}


def totals(found):
    """{(kind, network): (count, bytes)} of a row's collectives, over groups of all sizes."""
    added = {}
    for each in found.get("collectives") or ():
        count, size = added.get((each["kind"], each["network"]), (0, 0))
        added[each["kind"], each["network"]] = count + each["count"], size + each["bytes"]
    return added


def difference(a, b):
    """|a - b| as a share of the larger."""
    return abs(a - b) / max(abs(a), abs(b)) if a or b else 0.0


# ---- against an earlier one

def reduced(result):
    """What a golden keeps of a preflight.json."""
    rows = [{key: found[key] for key in ("backend", "topology", "slices", "compiles", "fits")} | {
        "collectives": [{"kind": kind, "network": network, "count": count, "bytes": size}
                        for (kind, network), (count, size) in sorted(totals(found).items())]}
            for found in result["results"]]
    return {"schema_version": SCHEMA_VERSION, "name": result["recipe"]["name"], "hash": result["hash"],
            "versions": {name: result["versions"].get(name) for name in ("jax", "tensorflow", "libtpu")},
            "results": rows}


def read_golden(path):
    """A golden; raises BadInput where the file is none."""
    try:
        golden = json.loads(Path(path).read_text())
        rows = [(found["backend"], found["topology"], found["slices"], found["compiles"], found["fits"])
                for found in golden["results"]]
    except OSError as error:
        raise BadInput(f"--check {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        rows = []
    if not rows or golden.get("schema_version") != SCHEMA_VERSION:
        raise BadInput(f"--check {path}: neither a {FILE} of schema_version {SCHEMA_VERSION} nor what --write-golden "
                       "makes")
    return golden


def compare_golden(golden, results):
    """Lines that say what is worse than in a golden. Raises BadInput where it has nothing to compare with."""
    earlier = {(found["backend"], found["topology"], found["slices"]): found for found in golden["results"]}
    worse = []
    for found in results:
        place = found["backend"], found["topology"], found["slices"]
        if place not in earlier:
            raise BadInput(f"--check: the golden says nothing of {found['backend']} on {found['topology']}; make one "
                           "with --write-golden")
        old, named = earlier[place], f"{found['backend']} on {found['topology']}"
        if old["compiles"] and not found["compiles"] and found["fits"] is not False:
            worse.append(f"{named} does not compile any more: {found['error']}")
        if old["fits"] and found["fits"] is False:
            worse.append(f"{named} does not fit any more: {gib(found['hbm_bytes_per_device'])} of "
                         f"{gib(found['hbm_capacity_bytes'])}")
        before = totals(old)
        for (kind, network), (count, size) in sorted(totals(found).items()) if found["compiles"] else ():
            counts, sizes = before.get((kind, network), (0, 0))
            if count > counts or size > sizes:
                worse.append(f"{named} communicates more: {kind} over {network} {counts} -> {count}, "
                             f"{sizes:,} -> {size:,} bytes a step")
    return worse


# ---- for people

def gib(size):
    """A size in bytes as text."""
    if size is None:
        return "–"
    unit, name = next((pair for pair in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if size >= pair[0]), (1, "B"))
    return f"{size / unit:.4g} {name}"


def show(result):
    """Prints the rows as a table on stdout, then what parts the backends, and what is worse than before."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = result["results"]
    table = Table(title=f"{result['recipe']['name']}: what the TPU's compiler says, for each chip",
                  title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", *(f"{row['backend']}, {row['topology']}" for row in rows)):
        table.add_column(column, overflow="fold")
    for name, cell in CELLS.items():
        cells = [cell(row) if row["compiles"] or name in ALWAYS else "–" for row in rows]
        if any(text != "–" for text in cells):
            table.add_row(name, *cells)
    console = Console(markup=False, highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(table)
    for found in rows:
        if found["error"]:
            console.print(f"{found['backend']}, {found['topology']}: {found['error']}")
    for backend, text in {found["backend"]: flags(found) for found in rows if found["xla_flags"]}.items():
        console.print(f"{backend}, XLA flags: {text}")
    kernels = any(found.get("kernels") for found in rows)
    for about in dict.fromkeys([*(found["backend"] for found in rows), "roofline", *["kernels"] * kernels]):
        console.print(f"{about}: {result['assumptions'][about]}")
    for beside in result["parity"]:
        lines = beside["differences"]
        console.print(f"{beside['topology']}: " + (
            f"the backends differ by more than {APART:.0%} in" if lines else f"the backends agree within {APART:.0%}"))
        for line in lines:
            console.print(f"  {line['figure']}, {line['operation']}: jax {line['jax']:,.0f}, keras "
                          f"{line['keras']:,.0f} ({line['difference']:.0%})")
    for text in (result["check"] or {}).get("worse", ()):
        console.print(f"worse: {text}")


def fits(found):
    if not found["compiles"] and found["fits"] is None:
        return "does not compile"
    spare = found["headroom_bytes"]
    return f"yes, {gib(spare)} spare" if found["fits"] else f"no, {gib(-spare)} too much"


def communicates(found):
    lines = [f"{kind} x {count}, {gib(size)}" + (" (between slices)" if network == "dcn" else "")
             for (kind, network), (count, size) in sorted(totals(found).items())]
    return "\n".join(lines) or "nothing"


def flags(found):
    return " ".join(f"{name}={value}".lower() for name, value in found["xla_flags"].items())


def seconds(found):
    names = {"compute": "compute", "hbm": "HBM", "interconnect": "interconnect", "dcn": "data-centre network"}
    taken = {name: found["seconds_at_least"][key] for key, name in names.items()}
    return "\n".join(f"{name} {1e3 * value:.3g} ms" for name, value in taken.items() if value)


ALWAYS = ("mesh", "fits", "HBM", "attention", "compile, s")
CELLS = {
    "mesh": lambda found: " x ".join(f"{axis} {n}" for axis, n in found["mesh"].items() if n > 1) or "one chip",
    "fits": fits,
    "HBM": lambda found: f"{gib(found['hbm_bytes_per_device'])} of {gib(found['hbm_capacity_bytes'])}",
    "  arguments": lambda found: gib(found["memory"]["arguments"]),
    "  temporaries": lambda found: gib(found["memory"]["temporaries"]),
    "  results beyond them": lambda found: gib(found["memory"]["output"] - found["memory"]["alias"]),
    "  code": lambda found: gib(found["memory"]["code"]),
    "attention": lambda found: found["attention"] or "–",
    "GFLOP a step": lambda found: f"{found['flops_per_device'] / 1e9:,.4g}",
    "bytes moved a step": lambda found: gib(found["bytes_moved_per_device"]),
    "collectives a step": communicates,
    "bytes a link a step": lambda found: gib(found["bytes_per_link"]),
    "fusions": lambda found: f"{found['fusions']:,}",
    "at least": seconds,
    "bound by": lambda found: found["bound"],
    "MFU, ceiling": lambda found: f"{found['mfu_ceiling']:.1%}",
    "throughput, ceiling": lambda found: f"{found['throughput_ceiling']:,.0f} {found['unit']}",
    "compile, s": lambda found: f"{found['compile_seconds']:.1f}"}
