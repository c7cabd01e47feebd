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
               own, counts where it is started.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}  # of an element; else the digits of its type's name
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
               "collective-broadcast")
SENT = {"all-reduce": 2.0, "collective-permute": None, "collective-broadcast": None}  # rounds of a ring; None: at once
DCN = {"ONE_TO_ONE": "collective-permute"}  # XLA's names of what goes between slices, where they are others
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
        "opt-barrier", "domain", "while", "conditional", "call", "call-start", "async-start", "custom-call-start",
        "copy-done"}  # moves nothing by itself
CALLS = {"call", "call-start", "async-start", "custom-call-start"}  # the last as libtpu 0.0.52 starts a SparseCore
SLICES = {"dynamic-slice", "slice", "gather"}  # reads of its first operand what it gives
UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # writes into its first operand what this one holds
PASSES = {"highest": 6, "high": 3}  # bfloat16 products that XLA:TPU makes of one of float32 (`jax.lax.Precision`)
MOST_TRIPS = 1 << 20

HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
FOOTER = re.compile(r'^\}(, execution_thread="[^"]*")?$')  # of another thread are those that run beside the core
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
SHAPE = re.compile(r"([a-z]\w*)\[([^\]]*)\](?:\{([^}]*)\})?")
SEPARATOR = re.compile(r", |/\*[^*]*\*/")
PLACES = r"attention|feedforward|stage_\d+"  # parts of a model that both backends name in what they lower


@dataclass(frozen=True)
class Shape:
    """An array: its element type, dimensions, and how it lies: minor to major, in tiles, in a memory space (0: HBM)."""

    dtype: str
    dims: tuple
    order: tuple = ()
    tile: tuple = ()
    space: int = 0

    @property
    def bits(self):
        return BITS.get(self.dtype, int((re.findall(r"\d+", self.dtype) or ["8"])[0]))

    @property
    def bytes(self):
        """Without padding."""
        return math.ceil(math.prod(self.dims) * self.bits / 8)

    @property
    def held(self):
        """Bytes as it lies, each dimension that is tiled a multiple of its tile."""
        lying = [self.dims[axis] for axis in reversed(self.order)] or list(self.dims)
        for i in range(1, min(len(self.tile), len(lying)) + 1):
            lying[-i] = -(-lying[-i] // self.tile[-i]) * self.tile[-i]
        return math.ceil(math.prod(lying) * self.bits / 8)

    @property
    def moved(self):
        """Bytes that go over HBM's wires when all of it is read or written."""
        return 0 if self.space else self.held


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    type: object  # a Shape, or a list of such for a tuple
    opcode: str
    operands: tuple  # names
    literal: str  # what stands between the parentheses
    rest: str  # attributes, as text

    @cached_property
    def shapes(self):
        return leaves(self.type)

    def called(self, key="calls"):
        """The name of a computation among the attributes, or None."""
        found = re.search(rf"\b{key}=%?([\w.\-]+)", self.rest)
        return found and found[1]

    def attribute(self, key, value=r"[^,\s]+"):
        """The text of an attribute, or None."""
        found = re.search(rf"\b{key}=({value})", self.rest)
        return found and found[1]

    def braces(self, key):
        """The text between an attribute's outer braces, or ""."""
        begin = self.rest.find(f"{key}={{")
        if begin < 0:
            return ""
        depth, start = 0, begin + len(key) + 1
        for i in range(start, len(self.rest)):
            depth += {"{": 1, "}": -1}.get(self.rest[i], 0)
            if not depth:
                return self.rest[start + 1:i]
        return ""


@dataclass
class Computation:
    """A function of the module: its instructions by name in order, and its root's name."""

    name: str
    instructions: dict = field(default_factory=dict)
    root: str = ""

    @cached_property
    def parameters(self):
        """{number: name}."""
        return {int(i.literal): i.name for i in self.instructions.values() if i.opcode == "parameter"}

    @cached_property
    def users(self):
        """{name: instructions that take it}."""
        found = {}
        for instruction in self.instructions.values():
            for name in dict.fromkeys(instruction.operands):
                found.setdefault(name, []).append(instruction)
        return found

    def shape(self, name):
        return self.instructions[name].type


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

    def add(self, other, times=1):
        for name in ("flops", "collectives", "fusions", "kernels"):
            for key, value in getattr(other, name).items():
                getattr(self, name)[key] += times * value
        self.passes += times * other.passes
        self.moved += times * other.moved
        self.loops += other.loops

    @property
    def weight(self):
        return sum(self.flops.values()), self.moved


@dataclass
class Module:
    """A parsed module."""

    computations: dict
    entry: str
    partitions: int
    slices: int = 1
    accounts: dict = field(default_factory=dict)

    @cached_property
    def started(self):
        """Chains of overlapped collectives whose start the text shows."""
        return {chain_of(i) for computation in self.computations.values() for i in computation.instructions.values()
                if "chain_id" in i.rest and starts(computation, i)}


# ---- text to structure

def parse(text):
    """The Module of an HLO module's text. Raises ValueError where it has no entry."""
    computations, entry, current = {}, None, None
    for line in whole_lines(text):
        if current is None:
            if found := HEADER.match(line):
                current = computations[found[2]] = Computation(found[2])
                entry = found[2] if found[1] else entry
        elif FOOTER.match(line):
            current = None
        elif found := INSTRUCTION.match(line):
            instruction = read_instruction(found[2], line, found.end())
            current.instructions[instruction.name] = instruction
            current.root = instruction.name if found[1] else current.root
    if entry is None:
        raise ValueError("the text holds no HLO module: it has no ENTRY")
    partitions = re.search(r"num_partitions=(\d+)", text[:text.find("\n\n")])
    return Module(computations, entry, int(partitions[1]) if partitions else 1)


def whole_lines(text):
    """The text's lines, with those that the strings of attributes break put together again."""
    held = None
    for line in text.splitlines():
        if INSTRUCTION.match(line) or FOOTER.match(line) or held is None or not INSTRUCTION.match(held):
            if held is not None:
                yield held
            held = line
        else:
            held += line
    if held is not None:
        yield held


def read_instruction(name, line, position):
    kind, position = read_type(line, position)
    end = line.index("(", position)
    opcode, depth, close = line[position:end].strip(), 0, end
    for close in range(end, len(line)):  # noqa: B007
        depth += {"(": 1, ")": -1}.get(line[close], 0)
        if not depth:
            break
    inside = line[end + 1:close]
    operands = () if opcode in ("constant", "parameter") else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, kind, opcode, operands, inside, line[close + 1:])


