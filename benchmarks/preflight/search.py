"""The largest global batch that fits a slice, over meshes, remat policies and accumulation, by compiling.

    twinscale preflight recipes/tpu/decoder-1b.toml --topology v5e:4x4 --search --out build/search

The TPU's compiler refuses in seconds what is far too large, and says how much it takes; what fits takes it minutes. So
every candidate is estimated from above first. The most promising are then settled: a batch that fits and one step more
that does not are both compiled, until no estimate is left above the best batch that was settled.
"""

import functools
import hashlib
import itertools
import math
import os
import queue
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, NotRequired

import psutil
from typing_extensions import TypedDict

from twinscale.benchmarks.output import check_files
from twinscale.benchmarks.preflight import placed, uncompressed
from twinscale.benchmarks.preflight.compilers import Side, check_libtpu, check_packages, deep_stack, find_libtpu
from twinscale.benchmarks.preflight.words import show_search
from twinscale.benchmarks.results import Search
from twinscale.common.backends import on_jax
from twinscale.common.data.cache import cache_dir, key
from twinscale.common.data.shapes import data_shape
from twinscale.common.errors import DID_IT, NO, BadInput
from twinscale.common.families import traits_of
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.files.access import read_json, write_json, write_text
from twinscale.common.files.kinds import STRICT, Backend, Count, Number
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.machine.doctor import versions
from twinscale.common.machine.topology import Topology, library_version, parse
from twinscale.common.optimizers import described
from twinscale.common.recipe.file import did_you_mean
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.common.training.progress import counting

SCHEMA_VERSION = 1
FILE, PATCH = "search.json", "patch.toml"
KEYS = ("schema_version", "candidates", "patch")
REMATS = ("none", "dots", "full")
MOST = 4096  # rows of a share of a micro-batch that are tried at most
FIRST = 64  # that are tried first
TOP = 4  # candidates that are settled at once
PROCESS = 3 * 2**30  # bytes that a compiler may take
SHOWN = ("global_batch", "hbm_bytes_per_device", "hbm_capacity_bytes", "error")  # of what is one batch too large
ROOMS = ("common", "jaxscale", "tfscale", "benchmarks/preflight")  # whose sources decide what a compile says


@dataclass(frozen=True)
class Asked:
    """What is searched over.

    topologies: one name.
    remats, accumulations, fsdp, tensor: what is tried, by default every policy, the recipe's accumulation, and all
      sizes that divide the chips.
    jobs: processes at once; by default as many as there are cores and memory for.
    """

    topologies: Sequence[str]
    slices: int = 1
    backend: str = "jax"
    remats: Sequence[str] | None = None
    accumulations: Sequence[int] | None = None
    fsdp: Sequence[int] | None = None
    tensor: Sequence[int] | None = None
    jobs: int | None = None


class Bench(NamedTuple):
    """On what candidates are compiled: `sides` are free to take, each by one thread of the pool."""

    topology: Topology
    data: tuple[int, tuple[int, ...]]
    facts: Mapping[str, Any]
    sides: SimpleQueue
    pool: ThreadPoolExecutor


def search(recipe: Recipe, out: Path, *, as_json: bool = False, overwrite: bool = False, **given: Any) -> int:
    """Compiles what is `given` for the fields of Asked, prints a ranked table and writes `out`/search.json and
    patch.toml; returns the exit code: 0 something fits, else 1. Equal input gives equal answers, whatever `jobs`.

    `recipe` is validated; its global batch and what is searched over are replaced. Raises BadInput, MissingEnvironment
    before anything is compiled or written.
    """
    asked = Asked(**given)
    check_files(out, [FILE, PATCH], KEYS, overwrite)
    if len(asked.topologies) != 1:
        raise BadInput("--search: wants one --topology, such as --topology v5e:4x4")
    recipe, topology, backend = uncompressed(recipe), parse(asked.topologies[0], asked.slices), asked.backend
    data = data_shape(recipe)
    tried = [Candidate(smallest) for smallest in candidates(recipe, topology, asked)]
    library = find_libtpu(os.environ)
    check_libtpu([topology], library)
    check_packages((backend,))
    jobs = min(len(tried), asked.jobs or at_once())
    facts = {"backend": backend, "topology": topology.name, "slices": asked.slices, "libtpu": library_version(library)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(deep_stack())
        sides = queue.SimpleQueue()
        for number in range(jobs):
            mine = Path(folder) / str(number)
            mine.mkdir()
            sides.put(stack.enter_context(Side(backend, library, mine, data)))
        bench = Bench(topology, data, facts, sides, stack.enter_context(ThreadPoolExecutor(jobs)))
        explore(tried, lambda work, some, what: spread(work, some, what, bench))
    ranked = [found.said() for found in sorted(tried, key=rank)]
    best = ranked[0] if ranked[0]["settled"] and ranked[0]["global_batch"] else None
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "recipe": recipe.model_dump(mode="json"), "hash": recipe.hash, **facts,
        "versions": versions(), "candidates": ranked, "patch": patch(best) if best else None}
    write_result(out / FILE, Search, result)
    if best:
        write_text(out / PATCH, result["patch"])
    answer(result, show_search, as_json)
    return DID_IT if best else NO


