"""Processes that compile a recipe's train step with the TPU's own compiler, where no TPU is."""

import importlib.util
import re
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from twinscale.benchmarks.output import tell
from twinscale.benchmarks.preflight.rows import row, title
from twinscale.benchmarks.workers import STARTUP, Worker
from twinscale.common import process
from twinscale.common.backends import BACKENDS, module_of, on_jax
from twinscale.common.data.shapes import batch_shapes
from twinscale.common.errors import MissingEnvironment, TwinscaleError, need
from twinscale.common.files.access import escaped_lines
from twinscale.common.machine.topology import LIBTPU, Topology, library_version, numbers, too_old
from twinscale.common.recipe.schema import AXES, Recipe

STACK = r"\s+@ |PC: @|https://symbolize|[EFIW]\d{4} "  # lines that the compiler's crash handler adds to its first
LOWERS = {name: f"{module_of(name)}.lower" for name in BACKENDS}
# What compiles: of a program on TensorFlow JAX does, what that has lowered.
COMPILES = {name: LOWERS[name if on_jax(name) else "jax"] for name in BACKENDS}
# The compiler is loaded by hand and asks nobody where it runs; what the names of a host say is taken from the topology.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
               "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0",
               "TPU_LOG_DIR": "disabled"}


# ---- what must be installed

def find_libtpu(environment: Mapping[str, str]) -> Path:
    """The path of libtpu.so: that of TPU_LIBRARY_PATH, of the package, or of one that is kept `beside` the packages.
    Raises MissingEnvironment where there is none."""
    if given := environment.get("TPU_LIBRARY_PATH"):
        if Path(given).is_file():
            return Path(given)
        raise MissingEnvironment(f"TPU_LIBRARY_PATH={given}: no such file")
    package = importlib.util.find_spec("libtpu")
    places = [Path(package.origin).parent] if package and package.origin else []
    for place in (*places, beside() / "libtpu"):
        if (place / "libtpu.so").is_file():
            return place / "libtpu.so"
    raise MissingEnvironment("libtpu, which holds the TPU's compiler, is not installed: pip install --no-deps "
                             f"--target {beside()} '{libtpu_of_jax()}'")


def check_libtpu(topologies: Iterable[Topology], library: Path) -> None:
    """Raises MissingEnvironment where a libtpu is too old for a chip: of a large step its compiler was not seen
    to end."""
    there = library_version(library)
    for topology in topologies:
        if wanted := too_old(topology.chip, there):
            raise MissingEnvironment(f"--topology {topology.name}: libtpu {there} is too old for {topology.chip.kind}, "
                                     f"where a decoder's compile was not seen to end; it takes {wanted} or newer: pip "
                                     f"install --no-deps --upgrade --target {beside()} '{libtpu_of_jax()}', as `make "
                                     "preflight` does")


def beside() -> Path:
    """Where a libtpu is kept that is not among the packages, for where JAX finds it, it looks for a TPU and
    complains."""
    return Path(sys.prefix) / "libtpu"


def libtpu_of_jax() -> str:
    """The requirement of the libtpu that belongs to the JAX that is installed, or of the first that compiles for every
    chip where that is newer."""
    try:
        wanted = metadata.requires("jax") or ()
    except metadata.PackageNotFoundError:
        wanted = ()
    named = [each.partition(";")[0].strip().removeprefix("libtpu==") for each in wanted if re.match(r"libtpu==", each)]
    return f"libtpu=={max([*named, *LIBTPU.values()], key=numbers)}"


def check_packages(backends: Iterable[str]) -> None:
    """Raises MissingEnvironment where a backend is not installed; JAX asks the compiler for all."""
    for backend in dict.fromkeys(["jax", *backends]):
        need(*BACKENDS[backend].needs)


# ---- compile

