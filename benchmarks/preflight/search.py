"""The largest global batch that fits a slice, over meshes, remat policies and accumulation; each candidate is compiled
with the TPU's own compiler, and so is one batch larger, which does not fit.

    twinscale preflight recipes/tpu/decoder-1b.toml --topology v5e:4x4 --search --out build/search
"""

import functools
import hashlib
import itertools
import json
import os
import queue
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.preflight import check_out, placed, uncompressed
from benchmarks.preflight.compilers import Side, check_packages, deep_stack, find_libtpu, library_version
from benchmarks.preflight.words import show_search
from common.data.cache import cache_dir, key
from common.data.shapes import data_shape
from common.doctor import versions
from common.errors import DID_IT, NO, BadInput
from common.parameters import parameters, trained_size
from common.progress import counting
from common.recipe import master_dtype
from common.recipe_file import did_you_mean
from common.run import plain, write_json, write_text
from common.topology import parse

SCHEMA_VERSION = 1
FILE, PATCH = "search.json", "patch.toml"
REMATS = ("full", "dots", "none")  # from the one that keeps least
MOST = 4096  # rows of a share of a micro-batch that are tried at most
PROCESS = 3 * 2**30  # bytes that a compiler may take
SLOTS = {"adamw": 2, "lamb": 2, "lion": 1, "sgd": 1}
SHOWN = ("global_batch", "hbm_bytes_per_device", "hbm_capacity_bytes", "error")  # of what is one batch too large
ROOMS = ("common", "jaxscale", "tfscale", "benchmarks/preflight")  # whose sources decide what a compile says