# ---- what is tried

def candidates(recipe: Recipe, topology: Topology, asked: Asked) -> list[Recipe]:
    """Recipes, each with the smallest batch that its mesh can share. Raises BadInput where nothing can be laid out."""
    known, backend = (*REMATS, "offload"), asked.backend
    for policy in asked.remats or ():
        if policy not in known:
            raise BadInput(f"--remat {policy}: no such policy; there are {', '.join(known)}"
                           + did_you_mean(policy, known))
    within = topology.devices // topology.slices
    divisors = [n for n in range(1, within + 1) if within % n == 0]
    meshes = [(1, 1)] if backend == "keras" else [
        (f, t) for f in asked.fsdp or divisors for t in asked.tensor or divisors if within % (f * t) == 0]
    policies = [policy for policy in known if policy in (asked.remats or REMATS)]
    if backend == "keras" or not traits_of(recipe.model).blocks:
        policies = [recipe.jax.remat]
    found, refusals = [], []
    accumulations = asked.accumulations or [recipe.train.accumulate]
    for (f, t), accumulate, policy in itertools.product(meshes, accumulations, policies):
        shares = topology.devices // (t * recipe.devices.sequence)
        try:
            found.append(placed(recipe.with_values(
                train={"global_batch": shares * accumulate, "accumulate": accumulate}, jax=remat(recipe, policy),
                devices={"data": 0, "fsdp": f, "tensor": t, "replica": 1}), topology, backend))
        except BadInput as error:
            refusals.append(str(error))
    if not found:
        raise BadInput(refusals[0] if refusals else f"--search: no mesh of these sizes divides {topology.name}")
    return found


def remat(recipe: Recipe, policy: str) -> dict[str, Any]:
    """What [jax] says under a policy: places that are kept by name are so under "full" alone."""
    return {"remat": policy} | ({} if policy == "full" else {"remat_save": (), "remat_offload": ()})


