"""Rows of preflight.json against each other: one backend beside the other, and both against an earlier answer."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from twinscale.benchmarks.preflight.rows import APART, totals
from twinscale.benchmarks.preflight.words import gib
from twinscale.common.errors import BadInput
from twinscale.common.files.access import read_json
from twinscale.common.files.kinds import STRICT, Backend, Count, version
from twinscale.common.machine.topology import SLICES, Topology, parse

SCHEMA_VERSION = 1
FILE = "preflight.json"
VERSIONS = ("jax", "tensorflow", "libtpu")  # that decide an answer


class Collectives(TypedDict):
    """Those of a kind over a network."""

    __pydantic_config__ = STRICT

    kind: str
    network: str
    count: Count
    bytes: Count


class Row(TypedDict):
    """What is read of an earlier answer's row."""

    __pydantic_config__ = STRICT

    backend: Backend
    topology: str
    slices: Annotated[int, Field(ge=1, le=SLICES)]
    compiles: bool
    fits: bool | None
    collectives: NotRequired[list[Collectives] | None]


def _compared(row):
    if row["compiles"] and row.get("collectives") is None:
        raise ValueError("collectives: missing, though it compiles")
    return row


class Golden(TypedDict):
    """What is read of an earlier answer."""

    __pydantic_config__ = STRICT

    schema_version: version(SCHEMA_VERSION)
    versions: NotRequired[dict[str, str | None]]
    results: Annotated[list[Annotated[Row, AfterValidator(_compared)]], Field(min_length=1)]


# ---- side by side

def parity(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each backend beside "jax" on each topology where both compile, with the differences above APART by operation.
    "keras" in a line is the other one, which `backend` names."""
    found = []
    for keras in results:
        jax = next((other for other in results if other["backend"] == "jax" and all(
            other[key] == keras[key] for key in ("topology", "slices"))), None)
        if keras["backend"] == "jax" or jax is None or not (keras["compiles"] and jax["compiles"]):
            continue
        sides = {"jax": operations(jax), "keras": operations(keras)}
        lines = [{"figure": figure, "operation": operation, "jax": a, "keras": b, "difference": apart(a, b)}
                 for figure, operation in dict.fromkeys([*sides["jax"], *sides["keras"]])
                 for a, b in [tuple(side.get((figure, operation), 0) for side in sides.values())]]
        found.append({**{key: keras[key] for key in ("backend", "topology", "slices")}, "operations": lines,
                      "differences": [line for line in lines if line["difference"] > APART]})
    return found


def operations(found: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
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


def apart(a: float, b: float) -> float:
    """|a - b| as a share of the larger."""
    return abs(a - b) / max(abs(a), abs(b)) if a or b else 0.0


# ---- against an earlier one

def reduced(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a golden keeps of a preflight.json."""
    rows = [{key: found[key] for key in ("backend", "topology", "slices", "compiles", "fits")} | {
        "collectives": [{"kind": kind, "network": network, "count": count, "bytes": size}
                        for (kind, network), (count, size) in sorted(totals(found).items())]}
            for found in result["results"]]
    return {"schema_version": SCHEMA_VERSION, "name": result["recipe"]["name"], "hash": result["hash"],
            "versions": {name: result["versions"].get(name) for name in VERSIONS},
            "results": rows}


def read_golden(path: str | Path) -> dict[str, Any]:
    """A golden; raises BadInput where the file is none."""
    try:
        golden = read_json(path, Golden, f"neither a {FILE} of schema_version {SCHEMA_VERSION} nor what "
                           "--write-golden makes")
    except BadInput as error:
        raise BadInput(f"--check {error}") from None
    for row in golden["results"]:
        try:
            parse(row["topology"], row["slices"])
        except BadInput as error:
            raise BadInput(f"--check {path}: it is of no slice that is known here: {error}") from None
    return golden


def of_golden(golden: Mapping[str, Any], topologies: Sequence[str], slices: int, backends: Sequence[str]
              ) -> list[tuple[str, Topology]]:
    """(backend, Topology) of each row of a golden, but for those that are not asked for where some are. Raises BadInput
    where it says nothing of what is asked for."""
    asked = [parse(name, slices) for name in topologies]
    rows = [(row["backend"], parse(row["topology"], row["slices"])) for row in golden["results"]]
    kept = [(backend, topology) for backend, topology in rows
            if backend in (backends or [backend]) and topology in (asked or [topology])]
    every: tuple[Sequence[str | None], Sequence[Topology | None]] = (backends or [None], asked or [None])
    for backend, place in product(*every):
        if not any(backend in (None, row[0]) and place in (None, row[1]) for row in kept):
            named = " on ".join([*([backend] if backend else []), *([place.name] if place else [])])
            raise BadInput(f"--check: the golden says nothing of {named}; make one with --write-golden")
    return kept


def other_versions(golden: Mapping[str, Any], here: Mapping[str, str | None]) -> dict[str, list[str | None]]:
    """{name: [the golden's, this one's]} of what decides an answer and is not what it was."""
    return {name: [version, here.get(name)] for name, version in (golden.get("versions") or {}).items()
            if name in VERSIONS and version != here.get(name)}


def compare_golden(golden: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines that say what is worse than in a golden, of which each result has a row."""
    earlier = {(found["backend"], found["topology"], found["slices"]): found for found in golden["results"]}
    worse = []
    for found in results:
        old, named = earlier[found["backend"], found["topology"], found["slices"]], (
            f"{found['backend']} on {found['topology']}")
        if old["compiles"] and not found["compiles"] and found["fits"] is not False:
            worse.append(f"{named} does not compile any more: {found['error']}")
        if old["fits"] and found["fits"] is False:
            worse.append(f"{named} does not fit any more: {gib(found['hbm_bytes_per_device'])} of "
                         f"{gib(found['hbm_capacity_bytes'])}")
        if found.get("unread_collectives"):
            worse.append(f"{named} has collectives that could not be counted: {len(found['unread_collectives'])}")
        before = totals(old)
        for (kind, network), (count, size) in sorted(totals(found).items()) if found["compiles"] else ():
            counts, sizes = before.get((kind, network), (0, 0))
            if count > counts or size > sizes:
                worse.append(f"{named} communicates more: {kind} over {network} {counts} -> {count}, "
                             f"{sizes:,} -> {size:,} bytes a step")
    return worse
