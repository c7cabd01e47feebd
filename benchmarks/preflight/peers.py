"""Steps of others beside ours in a preflight: compiled in an environment of their own, counted by the same account.

A peer is a process (`benchmarks/peers/`) of this Python where it has what the peer imports, or else of the environment
that `make peers-tpu` makes, or of the one that TWINSCALE_PEERS_TPU names.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinscale.benchmarks.output import tell
from twinscale.benchmarks.preflight.compilers import ENVIRONMENT, deep_stack, died
from twinscale.benchmarks.preflight.maxtext import job
from twinscale.benchmarks.preflight.rows import attention, row, title
from twinscale.benchmarks.timing.peers import python_of as python_elsewhere
from twinscale.common import process
from twinscale.common.errors import BadInput, TwinscaleError, one_of
from twinscale.common.machine.refused import refusal
from twinscale.common.machine.topology import Topology
from twinscale.common.recipe.schema import Recipe

# {peer: (its module, what that imports, what it is asked of a recipe)}
PEERS = {"maxtext-compile": ("maxtext_compile", ("maxtext", "libtpu"), job)}
VARIABLE, ELSEWHERE = "TWINSCALE_PEERS_TPU", ".venv-peers-tpu/bin/python"
DECIDE = ("jax", "libtpu")  # whose versions decide what a step compiles to
FIGURES = {"HBM": "hbm_bytes_per_device", "bytes sent": "bytes_sent_per_device", "bytes a link": "bytes_per_link",
           "FLOPs": "flops_per_device"}

Asked = tuple[str, list[str], Topology, Recipe, Mapping[str, Any]]  # peer, command, topology, placed recipe, job


def planned(names: Sequence[str], jobs: Sequence[tuple[str, Topology, Recipe]], classes: int) -> list[Asked]:
    """What peers are to compile, of what we do: `jobs` are (backend, topology, placed recipe).

    Raises BadInput for a name that is no peer's, or a recipe that it has not; MissingEnvironment where no Python has
    what it imports.
    """
    found = []
    for name in dict.fromkeys(filter(None, names)):
        module, imports, asked = one_of(PEERS, name, "--peers")
        ours = [(topology, recipe) for backend, topology, recipe in jobs if backend == "jax"]
        if not ours:
            raise BadInput(f"--peers {name}: it stands beside a step of JAX, and --backend keras has none: take "
                           "--backend jax")
        given = [asked(recipe, classes, topology, attention(recipe, "jax")) for topology, recipe in ours]
        command = [python_of(name, imports), "-P", "-m", f"twinscale.benchmarks.peers.{module}"]
        found += [(name, command, *each, wanted) for each, wanted in zip(ours, given, strict=True)]
    return found


def python_of(name: str, imports: Sequence[str]) -> str:
    """A Python that has what a peer imports. Raises MissingEnvironment with how one is made."""
    return python_elsewhere(name, imports, VARIABLE, ELSEWHERE, "peers-tpu")


# ---- compile

def compiled_by(asked: Sequence[Asked], results: Sequence[Mapping[str, Any]], here: Mapping[str, str | None],
                data: tuple[int, tuple[int, ...]], folder: Path) -> list[dict[str, Any]]:
    """A row of each step that a peer is asked for, as our rows, with the versions that made it and what ours has of it.

    Args:
      results: our rows, of the same topologies.
      here: our versions; data: (classes, example_shape); folder: where modules lie on their way.
    """
    found = []
    for name, command, topology, recipe, given in asked:
        tell(name, f"compiles for {title(topology)}")
        module = folder / f"{name}.txt"
        report = answered(name, command, {**given, "module": str(module)}, recipe)
        text = module.read_text() if report["compiles"] else None
        theirs = row(recipe, *data, "jax", topology, report, text) | {"peer": name, "versions": report["versions"]}
        ours = next(each for each in results if each["backend"] == "jax" and (each["topology"], each["slices"]) == (
            topology.name, topology.slices))
        theirs["attention"] = kernel(theirs)
        found.append(theirs | {"ours_over_theirs": ratios(ours, theirs), "other_versions": others(theirs, here)})
    return found


def answered(name: str, command: Sequence[str], given: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """A peer's report as `jaxscale.lower.compiled_as` has it, and its versions. Raises TwinscaleError, with the last
    line that it said, where it answers nothing, for reasons that are not its compiler's."""
    environment = os.environ | process.QUIET | ENVIRONMENT | {"PYTHONPATH": str(process.ROOT)}
    environment.pop("TPU_LIBRARY_PATH", None)  # ours, which its JAX may not know
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        with deep_stack():
            running = process.start(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                                    env=environment, cwd=folder)
        try:
            line, _ = running.communicate(json.dumps(given) + "\n")
        finally:
            running.kill()
        if not line.strip():
            said.seek(0)
            last = [each for each in said.read().strip().splitlines() if each.strip()] or ["it said nothing"]
            raise TwinscaleError(f"peer {name} died with exit code {running.returncode}: {last[-1][:500]}")
    found = died(recipe, 0) | {"xla_flags": {}} | json.loads(line)
    return found if found["compiles"] else found | refusal(found["error"])


def kernel(found: Mapping[str, Any]) -> str | None:
    """What computes a compiled row's attention, by its kernels' names."""
    if not found["compiles"]:
        return None
    return next((re.split("_", name)[0] for name in found["kernels"]), "einsum")


# ---- beside each other

def ratios(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """{figure: how many times the peer's ours is}, of those that both have."""
    both = {name: (figure(ours, key), figure(theirs, key)) for name, key in FIGURES.items()}
    return {name: a / b for name, (a, b) in both.items() if a and b}


def figure(found: Mapping[str, Any], key: str) -> float | None:
    """A row's figure; the bytes that a device sends are of all its collectives."""
    if key == "bytes_sent_per_device":
        return sum(each["bytes_sent"] for each in found.get("collectives") or ())
    return found.get(key)


def others(theirs: Mapping[str, Any], here: Mapping[str, str | None]) -> dict[str, list[str | None]]:
    """{package: [ours, theirs]} of what decides an answer and is not the same."""
    return {name: [here.get(name), theirs["versions"].get(name)] for name in DECIDE
            if here.get(name) != theirs["versions"].get(name)}
