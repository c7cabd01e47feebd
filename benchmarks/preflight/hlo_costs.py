"""What one instruction of an XLA module costs: operations, bytes, the devices of a collective, the trips of a loop."""

import math
import re
from typing import Any

import numpy as np

from twinscale.benchmarks.preflight.hlo_text import Computation, Instruction, Module, leaves

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
               "collective-broadcast")
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
        "opt-barrier", "domain", "while", "conditional", "call", "call-start", "async-start", "custom-call-start",
        "copy-done"}  # moves nothing by itself
SLICES = {"dynamic-slice", "slice", "gather"}  # reads of its first operand what it gives
UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # writes into its first operand what this one holds
PASSES = {"highest": 6, "high": 3}  # bfloat16 products that XLA:TPU makes of one of float32 (`jax.lax.Precision`)
MOST_TRIPS = 1 << 20


# ---- operations

def dot_flops(computation: Computation, i: Instruction) -> int:
    """Twice the multiply-adds of a matrix product."""
    shape = computation.shape(i.operands[0])
    axes = [int(d) for d in i.braces("lhs_contracting_dims").split(",") if d]
    return 2 * math.prod(i.type.dims) * math.prod(shape.dims[axis] for axis in axes)


def convolution_flops(computation: Computation, i: Instruction) -> int:
    """Twice the multiply-adds of a convolution: output features x input features of a group x rows x the pairs of a
    position and a window's element that are neither padding nor a hole."""
    labels: Any = i.attribute("dim_labels")
    found: Any = re.match(r"(.*)_(.*)->(.*)", labels)
    inputs, kernel, outputs = found.groups()
    lhs, out = computation.shape(i.operands[0]).dims, i.type.dims
    window = dict(re.findall(r"(\w+)=(\S+)", i.braces("window")))
    spatial = sum(label.isdigit() for label in outputs)
    size = [int(d) for d in window.get("size", "").split("x") if d]
    pads = [tuple(map(int, p.split("_"))) for p in window.get("pad", "").split("x") if p] or [(0, 0)] * spatial
    others = {key: [int(d) for d in window[key].split("x")] if key in window else [1] * spatial
              for key in ("stride", "lhs_dilate", "rhs_dilate")}
    pairs = 1
    for n in range(spatial):
        pairs *= valid_pairs(lhs[inputs.index(str(n))], size[n], out[outputs.index(str(n))], pads[n][0],
                             *(others[key][n] for key in ("stride", "lhs_dilate", "rhs_dilate")))
    groups, batches = (int(i.attribute(key, r"\d+") or 1) for key in ("feature_group_count", "batch_group_count"))
    return (2 * lhs[inputs.index("f")] // groups * out[outputs.index("f")] * (lhs[inputs.index("b")] // batches)
            * pairs)


