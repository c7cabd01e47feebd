"""What one execution of an optimised XLA module does on a device, counted from the module's text by our own rules.

XLA's own account counts a loop's body once, whatever its trips, and hides collectives that lie inside fusions. Here
bodies count as often as they run, and of a condition's branches the one that computes most.

  operations   matrix products and convolutions, a multiply-add is two; positions of padding and of holes that a
               dilation leaves are no operations. What custom calls compute is not seen: they are listed by name.
  bytes moved  operands and results of what stands outside fusions, as laid out in HBM, padding included; of a slice
               what it takes, of an update in place what it puts. What lies in the core's own memory moves nothing.
  collectives  by kind: the bytes that each device puts in, and those that it must send. One that is overlapped with
               computation is a chain of fusions, with a copy in each, from a start through parts, which may lie in an
               inner loop, to an end: it counts as often as it starts. One that runs beside the core, on a thread of its
               own, counts where it is started. One is asynchronous that lies in such a chain, or between whose start
               and end the schedule has something to compute: a start that its end follows at once is waited for.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from twinscale.benchmarks.preflight.hlo_costs import (
    COLLECTIVES,
    convolution_flops,
    dot_flops,
    groups_of,
    moved,
    passes,
    trips_of,
)
from twinscale.benchmarks.preflight.hlo_text import Computation, Instruction, Module, chain_of, leaves, parse, starts

SENT = {"all-reduce": 2.0, "collective-permute": None, "collective-broadcast": None}  # rounds of a ring; None: at once
DCN = {"ONE_TO_ONE": "collective-permute"}  # XLA's names of what goes between slices, where they are others
CALLS = {"call", "call-start", "async-start", "custom-call-start"}  # the last as libtpu 0.0.52 starts a SparseCore
WORK = {"fusion", "convolution", "dot", "while", "call", "conditional"}  # what computes, beside Pallas kernels
FIGURES = ("count", "bytes", "bytes_sent", "asynchronous", "asynchronous_bytes_sent", "sparsecore")
PLACES = r"attention|feedforward|stage_\d+"  # parts of a model that both backends name in what they lower


class Collective(NamedTuple):
    """What is counted: bytes that a device puts in, whether the core computes meanwhile, and whether a SparseCore
    does it."""

    kind: str
    network: str
    group: int
    size: int
    asynchronous: bool = False
    sparsecore: bool = False


@dataclass
class Account:
    """What a computation does when it runs once."""

    flops: Counter = field(default_factory=Counter)  # by (place, direction)
    passes: float = 0  # operations, times the bfloat16 passes that each takes
    moved: int = 0
    collectives: Counter = field(default_factory=Counter)
    overlapped: dict = field(default_factory=dict)  # {chain that a fusion has a part of: (collective, is it the start)}
    fusions: Counter = field(default_factory=Counter)  # by kind
    kernels: Counter = field(default_factory=Counter)  # custom calls of Pallas
    loops: list = field(default_factory=list)  # trips, None where they are not known

    def add(self, other: "Account", times: int = 1) -> None:
        """Adds what another computation does, so many times."""
        for name in ("flops", "collectives", "fusions", "kernels"):
            for key, value in getattr(other, name).items():
                getattr(self, name)[key] += times * value
        self.passes += times * other.passes
        self.moved += times * other.moved
        self.loops += other.loops

    @property
    def weight(self) -> tuple[float, int]:
        """What tells the larger of two accounts: operations, then bytes."""
        return sum(self.flops.values()), self.moved


# ---- the account

def account(text: str, slices: int = 1) -> dict[str, Any]:
    """What an optimised module does on each device, as a dict of plain values.

    Args:
      text: the module, as XLA prints it after optimisation.
      slices: that run it together, over the data-centre network: `num_slices` of the topology.
    Returns: {"flops", "flops_by_place": {"PLACE DIRECTION": flops}, "matrix_flops": operations times the bfloat16
      passes that each takes, "bytes_moved", "collectives": [{"kind", "network": "ici" or "dcn", "count", "bytes",
      "bytes_sent", "group": devices, "asynchronous": how many are, "asynchronous_bytes_sent", "sparsecore": how many
      run on SparseCores}], "fusions", "fusions_by_kind", "kernels": {name: calls}, "loops": [trips],
      "unknown_loops": loops whose trips are not in the text, counted once,
      "unread_collectives": [names] of those that nothing is seen to run, which are not counted}.
    """
    module = parse(text)
    module.slices = slices
    done = executed(module, module.entry)
    return {
        "flops": sum(done.flops.values()),
        "flops_by_place": {" ".join(key): flops for key, flops in sorted(done.flops.items())},
        "matrix_flops": done.passes, "bytes_moved": done.moved,
        "collectives": [{**dict(zip(("kind", "network", "group"), key, strict=True)), **figures}
                        for key, figures in sorted(by_kind(done.collectives).items())],
        "fusions": sum(done.fusions.values()), "fusions_by_kind": dict(sorted(done.fusions.items())),
        "kernels": dict(sorted(done.kernels.items())), "loops": [trips for trips in done.loops if trips is not None],
        "unknown_loops": done.loops.count(None), "unread_collectives": unread(module)}


def unread(module: Module) -> list[str]:
    """Names of the collectives that an account, once made, has not come to: what starts them is a new opcode, as
    `custom-call-start` was with libtpu 0.0.52."""
    return [i.name for name, computation in module.computations.items()
            if name not in module.accounts and ("fused", name) not in module.accounts
            for i in computation.instructions.values() if i.opcode.removesuffix("-start") in COLLECTIVES]


def by_kind(collectives: Mapping[Any, Any]) -> dict[Any, dict[str, Any]]:
    """{(kind, network, group): {"count", "bytes", "bytes_sent", ...}} of counted collectives; see `account`."""
    found = {}
    for each, times in collectives.items():
        figures = found.setdefault(each[:3], dict.fromkeys(FIGURES, 0))
        size = times * sent(each.kind, each.size, each.group)
        figures["count"] += times
        figures["bytes"] += times * each.size
        figures["bytes_sent"] += size
        figures["asynchronous"] += times * each.asynchronous
        figures["asynchronous_bytes_sent"] += size * each.asynchronous
        figures["sparsecore"] += times * each.sparsecore
    return {key: {name: round(value) for name, value in figures.items()} for key, figures in found.items()}


def sent(kind: str, size: float, group: int) -> float:
    """Bytes that each of a group must send for a collective into which it puts `size`."""
    if kind == "all-gather":
        return size * (group - 1)
    rounds = SENT.get(kind, 1.0)
    return size if rounds is None else rounds * size * (group - 1) / group


def executed(module: Module, name: str) -> Account:
    """The Account of a computation that runs as such, and is not fused into one instruction."""
    if name in module.accounts:
        return module.accounts[name]
    done, computation, chains = Account(), module.computations[name], set()
    for i in computation.instructions.values():
        if i.opcode == "while":
            trips = trips_of(module, computation, i)
            done.loops.append(trips)
            for part in ("body", "condition"):
                done.add(executed(module, i.called(part)), 1 if trips is None else trips)
        elif i.opcode == "conditional":
            branches = [executed(module, branch) for branch in branches_of(i)]
            done.add(max(branches, key=lambda branch: branch.weight))
        elif i.opcode in CALLS and (named := callees(i)):
            for callee in named:
                inner = executed(module, callee)
                done.add(inner if i.opcode == "call" else beside(inner, computation, i))
        elif i.opcode == "fusion":
            inner = fused(module, i.called())
            done.add(inner)
            for chain, (collective, begins) in inner.overlapped.items():
                if begins or chain not in chains and chain not in module.started:
                    done.collectives[collective] += 1
            chains |= inner.overlapped.keys()
            done.fusions[i.attribute("kind") or "kLoop"] += 1
        else:
            count_one(done, module, computation, i)
        done.moved += moved(module, computation, i)
    module.accounts[name] = done
    return done


def fused(module: Module, name: str) -> Account:
    """The Account of a fusion's computation: what it computes; what it moves is its caller's to say."""
    if ("fused", name) in module.accounts:
        return module.accounts["fused", name]
    done, computation = Account(), module.computations[name]
    for i in computation.instructions.values():
        if i.opcode == "fusion":
            inner = fused(module, i.called())
            done.add(inner)
            for chain, (collective, begins) in inner.overlapped.items():
                done.overlapped[chain] = collective, begins or done.overlapped.get(chain, (None, False))[1]
        else:
            count_one(done, module, computation, i)
    module.accounts["fused", name] = done
    return done


def count_one(done: Account, module: Module, computation: Computation, i: Instruction) -> None:
    """Adds what one instruction computes and communicates to an Account."""
    kind = i.opcode.removesuffix("-start")
    if i.opcode in ("convolution", "dot"):
        flops = (convolution_flops if i.opcode == "convolution" else dot_flops)(computation, i)
        done.flops[place_of(i)] += flops
        done.passes += flops * passes(computation, i)
    elif is_kernel(i):
        done.kernels[re.sub(r"[.\d]+$", "", i.name)] += 1
    elif kind in COLLECTIVES and not i.opcode.endswith("-done"):
        groups = groups_of(module, i)
        if len(groups[0]) > 1:
            if kind == "all-reduce" and is_scattered(computation, i):
                kind = "reduce-scatter"
            size = sum(shape.bytes for name in i.operands for shape in leaves(computation.shape(name)))
            collective = Collective(kind, "ici", len(groups[0]), size)
            if "chain_id" in i.rest:  # a chain of fusions holds its start, its parts and its end
                done.overlapped[chain_of(i)] = collective._replace(asynchronous=True), starts(computation, i)
            else:
                done.collectives[collective._replace(asynchronous=is_beside(computation, i))] += 1
    elif i.opcode == "send" and (found := re.search(r'_xla_megascale_transfer_type="(\w+)"', i.rest)):
        # What crosses slices goes by way of the hosts.
        size = leaves(computation.shape(i.operands[0]))[0].bytes
        kind = DCN.get(found[1], found[1].lower().replace("_", "-"))
        done.collectives[Collective(kind, "dcn", module.slices, size, is_beside(computation, i))] += 1


def beside(inner: Account, computation: Computation, i: Instruction) -> Account:
    """What a computation does that an instruction starts on a thread beside the core."""
    on_sparsecore, meanwhile = "sparsecore" in (i.attribute("async_execution_thread") or ""), is_beside(computation, i)
    return replace(inner, collectives=Counter({
        each._replace(asynchronous=meanwhile or each.asynchronous, sparsecore=on_sparsecore): times
        for each, times in inner.collectives.items()}))


def is_beside(computation: Computation, i: Instruction) -> bool:
    """Whether the core has something to compute between an instruction that starts something, and its end."""
    if not (i.opcode.endswith("-start") or i.opcode == "send"):
        return False
    reached, ends = [i.name], set()
    for name in reached:  # through its updates, which grow the list
        for user in computation.users.get(name, []):
            if user.opcode.endswith("-done"):
                ends.add(user.name)
            elif user.opcode.endswith("-update"):
                reached.append(user.name)
    begun = False
    for name, other in computation.instructions.items():
        if begun and (name in ends or other.opcode in WORK or is_kernel(other)):
            return name not in ends
        begun = begun or name == i.name
    return False


def is_kernel(i: Instruction) -> bool:
    """Whether an instruction is a Pallas kernel; other custom calls set something up, such as the start of another."""
    return i.opcode == "custom-call" and i.attribute("custom_call_target") == '"tpu_custom_call"'


def is_scattered(computation: Computation, i: Instruction) -> bool:
    """Whether each device keeps a part alone of what an all-reduce gives: a reduce-scatter, as XLA writes it on TPUs in
    a fusion of both."""
    users = computation.users.get(i.name, [])
    return bool(users) and all(user.opcode == "dynamic-slice" or user.opcode == "get-tuple-element"
                               and is_scattered(computation, user) for user in users)


def place_of(i: Instruction) -> tuple[str, str]:
    """(the part of the model, "forward" or "backward") that a product's metadata name."""
    found = re.search(r'op_name="([^"]*)"', i.rest)
    name = found[1] if found else ""
    part = re.search(PLACES, name)
    again = re.search(r"rematted_computation|checkpoint/remat", name)
    backward = re.search(r"transpose\(|gradient_tape", name)
    return part[0] if part else "rest", "forward" if again or not backward else "backward"


def branches_of(i: Instruction) -> list[Any]:
    """Names of a conditional's branches."""
    if listed := i.braces("branch_computations"):
        return re.findall(r"%?([\w.\-]+)", listed)
    return [i.called("true_computation"), i.called("false_computation")]


def callees(i: Instruction) -> list[str]:
    """Names of the computations that a call runs, here or on a thread beside the core; what a custom call starts may
    have none."""
    if listed := i.braces("called_computations"):
        return re.findall(r"%?([\w.\-]+)", listed)
    return [name for name in (i.called() or i.called("to_apply"),) if name]