def at_once() -> int:
    """Processes for which there are cores and memory."""
    return max(1, min(len(os.sched_getaffinity(0)), psutil.virtual_memory().available // PROCESS))


# ---- how much fits

class Candidate:
    """A recipe whose batch is sought: `rows` of a share of a micro-batch, at most or, before it is settled, about."""

    def __init__(self, smallest: Recipe) -> None:
        self.smallest, self.step = smallest, smallest.train.global_batch
        self.tried: dict[int, Any] = {}
        self.rows: Any = None  # until it is estimated
        self.why: str | None = None
        self.settled = False

    @property
    def global_batch(self) -> int:
        """Rows of the whole batch."""
        return self.rows * self.step

    def measure(self, rows: int, topology: Topology, facts: Mapping[str, Any], side: Side) -> Mapping[str, Any]:
        """The row of so many rows, which is compiled where it is not known."""
        if rows not in self.tried:
            recipe = self.smallest.with_values(train={"global_batch": rows * self.step})
            self.tried[rows] = kept(recipe, topology, facts, lambda: side.row(recipe, topology))
        return self.tried[rows]

    def said(self) -> dict[str, Any]:
        """What search.json says of it."""
        devices, over = self.smallest.devices, self.tried.get(self.rows + 1)
        return {"mesh": {axis: getattr(devices, axis) for axis in ("data", "fsdp", "tensor")},
                "remat": self.smallest.jax.remat, "accumulate": self.smallest.train.accumulate, "step": self.step,
                "global_batch": self.global_batch, "settled": self.settled, "row": self.tried.get(self.rows),
                "over": over and {name: over.get(name) for name in SHOWN} | {
                    "global_batch": self.global_batch + self.step}, "compiles": len(self.tried), "why": self.why}


def explore(tried: Sequence[Candidate], each: Callable[..., None]) -> None:
    """Estimates all candidates, then settles the most promising, TOP at once, until none that is left could be
    better: `each(work, candidates, what)` does the work of some candidates side by side."""
    each(estimate, tried, "estimates")
    while True:
        best = max((found.global_batch for found in tried if found.settled), default=0)
        left = sorted((found for found in tried if not found.settled and found.global_batch >= best), key=rank)
        if not left:
            return
        each(settle, left[:TOP], "settles")


def spread(work: Callable[..., None], some: Sequence[Candidate], what: str, bench: Bench) -> None:
    """Does the work of some candidates, each with a side of its own."""
    with counting(len(some), what) as advance:

        def one(found):
            side, topology = bench.sides.get(), bench.topology
            try:
                work(found, lambda rows: found.measure(rows, topology, bench.facts, side), topology.chip.hbm_bytes,
                     bench.data)
            finally:
                bench.sides.put(side)
            advance()

        list(bench.pool.map(one, some))


def estimate(found: Candidate, measure: Callable[[int], Mapping[str, Any]], capacity: int,
             data: tuple[int, tuple[int, ...]]) -> None:
    """Sets a candidate's rows to about what fits, from what is too large; settles what cannot fit at all."""
    floor = least_bytes(found.smallest, data)
    if floor > capacity:
        found.rows, found.settled, found.why = 0, True, f"weights and slots alone: {floor / 2**30:.4g} GiB"
        return
    rows = FIRST
    while rows < MOST and measure(rows)["fits"]:
        rows = min(4 * rows, MOST)
    found.rows = MOST if rows == MOST and measure(rows)["fits"] else full(rows, measure)


def full(over: int, measure: Callable[[int], Mapping[str, Any]]) -> int:
    """The rows at which the chip is full on the line through `over` rows, too many, and half of them; 0 where not
    even one fits."""
    half = over // 2
    a, b = measure(half), measure(over)
    if not (a["hbm_bytes_per_device"] and b["hbm_bytes_per_device"]):
        return half
    grows = (b["hbm_bytes_per_device"] - a["hbm_bytes_per_device"]) / (over - half)
    spare = b["hbm_capacity_bytes"] - a["hbm_bytes_per_device"]
    rows = half + math.floor(spare / grows) if grows > 0 else half
    least = half if a["fits"] else 1
    rows = min(max(rows, least), over - 1)
    return 0 if rows == 1 and not measure(1)["fits"] else rows


def settle(found: Candidate, measure: Callable[[int], Mapping[str, Any]], capacity: int,
           data: tuple[int, tuple[int, ...]]) -> None:
    """Finds a candidate's largest rows: they fit and one more does not, both compiled, but for 0 and MOST."""
    found.rows, found.settled = largest(measure, found.tried, found.rows), True
    found.why = "no more was tried" if found.rows == MOST else None


def largest(measure: Callable[[int], Mapping[str, Any]], tried: Mapping[int, Mapping[str, Any]], guess: int) -> int:
    """The largest number of rows up to MOST that fits, 0 where none does, with what was `tried` and a guess."""
    while True:
        fits = max((rows for rows, found in tried.items() if found["fits"]), default=0)
        over = min((rows for rows, found in tried.items() if not found["fits"] and rows > fits), default=MOST + 1)
        if over - fits == 1:
            return fits
        measure(next(rows for rows in (guess + 1, guess, (fits + over) // 2) if fits < rows < over))


def least_bytes(recipe: Recipe, data: tuple[int, tuple[int, ...]]) -> int:
    """Bytes of a chip that weights and slots take if each is split as far as the mesh could."""
    width = 8 if master_dtype(recipe) == "float64" else 4
    o = recipe.optimizer
    kept = 0 if described(o).theirs else len(described(o).slots(o))  # a user's own may keep none
    others = kept * (not recipe.jax.offload_optimizer) + (o.ema > 0)
    shares = recipe.devices.fsdp * recipe.devices.tensor
    again = max(1, recipe.devices.data) if recipe.jax.shard_optimizer else 1  # that share what is no weight
    return width * (again + others) * trained_size(parameters(recipe.model, *data)) // (shares * again)


def rank(found: Candidate) -> tuple[Any, ...]:
    """What sorts candidates: the largest batch first, then the highest ceiling, then the fewest cuts."""
    row, devices = found.tried.get(found.rows), found.smallest.devices
    ceiling = row["throughput_ceiling"] if row and row["compiles"] else 0
    return (-found.global_batch, not found.settled, -ceiling, found.smallest.train.accumulate, devices.tensor,
            devices.fsdp, (*REMATS, "offload").index(found.smallest.jax.remat))


def patch(found: Mapping[str, Any]) -> str:
    """What a candidate changes in a recipe, as TOML."""
    lines = ["[train]", f"global_batch = {found['global_batch']}", f"accumulate = {found['accumulate']}"]
    if on_jax(found["row"]["backend"]):
        lines += ["", "[jax]", f'remat = "{found["remat"]}"']
    lines += ["", "[devices]", "data = 0", *(f"{axis} = {found['mesh'][axis]}" for axis in ("fsdp", "tensor"))]
    return "\n".join(lines) + "\n"


# ---- what was compiled before

class Found(TypedDict):
    """A row that was compiled before, as far as a search reads it."""

    __pydantic_config__ = STRICT

    backend: Backend
    compiles: bool
    fits: bool | None
    error: str | None
    hbm_bytes_per_device: Count | None
    hbm_capacity_bytes: Count
    headroom_bytes: NotRequired[int | None]
    throughput_ceiling: NotRequired[Number | None]


def kept(recipe: Recipe, topology: Topology, facts: Mapping[str, Any], compiled: Callable[[], Mapping[str, Any]]
         ) -> Mapping[str, Any]:
    """The row of an earlier search for an equal recipe by equal code, else `compiled()`, which is kept."""
    described = recipe.model_dump(mode="json", exclude={"name"})
    path = cache_dir() / "preflight" / f"{key(described, sources(), facts)}.json"
    with suppress(BadInput):  # which may be there, and whole
        return read_json(path, Found)
    found = compiled()
    if found["compiles"] or found["fits"] is False:  # not a compiler's crash, which may be of the moment
        write_json(path, found)
    return found


@functools.cache
def sources() -> str:
    """SHA-256 (hex) of the project's own code that lowers, compiles and counts."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