class Side:
    """What compiles one backend's steps: processes that are started when first needed. A context that ends them.

    Args:
      library: path of libtpu.so.
      folder: where modules lie on their way.
      data: (classes, example_shape).
    """

    def __init__(self, backend: str, library: Path, folder: Path, data: tuple[int, tuple[int, ...]]) -> None:
        self.backend, self.library, self.folder, self.data = backend, library, folder, data
        self.lowers: Worker | None = None
        self.compiles: Compiler | None = None
        self.lowered: tuple[str, Any] | None = None  # (hash of the recipe, what the lowering said) of the last

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in (self.lowers, self.compiles):
            if worker:
                worker.close()
        self.lowers = self.compiles = None

    def row(self, recipe: Recipe, topology: Topology) -> dict[str, Any]:
        """The figures of a step on a topology; see `benchmarks.preflight.rows.row`. The recipe is a `placed` one."""
        classes, example_shape = self.data
        shape = {"classes": classes, "example_shape": example_shape, "batch": batch_shapes(recipe, example_shape)}
        module, asked, call, seconds = self.folder / f"{self.backend}.txt", shape, "compile_step", 0.0
        if self.backend == "keras":
            lowered = self.folder / "keras.hlo"
            found = self.lower(recipe, shape, lowered)
            call, asked, seconds = "compile_module", {"lowered": lowered, "rows": found["rows"]}, found["seconds"]
        self.compiles = self.compiles or open_compiler(self.backend, self.library)
        try:
            report = self.compiles.ask(call, recipe, **asked, options=topology.options, module=module)
        except TwinscaleError:
            if self.compiles.process.poll() is None:
                raise
            report = died(recipe, self.compiles.process.returncode)
            self.compiles.close()
            self.compiles = None
        report["lower_seconds"] += seconds
        text = module.read_text() if report["compiles"] else None
        return row(recipe, classes, example_shape, self.backend, topology, report, text)

    def lower(self, recipe: Recipe, shape: Mapping[str, Any], lowered: Path) -> dict[str, Any]:
        """What TensorFlow says of a step that it lowered; a step of another mesh is the same to it."""
        if self.lowered is None or self.lowered[0] != recipe.hash:
            self.lowers = self.lowers or Worker("keras", None, LOWERS["keras"])
            tell("keras", "lowers the step")
            self.lowered = recipe.hash, self.lowers.ask("lower", recipe, **shape, lowered=lowered)
        return self.lowered[1]


def compile_all(jobs: Sequence[tuple[str, Topology, Recipe]], library: Path, folder: Path,
                data: tuple[int, tuple[int, ...]]) -> list[dict[str, Any]]:
    """A row for each job (backend, topology, placed recipe) in order, the backends side by side."""
    def side(backend):
        mine = folder / backend
        mine.mkdir()
        with Side(backend, library, mine, data) as compiling:
            rows = []
            for name, topology, recipe in jobs:
                if name == backend:
                    tell(backend, f"compiles for {title(topology)}")
                    rows.append(compiling.row(recipe, topology))
        return rows

    backends = list(dict.fromkeys(backend for backend, _, _ in jobs))
    with deep_stack(), ThreadPoolExecutor(len(backends)) as pool:
        rows = dict(zip(backends, map(iter, pool.map(side, backends)), strict=True))
    return [next(rows[backend]) for backend, _, _ in jobs]


def open_compiler(backend: str, library: Path) -> "Compiler":
    """A process that compiles a backend's steps with a libtpu."""
    return Compiler(backend, {**ENVIRONMENT, "TPU_LIBRARY_PATH": str(library)}, COMPILES[backend])


class Compiler(Worker):
    """A process that compiles. Of a crash's stack it hands on no line but the first."""

    def forward(self) -> None:
        """What the process says, on our stderr under its name."""
        for line in self.process.stderr:
            if line.strip() and not line.startswith(STARTUP) and not re.match(STACK, line) and (
                    not process.ENDING.is_set()):
                print(f"{self.backend:>5}  {escaped_lines(line)}", end="", file=sys.stderr, flush=True)


@contextmanager
def deep_stack() -> Iterator[None]:
    """While open, processes start with as deep a stack as this one may give: the compiler recurses, and for a small
    convnet on v6e runs out of the usual 8 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def died(recipe: Recipe, code: int | None) -> dict[str, Any]:
    """The report of a compiler that crashed."""
    mesh = {axis: getattr(recipe.devices, axis) for axis in AXES}
    return {"compiles": False, "error": f"the compiler died with exit code {code}", "over_bytes": None,
            "capacity_bytes": None, "memory": None, "compiler_flops": None, "mesh": mesh, "kind": None,
            "xla_flags": {}, "lower_seconds": 0.0, "compile_seconds": 0.0}