def search(recipe, out, *, topologies, slices=1, backend="jax", remats=None, accumulations=None, fsdp=None, tensor=None,
           jobs=None, as_json=False, overwrite=False):
    """Compiles, prints a ranked table and writes `out`/search.json and patch.toml; returns the exit code: 0 something
    fits, else 1. Equal input gives equal answers, whatever `jobs`.

    Args:
      recipe: the validated recipe; its global batch and what is searched over are replaced.
      topologies: one name.
      remats, accumulations, fsdp, tensor: what is tried, by default every policy, the recipe's accumulation, and all
        sizes that divide the chips.
      jobs: processes at once; by default as many as there are cores and memory for.
    Raises BadInput, MissingEnvironment before anything is compiled or written.
    """
    check_out(out, FILE, overwrite)
    if len(topologies) != 1:
        raise BadInput("--search: wants one --topology, such as --topology v5e:4x4")
    recipe, topology = uncompressed(recipe), parse(topologies[0], slices)
    data = data_shape(recipe)
    chains = candidates(recipe, topology, backend, remats, accumulations, fsdp, tensor)
    library = find_libtpu(os.environ)
    check_packages((backend,))
    jobs = min(len(chains), jobs or at_once())
    facts = {"backend": backend, "topology": topology.name, "slices": slices, "libtpu": library_version(library)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(deep_stack())
        sides, advance = queue.SimpleQueue(), stack.enter_context(counting(sum(map(len, chains)), "search"))
        for number in range(jobs):
            mine = Path(folder) / str(number)
            mine.mkdir()
            sides.put(stack.enter_context(Side(backend, library, mine, data)))
        with ThreadPoolExecutor(jobs) as pool:
            found = list(pool.map(lambda chain: climb(chain, topology, data, facts, sides, advance), chains))
    ranked = sorted(itertools.chain(*found), key=rank)
    best = ranked[0] if ranked[0]["global_batch"] else None
    result = {"schema_version": SCHEMA_VERSION, "recipe": recipe.model_dump(mode="json"), "hash": recipe.hash, **facts,
              "versions": versions(), "candidates": ranked, "patch": patch(best) if best else None}
    write_json(out / FILE, result)
    if best:
        write_text(out / PATCH, result["patch"])
    if as_json:
        print(json.dumps(plain(result), indent=2))
    else:
        show_search(result)
    return DID_IT if best else NO


# ---- what is tried

def candidates(recipe, topology, backend, remats, accumulations, fsdp, tensor):
    """Lists of recipes that differ by their remat policy alone, the one that keeps least first; each has the smallest
    batch that its mesh can share. Raises BadInput where nothing can be laid out so."""
    known = (*REMATS, "offload")
    for policy in remats or ():
        if policy not in known:
            raise BadInput(f"--remat {policy}: no such policy; there are {', '.join(known)}"
                           + did_you_mean(policy, known))
    chips = topology.chips // topology.slices
    divisors = [n for n in range(1, chips + 1) if chips % n == 0]
    meshes = [(1, 1)] if backend == "keras" else [
        (f, t) for f in fsdp or divisors for t in tensor or divisors if chips % (f * t) == 0]
    policies = [policy for policy in known if policy in (remats or REMATS)]
    if backend == "keras" or recipe.model.family != "decoder":
        policies = [recipe.jax.remat]
    chains, refusals = [], []
    for (f, t), accumulate in itertools.product(meshes, accumulations or [recipe.train.accumulate]):
        shares = topology.chips // (t * recipe.devices.sequence)
        try:
            chains.append([placed(recipe.with_values(
                train={"global_batch": shares * accumulate, "accumulate": accumulate}, jax={"remat": policy},
                devices={"data": 0, "fsdp": f, "tensor": t, "replica": 1}), topology, backend) for policy in policies])
        except BadInput as error:
            refusals.append(str(error))
    if not chains:
        raise BadInput(refusals[0] if refusals else f"--search: no mesh of these sizes divides {topology.name}")
    return chains


def at_once():
    """Processes for which there are cores and memory."""
    return max(1, min(len(os.sched_getaffinity(0)), psutil.virtual_memory().available // PROCESS))


# ---- how much fits

def climb(chain, topology, data, facts, sides, advance):
    """What `largest` finds for each recipe of a chain; one that keeps more fits no larger a batch than one that keeps
    less, which saves half of the compiles."""
    side = sides.get()
    try:
        found, most = [], MOST
        for smallest in chain:
            step = smallest.train.global_batch
            tried = {}

            def measure(rows, smallest=smallest, step=step, tried=tried):
                recipe = smallest.with_values(train={"global_batch": rows * step})
                tried[rows] = kept(recipe, topology, facts, lambda: side.row(recipe, topology))
                return tried[rows]

            floor = least_bytes(smallest, data)
            if floor > topology.chip.hbm_bytes:
                best, why = 0, f"its weights and slots alone take {floor:,} bytes"
            else:
                best, why = largest(measure, most) if most else (0, "what keeps less does not fit either")
            found.append(candidate(smallest, best, tried, why))
            most = best
            advance()
        return found
    finally:
        sides.put(side)


def largest(measure, most):
    """(the largest number of rows up to `most` that fits, 0 where none does; why no more, where nothing says so).

    `measure(rows)` is a row of preflight.json. Memory grows by so much a row, nearly: the next guess lies where the
    last two say that the chip is full, and in the middle where such guesses do not halve what is left.
    """
    fits, over, seen, width = 0, most + 1, [], None
    while over - fits > 1:
        halved = width is None or over - fits <= width / 2
        rows = guess(seen, fits, over) if halved or over > most else (fits + over) // 2
        width = over - fits
        found = measure(rows)
        if found["hbm_bytes_per_device"]:
            seen.append((rows, found["hbm_bytes_per_device"], found["hbm_capacity_bytes"]))
        if found["fits"]:
            fits = rows
        else:
            over = rows
    if over <= most:
        return fits, None
    return fits, "what keeps less has no room for more" if most < MOST else "no more was tried"


def guess(seen, fits, over):
    """Where two measures (rows, bytes, capacity) say that the chip is full, within (fits, over)."""
    if len(seen) < 2:
        return fits + 1
    (a, used_a, _), (b, used_b, capacity) = seen[-2:]
    grows = (used_b - used_a) / (b - a)
    full = b + int((capacity - used_b) // grows) if grows > 0 else 2 * max(a, b)
    return min(max(full, fits + 1), over - 1, 8 * max(1, fits))


def least_bytes(recipe, data):
    """Bytes of a chip that weights and slots take if each is split as far as the mesh could."""
    width = 8 if master_dtype(recipe) == "float64" else 4
    copies = 1 + SLOTS[recipe.optimizer.name] * (recipe.optimizer.name != "sgd" or recipe.optimizer.momentum > 0) + (
        recipe.optimizer.ema > 0)
    shares = recipe.devices.fsdp * recipe.devices.tensor
    return width * copies * trained_size(parameters(recipe.model, *data)) // shares


def candidate(smallest, best, tried, why):
    """What search.json says of a recipe: its largest batch, and one step more."""
    step, over = smallest.train.global_batch, tried.get(best + 1)
    devices = smallest.devices
    return {"mesh": {"data": devices.data, "fsdp": devices.fsdp, "tensor": devices.tensor},
            "remat": smallest.jax.remat, "accumulate": smallest.train.accumulate, "step": step,
            "global_batch": best * step, "row": tried.get(best), "compiles": len(tried), "why": why,
            "over": over and {name: over.get(name) for name in SHOWN} | {"global_batch": (best + 1) * step}}


def rank(found):
    """What sorts candidates: the largest batch first, then the highest ceiling, then the fewest cuts."""
    ceiling = found["row"]["throughput_ceiling"] if found["row"] else 0
    return (-found["global_batch"], -ceiling, found["accumulate"], found["mesh"]["tensor"], found["mesh"]["fsdp"],
            REMATS.index(found["remat"]) if found["remat"] in REMATS else len(REMATS))


def patch(found):
    """What a candidate changes in a recipe, as TOML."""
    lines = ["[train]", f"global_batch = {found['global_batch']}", f"accumulate = {found['accumulate']}"]
    if found["row"]["backend"] == "jax":
        lines += ["", "[jax]", f'remat = "{found["remat"]}"']
    lines += ["", "[devices]", "data = 0", *(f"{axis} = {found['mesh'][axis]}" for axis in ("fsdp", "tensor"))]
    return "\n".join(lines) + "\n"


# ---- what was compiled before

def kept(recipe, topology, facts, compiled):
    """The row of an earlier search for an equal recipe by equal code, else `compiled()`, which is kept."""
    described = recipe.model_dump(mode="json", exclude={"name"})
    path = cache_dir() / "preflight" / f"{key(described, sources(), facts)}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        pass
    found = compiled()
    if found["compiles"] or found["fits"] is False:  # not a compiler's crash, which may be of the moment
        write_json(path, found)
    return found


@functools.cache
def sources():
    """SHA-256 (hex) of the project's own code that lowers, compiles and counts."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