def read_type(line, position):
    """(Shape or list of types, where it ends)."""
    if line[position] != "(":
        found = SHAPE.match(line, position)
        return read_shape(found), found.end()
    elements, position = [], position + 1
    while line[position] != ")":
        if found := SEPARATOR.match(line, position):
            position = found.end()
            continue
        element, position = read_type(line, position)
        elements.append(element)
    return elements, position + 1


def read_shape(found):
    dtype, dims, layout = found.groups()
    order, _, rest = (layout or "").partition(":")
    tile, space = re.match(r"T\(([\d,*]+)\)", rest), re.search(r"S\((\d+)\)", rest)
    return Shape(dtype, tuple(int(d.strip("<= ")) for d in dims.split(",") if d.strip("<= ")),
                 tuple(int(d) for d in order.split(",") if d),
                 tuple(1 if d == "*" else int(d) for d in tile[1].split(",")) if tile else (),
                 int(space[1]) if space else 0)


def leaves(kind):
    """The Shapes of a type, in order."""
    return [kind] if isinstance(kind, Shape) else [shape for element in kind for shape in leaves(element)]


# ---- the account

def account(text, slices=1):
    """What an optimised module does on each device, as a dict of plain values.

    Args:
      text: the module, as XLA prints it after optimisation.
      slices: that run it together, over the data-centre network: `num_slices` of the topology.
    Returns: {"flops", "flops_by_place": {"PLACE DIRECTION": flops}, "matrix_flops": operations times the bfloat16
      passes that each takes, "bytes_moved", "collectives": [{"kind", "network": "ici" or "dcn", "count", "bytes",
      "bytes_sent", "group": devices}], "fusions", "fusions_by_kind", "kernels": {name: calls}, "loops": [trips],
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


def unread(module):
    """Names of the collectives that an account, once made, has not come to: what starts them is a new opcode, as
    `custom-call-start` was with libtpu 0.0.52."""
    return [i.name for name, computation in module.computations.items()
            if name not in module.accounts and ("fused", name) not in module.accounts
            for i in computation.instructions.values() if i.opcode.removesuffix("-start") in COLLECTIVES]


def by_kind(collectives):
    """{(kind, network, group): {"count", "bytes", "bytes_sent"}} of counted collectives."""
    found = {}
    for (kind, network, group, size), times in collectives.items():
        figures = found.setdefault((kind, network, group), {"count": 0, "bytes": 0, "bytes_sent": 0})
        figures["count"] += times
        figures["bytes"] += times * size
        figures["bytes_sent"] += times * sent(kind, size, group)
    return {key: figures | {"bytes_sent": round(figures["bytes_sent"])} for key, figures in found.items()}


def sent(kind, size, group):
    """Bytes that each of a group must send for a collective into which it puts `size`."""
    if kind == "all-gather":
        return size * (group - 1)
    rounds = SENT.get(kind, 1.0)
    return size if rounds is None else rounds * size * (group - 1) / group


def executed(module, name):
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
                done.add(executed(module, callee))
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


def fused(module, name):
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


def count_one(done, module, computation, i):
    """Adds what one instruction computes and communicates to an Account."""
    kind = i.opcode.removesuffix("-start")
    if i.opcode in ("convolution", "dot"):
        flops = (convolution_flops if i.opcode == "convolution" else dot_flops)(computation, i)
        done.flops[place_of(i)] += flops
        done.passes += flops * passes(computation, i)
    elif i.opcode == "custom-call" and i.attribute("custom_call_target") == '"tpu_custom_call"':
        done.kernels[re.sub(r"[.\d]+$", "", i.name)] += 1
    elif kind in COLLECTIVES and not i.opcode.endswith("-done"):
        groups = groups_of(module, i)
        if len(groups[0]) > 1:
            if kind == "all-reduce" and is_scattered(computation, i):
                kind = "reduce-scatter"
            size = sum(shape.bytes for name in i.operands for shape in leaves(computation.shape(name)))
            collective = kind, "ici", len(groups[0]), size
            if "chain_id" in i.rest:  # a chain of fusions holds its start, its parts and its end
                done.overlapped[chain_of(i)] = collective, starts(computation, i)
            else:
                done.collectives[collective] += 1
    elif i.opcode == "send" and (found := re.search(r'_xla_megascale_transfer_type="(\w+)"', i.rest)):
        # What crosses slices goes by way of the hosts.
        size = leaves(computation.shape(i.operands[0]))[0].bytes
        done.collectives[DCN.get(found[1], found[1].lower().replace("_", "-")), "dcn", module.slices, size] += 1


def chain_of(i):
    """What the parts of one overlapped collective have in common."""
    return i.attribute("channel_id"), re.search(r'chain_id="?([^",}]*)', i.rest)[1]


def starts(computation, i):
    """Whether a part of an overlapped collective is its start."""
    return any(user.attribute("custom_call_target") == '"AsyncCollectiveStart"'
               for user in computation.users.get(i.name, []))


def is_scattered(computation, i):
    """Whether each device keeps a part alone of what an all-reduce gives: a reduce-scatter, as XLA writes it on TPUs in
    a fusion of both."""
    users = computation.users.get(i.name, [])
    return bool(users) and all(user.opcode == "dynamic-slice" or user.opcode == "get-tuple-element"
                               and is_scattered(computation, user) for user in users)


def place_of(i):
    """(the part of the model, "forward" or "backward") that a product's metadata name."""
    name = re.search(r'op_name="([^"]*)"', i.rest)
    name = name[1] if name else ""
    part = re.search(PLACES, name)
    again = re.search(r"rematted_computation|checkpoint/remat", name)
    backward = re.search(r"transpose\(|gradient_tape", name)
    return part[0] if part else "rest", "forward" if again or not backward else "backward"


