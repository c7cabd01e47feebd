"""The text of an optimised XLA module as what it says: its computations, their instructions, what these make."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from re import Match
from typing import Any

BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}  # of an element; else the digits of its type's name
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
FOOTER = re.compile(r'^\}(, execution_thread="[^"]*")?$')  # of another thread are those that run beside the core
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
SHAPE = re.compile(r"([a-z]\w*)\[([^\]]*)\](?:\{([^}]*)\})?")
SEPARATOR = re.compile(r", |/\*[^*]*\*/")


@dataclass(frozen=True)
class Shape:
    """An array: its element type, dimensions, and how it lies: minor to major, in tiles, in a memory space (0: HBM)."""

    dtype: str
    dims: tuple
    order: tuple = ()
    tile: tuple = ()
    space: int = 0

    @property
    def bits(self) -> int:
        """Of an element."""
        return BITS.get(self.dtype, int((re.findall(r"\d+", self.dtype) or ["8"])[0]))

    @property
    def bytes(self) -> int:
        """Without padding."""
        return math.ceil(math.prod(self.dims) * self.bits / 8)

    @property
    def held(self) -> int:
        """Bytes as it lies, each dimension that is tiled a multiple of its tile."""
        lying = [self.dims[axis] for axis in reversed(self.order)] or list(self.dims)
        for i in range(1, min(len(self.tile), len(lying)) + 1):
            lying[-i] = -(-lying[-i] // self.tile[-i]) * self.tile[-i]
        return math.ceil(math.prod(lying) * self.bits / 8)

    @property
    def moved(self) -> int:
        """Bytes that go over HBM's wires when all of it is read or written."""
        return 0 if self.space else self.held


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    type: Any  # a Shape, or a list of such for a tuple
    opcode: str
    operands: tuple  # names
    literal: str  # what stands between the parentheses
    rest: str  # attributes, as text

    @cached_property
    def shapes(self) -> list[Shape]:
        """The Shapes of its result, in order."""
        return leaves(self.type)

    def called(self, key: str = "calls") -> str | None:
        """The name of a computation among the attributes, or None."""
        found = re.search(rf"\b{key}=%?([\w.\-]+)", self.rest)
        return found and found[1]

    def attribute(self, key: str, value: str = r"[^,\s]+") -> str | None:
        """The text of an attribute, or None."""
        found = re.search(rf"\b{key}=({value})", self.rest)
        return found and found[1]

    def braces(self, key: str) -> str:
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
    def parameters(self) -> dict[int, str]:
        """{number: name}."""
        return {int(i.literal): i.name for i in self.instructions.values() if i.opcode == "parameter"}

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """{name: instructions that take it}."""
        found = {}
        for instruction in self.instructions.values():
            for name in dict.fromkeys(instruction.operands):
                found.setdefault(name, []).append(instruction)
        return found

    def shape(self, name: str) -> Any:
        """The type of an instruction, by its name."""
        return self.instructions[name].type


@dataclass
class Module:
    """A parsed module."""

    computations: dict
    entry: str
    partitions: int
    slices: int = 1
    accounts: dict = field(default_factory=dict)

    @cached_property
    def started(self) -> set[Any]:
        """Chains of overlapped collectives whose start the text shows."""
        return {chain_of(i) for computation in self.computations.values() for i in computation.instructions.values()
                if "chain_id" in i.rest and starts(computation, i)}


# ---- text to structure

def parse(text: str) -> Module:
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


def whole_lines(text: str) -> Iterator[str]:
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


def read_instruction(name: str, line: str, position: int) -> Instruction:
    """The Instruction of a line, whose type begins at a position."""
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


def read_type(line: str, position: int) -> tuple[Any, int]:
    """(Shape or list of types, where it ends)."""
    if line[position] != "(":
        found: Any = SHAPE.match(line, position)
        return read_shape(found), found.end()
    elements, position = [], position + 1
    while line[position] != ")":
        if found := SEPARATOR.match(line, position):
            position = found.end()
            continue
        element, position = read_type(line, position)
        elements.append(element)
    return elements, position + 1


def read_shape(found: Match[str]) -> Shape:
    """The Shape of a match of its text."""
    dtype, dims, layout = found.groups()
    order, _, rest = (layout or "").partition(":")
    tile, space = re.match(r"T\(([\d,*]+)\)", rest), re.search(r"S\((\d+)\)", rest)
    return Shape(dtype, tuple(int(d.strip("<= ")) for d in dims.split(",") if d.strip("<= ")),
                 tuple(int(d) for d in order.split(",") if d),
                 tuple(1 if d == "*" else int(d) for d in tile[1].split(",")) if tile else (),
                 int(space[1]) if space else 0)


def leaves(kind: Any) -> list[Shape]:
    """The Shapes of a type, in order."""
    return [kind] if isinstance(kind, Shape) else [shape for element in kind for shape in leaves(element)]


def chain_of(i: Instruction) -> tuple[str | None, str]:
    """What the parts of one overlapped collective have in common."""
    found: Any = re.search(r'chain_id="?([^",}]*)', i.rest)
    return i.attribute("channel_id"), found[1]


def starts(computation: Computation, i: Instruction) -> bool:
    """Whether a part of an overlapped collective is its start."""
    return any(user.attribute("custom_call_target") == '"AsyncCollectiveStart"'
               for user in computation.users.get(i.name, []))