def valid_pairs(size: int, window: int, positions: int, pad: int, stride: int, base: int, dilation: int) -> int:
    """Pairs of an output position and a window's element that meet an element of the input, along one axis."""
    if window == 1 and base == 1 and not pad:
        return min(positions, -(-size // stride))
    at = np.arange(positions)[:, None] * stride + np.arange(window)[None] * dilation - pad
    return int(np.count_nonzero((at >= 0) & (at % base == 0) & (at < size * base)))


def passes(computation: Computation, i: Instruction) -> int:
    """bfloat16 passes of the matrix unit that a product takes: several where factors of float32 are to be kept."""
    if any(shape.bits <= 16 for name in i.operands for shape in leaves(computation.shape(name))):
        return 1
    return max(PASSES.get(word.strip(), 1) for word in (i.braces("operand_precision") or "default").split(","))


# ---- bytes

def moved(module: Module, computation: Computation, i: Instruction) -> int:
    """Bytes that an instruction outside fusions moves over HBM's wires."""
    if i.opcode in FREE or i.attribute("custom_call_target") == '"AllocateBuffer"':
        return 0
    taken = [computation.shape(name) for name in i.operands]
    if i.opcode == "copy-start":  # gives (destination, source, context)
        return taken[0].moved + leaves(i.type)[0].moved
    if i.opcode.endswith("-start") or i.opcode == "send":
        return sum(shape.moved for kind in taken for shape in leaves(kind))
    if i.opcode.endswith("-update") or i.opcode == "recv":
        return 0
    if i.opcode.endswith("-done"):
        gives = i.opcode.removesuffix("-done") in (*COLLECTIVES, "recv")
        return sum(shape.moved for shape in i.shapes) if gives else 0
    if i.opcode == "fusion":
        return fusion_moved(module, computation, i)
    if i.opcode in SLICES:
        return 2 * i.shapes[0].moved
    if i.opcode in UPDATES:
        return 2 * leaves(taken[UPDATES[i.opcode]])[0].moved
    return sum(shape.moved for kind in [*taken, i.type] for shape in leaves(kind))


def fusion_moved(module: Module, computation: Computation, i: Instruction) -> int:
    """Bytes that a fusion moves over HBM's wires."""
    callee = module.computations[i.called()]
    # What is passed through in place, as by the parts of an overlapped collective, is not moved.
    through = re.findall(r"\{([\d,\s]*)\}: \((\d+)", i.braces("output_to_operand_aliasing"))
    overlapped = any(inner.opcode in COLLECTIVES for inner in callee.instructions.values())
    kept_in = {int(number) for _, number in through} if overlapped else set()
    kept_out = {int(index or 0) for index, _ in through if "," not in index} if overlapped else set()
    total = 0
    for number, name in enumerate(i.operands):
        shapes = leaves(computation.shape(name))
        if number not in kept_in and len(shapes) == 1 and not shapes[0].space:
            total += touched(module, callee, callee.parameters[number])
    for index, shape in enumerate(i.shapes):
        if index not in kept_out and not shape.space:
            total += written(module, callee, callee.root, index)
    return total


def touched(module: Module, computation: Computation, name: str) -> int:
    """Bytes that a fusion reads of one of its values: all, or what slices take of it."""
    shape, total = leaves(computation.shape(name))[0], 0
    for user in computation.users.get(name, []):
        if user.opcode in SLICES and user.operands[0] == name:
            total += user.shapes[0].held
        elif user.opcode in UPDATES and user.operands[0] == name:
            continue
        elif user.opcode == "bitcast":
            total += touched(module, computation, user.name)
        elif user.opcode == "fusion":
            callee = module.computations[user.called()]
            total += sum(touched(module, callee, callee.parameters[number])
                         for number, operand in enumerate(user.operands) if operand == name)
        else:
            return shape.held
    return min(total, shape.held)


def written(module: Module, computation: Computation, name: str, index: int = 0) -> int:
    """Bytes that a fusion writes of its result, or of the result's part of an index: all, or what an update puts."""
    i = computation.instructions[name]
    if i.opcode == "tuple":
        return written(module, computation, i.operands[index])
    if i.opcode == "get-tuple-element":
        return written(module, computation, i.operands[0], int(i.attribute("index")))
    if i.opcode == "bitcast":
        return written(module, computation, i.operands[0])
    if i.opcode == "fusion":
        callee = module.computations[i.called()]
        return written(module, callee, callee.root, index)
    if i.opcode in UPDATES:
        return leaves(computation.shape(i.operands[UPDATES[i.opcode]]))[0].held
    return 0 if i.opcode == "parameter" else i.shapes[min(index, len(i.shapes) - 1)].held


# ---- devices of a collective

def groups_of(module: Module, i: Instruction) -> np.ndarray:
    """The groups of devices that a collective goes over: NumPy (groups, devices of each)."""
    if pairs := i.braces("source_target_pairs"):
        return np.array([[int(d) for d in pair.split(",")] for pair in re.findall(r"\{([\d,]+)\}", pairs)])
    listed = i.braces("replica_groups")
    if listed:
        return np.array([[int(d) for d in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", f"{listed}")])
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", i.rest):
        parts: Any = (tuple(map(int, part.split(","))) if part else None for part in found.groups())
        shape, dims, order = parts
        return np.arange(math.prod(dims)).reshape(dims).transpose(order).reshape(shape)
    if found := re.search(r"replica_groups=(@?mesh\S*)\[([^\]]*)\][^{]*\{([^}]*)\}", i.rest):
        return mesh_groups(found[2], found[3], i.rest)
    return np.arange(module.partitions)[None]


def mesh_groups(sizes: str, axes: str, rest: str) -> np.ndarray:
    """Groups of a mesh whose axes are written 'NAME'=SIZE, along axes, or parts of such, 'NAME':(BEFORE)SIZE."""
    names = {name: int(size) for name, size in re.findall(r"'([^']*)'=(\d+)", sizes)}
    wanted = re.findall(r"'([^']*)'(?::\((\d+)\)(\d+))?", axes)
    dims, chosen = [], []
    for name, size in names.items():
        parts = [(int(before), int(part)) for axis, before, part in wanted if axis == name and part]
        cuts = sorted({1, size, *(cut for before, part in parts for cut in (before, before * part))})
        pieces = [(low, high // low) for low, high in zip(cuts, cuts[1:], strict=False)] or [(1, 1)]
        whole = any(axis == name and not part for axis, _, part in wanted)
        chosen += [len(dims) + n for n, piece in enumerate(pieces) if whole or piece in parts]
        dims += [piece for _, piece in pieces]
    if order := re.search(r"device_ids=\(?\[([\d,]+)\]\)?(?:<=)?", rest):
        devices = np.array([int(d) for d in order[1].split(",")])
        devices = devices if devices.size == math.prod(dims) else np.arange(math.prod(dims))
    else:
        devices = np.arange(math.prod(dims))
    others = [axis for axis in range(len(dims)) if axis not in chosen]
    devices = devices.reshape(dims).transpose(*others, *chosen)
    return devices.reshape(-1, math.prod([dims[axis] for axis in chosen] or [1]))


# ---- loops

def trips_of(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """How often a loop's body runs: as the text says, or found by running what the condition reads; None: unknown."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest):
        return int(known[1])
    condition, body = (module.computations[loop.called(part)] for part in ("condition", "body"))
    carried = {}
    for i in condition.instructions.values():
        if i.opcode == "get-tuple-element" and condition.instructions[i.operands[0]].opcode == "parameter":
            carried[int(i.attribute("index"))] = None
    begin = through_copies(computation, computation.instructions[loop.operands[0]])
    if begin.opcode != "tuple":
        return None
    for index in carried:
        carried[index] = value(module, computation, begin.operands[index], {})
    root = body.instructions[body.root]
    for trips in range(MOST_TRIPS):
        goes_on = value(module, condition, condition.root, {0: carried})
        if goes_on is None or root.opcode != "tuple":
            return None
        if not goes_on:
            return trips
        carried = {index: value(module, body, root.operands[index], {0: carried}) for index in carried}
    return None


def through_copies(computation: Computation, i: Instruction) -> Instruction:
    """The instruction whose value this one copies."""
    while i.opcode in ("copy", "opt-barrier", "bitcast", "copy-done", "copy-start"):
        i = computation.instructions[i.operands[0]]
    return i


COMPARE = {"LT": lambda a, b: a < b, "LE": lambda a, b: a <= b, "GT": lambda a, b: a > b, "GE": lambda a, b: a >= b,
           "EQ": lambda a, b: a == b, "NE": lambda a, b: a != b}
SCALARS = {"add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
           "and": lambda a, b: a & b, "or": lambda a, b: a | b, "minimum": min, "maximum": max}
SAME = {"copy", "bitcast", "convert", "reshape", "copy-start", "copy-done", "opt-barrier"}


def value(module: Module, computation: Computation, name: str, arguments: Any) -> int | None:
    """The whole number that an instruction gives, or None where it takes more than constants and `arguments`, which by
    number are numbers, or {index: number} of a tuple."""
    i = computation.instructions[name]
    if i.opcode == "constant":
        words = {"true": 1, "false": 0}
        return int(i.literal) if re.fullmatch(r"-?\d+", i.literal) else words.get(i.literal)
    if i.opcode == "parameter":
        given = arguments.get(int(i.literal))
        return given if isinstance(given, int) else None
    if i.opcode == "get-tuple-element":
        of = through_copies(computation, computation.instructions[i.operands[0]])
        index = int(i.attribute("index"))
        if of.opcode == "tuple":
            return value(module, computation, of.operands[index], arguments)
        given = arguments.get(int(of.literal)) if of.opcode == "parameter" else None
        return given.get(index) if isinstance(given, dict) else None
    if i.opcode in SAME:
        return value(module, computation, i.operands[0], arguments)
    if i.opcode in ("fusion", "call"):
        callee = module.computations[i.called() or i.called("to_apply")]
        taken = {n: value(module, computation, operand, arguments) for n, operand in enumerate(i.operands)}
        return None if callee.root == "" else value(module, callee, callee.root, taken)
    function: Any = COMPARE.get(i.attribute("direction")) if i.opcode == "compare" else SCALARS.get(i.opcode)
    if function is None:
        return None
    values = [value(module, computation, operand, arguments) for operand in i.operands]
    return None if None in values else int(function(*values))