def branches_of(i):
    """Names of a conditional's branches."""
    if listed := i.braces("branch_computations"):
        return re.findall(r"%?([\w.\-]+)", listed)
    return [i.called("true_computation"), i.called("false_computation")]


def callees(i):
    """Names of the computations that a call runs, here or on a thread beside the core; what a custom call starts may
    have none."""
    if listed := i.braces("called_computations"):
        return re.findall(r"%?([\w.\-]+)", listed)
    return [name for name in (i.called() or i.called("to_apply"),) if name]


# ---- operations

def dot_flops(computation, i):
    shape = computation.shape(i.operands[0])
    axes = [int(d) for d in i.braces("lhs_contracting_dims").split(",") if d]
    return 2 * math.prod(i.type.dims) * math.prod(shape.dims[axis] for axis in axes)


def convolution_flops(computation, i):
    """Twice the multiply-adds of a convolution: output features x input features of a group x rows x the pairs of a
    position and a window's element that are neither padding nor a hole."""
    inputs, kernel, outputs = re.match(r"(.*)_(.*)->(.*)", i.attribute("dim_labels")).groups()
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


def valid_pairs(size, window, positions, pad, stride, base, dilation):
    """Pairs of an output position and a window's element that meet an element of the input, along one axis."""
    if window == 1 and base == 1 and not pad:
        return min(positions, -(-size // stride))
    at = np.arange(positions)[:, None] * stride + np.arange(window)[None] * dilation - pad
    return int(np.count_nonzero((at >= 0) & (at % base == 0) & (at < size * base)))


def passes(computation, i):
    """bfloat16 passes of the matrix unit that a product takes: several where factors of float32 are to be kept."""
    if any(shape.bits <= 16 for name in i.operands for shape in leaves(computation.shape(name))):
        return 1
    return max(PASSES.get(word.strip(), 1) for word in (i.braces("operand_precision") or "default").split(","))


# ---- bytes

def moved(module, computation, i):
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


def fusion_moved(module, computation, i):
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


def touched(module, computation, name):
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


def written(module, computation, name, index=0):
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

def groups_of(module, i):
    """The groups of devices that a collective goes over: NumPy (groups, devices of each)."""
    if pairs := i.braces("source_target_pairs"):
        return np.array([[int(d) for d in pair.split(",")] for pair in re.findall(r"\{([\d,]+)\}", pairs)])
    listed = i.braces("replica_groups")
    if listed:
        return np.array([[int(d) for d in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", f"{listed}")])
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", i.rest):
        shape, dims, order = (tuple(map(int, part.split(","))) if part else None for part in found.groups())
        return np.arange(math.prod(dims)).reshape(dims).transpose(order).reshape(shape)
    if found := re.search(r"replica_groups=(@?mesh\S*)\[([^\]]*)\][^{]*\{([^}]*)\}", i.rest):
        return mesh_groups(found[2], found[3], i.rest)
    return np.arange(module.partitions)[None]


def mesh_groups(sizes, axes, rest):
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

def trips_of(module, computation, loop):
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


def through_copies(computation, i):
    while i.opcode in ("copy", "opt-barrier", "bitcast", "copy-done", "copy-start"):
        i = computation.instructions[i.operands[0]]
    return i


COMPARE = {"LT": lambda a, b: a < b, "LE": lambda a, b: a <= b, "GT": lambda a, b: a > b, "GE": lambda a, b: a >= b,
           "EQ": lambda a, b: a == b, "NE": lambda a, b: a != b}
SCALARS = {"add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
           "and": lambda a, b: a & b, "or": lambda a, b: a | b, "minimum": min, "maximum": max}
SAME = {"copy", "bitcast", "convert", "reshape", "copy-start", "copy-done", "opt-barrier"}


def value(module, computation, name, arguments):
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
    function = COMPARE.get(i.attribute("direction")) if i.opcode == "compare" else SCALARS.get(i.opcode)
    if function is None:
        return None
    taken = [value(module, computation, operand, arguments) for operand in i.operands]
    return None if None in taken else int(function(*taken))


def aliases(text):
    """{index of a result: number of the argument whose memory it takes} of a module's header."""
    header = text[:text.find("\n\n")]
    return {int(out or 0): int(number) for out, number in re.findall(r"\{(\d*)\}: \((\d+), \{\}", header)}
