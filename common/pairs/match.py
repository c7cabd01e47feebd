"""A match: which tensors of side a make each tensor of side b, and how they lie there; as a file, match.toml, to read,
edit and keep.

    [tensors]
    "Dense_0/kernel" = "dense/kernel"
    "head/weight" = "logits/kernel | transpose 1 0"
    "attn/qkv/kernel" = "query/kernel, key/kernel, value/kernel | join 1"
    "layer/{i}/fc/kernel" = "block_{i}/mlp/kernel"          # of every block

A line says of a tensor of b what it is made of; one with {i} of the tensors of all blocks.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired

import numpy as np
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import exists, read_text, read_toml, shown, write_text
from twinscale.common.files.kinds import STRICT
from twinscale.common.pairs.layouts import Steps, shape_after, steps_of, text_of, turned
from twinscale.common.pairs.tensors import Tensor

HEAD = """# Which tensors of {a} make each tensor of {b}, and how they lie, for `twinscale.check(..., match=FILE)`.
# A line may be changed by hand. Steps, from left to right: transpose AXES, reshape SHAPE, slice AXIS START STOP,
# pad AXIS N, join AXIS. A name with {{i}} stands for all blocks.
"""


FIX = "write it by hand, or leave it out"


class Idle(TypedDict):
    """Tensors of either side that no output depends on."""

    __pydantic_config__ = STRICT

    a: NotRequired[list[str]]
    b: NotRequired[list[str]]


class Order(TypedDict):
    """For each of b's calls of stock dropout within a forward pass, in its order, which of a's it is, from 1 on."""

    __pydantic_config__ = STRICT

    order: list[int]


class MatchFile(TypedDict):
    """What match.toml holds: {tensor of b: what it is made of}."""

    __pydantic_config__ = STRICT

    tensors: dict[str, str]
    idle: NotRequired[Idle]
    dropout: NotRequired[Order]
    computes: NotRequired[Literal["float32"]]


@dataclass(frozen=True)
class Line:
    """What one tensor of b is made of: tensors of a, by steps."""

    b: str
    a: tuple[str, ...]
    steps: Steps = ()
    sure: str = field(default="", compare=False)  # what is known of it: a comment in the file

    @property
    def text(self) -> str:
        """As match.toml has it."""
        return " | ".join(filter(None, (", ".join(self.a), text_of(self.steps))))


@dataclass(frozen=True)
class Match:
    """A Line for each tensor of b, and the tensors of either side that nothing was found for."""

    lines: tuple[Line, ...]
    unmatched_a: tuple[str, ...] = ()
    unmatched_b: tuple[str, ...] = ()
    idle_a: tuple[str, ...] = ()  # what no output depends on has no line, and keeps its first values
    idle_b: tuple[str, ...] = ()
    dropout: tuple[int, ...] = ()  # for each of b's calls of dropout which of a's it is, from 0; (): in a's order
    notes: tuple[str, ...] = field(default=(), compare=False)


def carried(match: Match, tensors: Mapping[str, Any], xp: Any = np) -> dict[str, Any]:
    """The tensors of b, {path: array}, that a match makes of those of a; arrays of the library `xp` (numpy, jax.numpy
    or keras.ops). Raises BadInput, which names the line, where a step does not fit."""
    found = {}
    for line in match.lines:
        try:
            found[line.b] = turned(line.steps, [tensors[name] for name in line.a], xp)
        except KeyError as error:
            raise BadInput(f"{line.b}: there is no {error.args[0]}{did_you_mean(error.args[0], tensors)}") from None
        except BadInput as error:
            raise BadInput(f"{line.b}: {error}") from None
    return found


def returned(match: Match, a: Sequence[Tensor], b: Sequence[Tensor], tensors: Mapping[str, Any], xp: Any = np
             ) -> dict[str, Any]:
    """The tensors of a, {path: array}, that those of b are made of: what `carried` does, taken back. Of a's, those that
    are wholly in `tensors`; where an element is in several places, from the last of them.

    Args:
      a, b: the tensors of both programs.
      tensors: {path: array} of some of b, of the library `xp`.
    """
    ends, places = 0, {}
    for tensor in a:
        size = math.prod(tensor.shape)
        places[tensor.path] = np.arange(ends + 1, ends + size + 1).reshape(tensor.shape)  # 0: of padding
        ends += size
    lies, parts, start = np.full(ends + 1, -1), [], 0
    for name, index in carried(match, places).items():
        if name in tensors:
            lies[index.ravel()] = np.arange(start, start + index.size)
            parts.append(xp.reshape(tensors[name], (-1,)))
            start += index.size
    if not parts:
        return {}
    flat = xp.concatenate(parts)
    wanted = {tensor.path: lies[places[tensor.path]] for tensor in a}
    return {name: xp.take(flat, index) for name, index in wanted.items() if index.size and (index >= 0).all()}


def checked(match: Match, a: Sequence[Tensor], b: Sequence[Tensor]) -> None:
    """Raises BadInput where a match does not fit two programs: a tensor of b without a line, a name that nobody has,
    steps that do not fit, a tensor of a that is used nowhere."""
    of_a, of_b = ({tensor.path: tensor for tensor in side} for side in (a, b))
    lines = {line.b: line for line in match.lines}
    for name in lines:
        if name not in of_b:
            raise BadInput(f"{shown(name)}: b has no such tensor{did_you_mean(name, of_b)}")
    for line in match.lines:
        for name in line.a:
            if name not in of_a:
                raise BadInput(f"{shown(line.b)}: a has no tensor {shown(name)}{did_you_mean(name, of_a)}")
        try:
            shape = shape_after(line.steps, [of_a[name].shape for name in line.a])
        except BadInput as error:
            raise BadInput(f"{shown(line.b)} = {shown(line.text)}: {error}") from None
        if shape != of_b[line.b].shape:
            raise BadInput(f"{shown(line.b)} = {shown(line.text)}: makes {shape}, but {of_b[line.b].shape} is wanted")
    for side, names, known in (("a", match.idle_a, of_a), ("b", match.idle_b, of_b)):
        for name in names:
            if name not in known:
                raise BadInput(f"idle.{side}: {shown(name)}: there is no such tensor{did_you_mean(name, known)}")
    for name in of_b:
        if name not in lines and name not in match.idle_b:
            raise BadInput(f"{shown(name)}: nothing is said of this tensor of b{did_you_mean(name, of_a)}")
    used = {name for line in match.lines for name in line.a}
    for name in of_a:
        if name not in used and name not in match.idle_a:
            raise BadInput(f"{shown(name)}: this tensor of a goes nowhere{did_you_mean(name, of_b)}")


def without_partner(match: Match, a: Sequence[Tensor], b: Sequence[Tensor], sides: tuple[str, str]) -> str:
    """The tensors of either side that a match has found nothing for, with their shapes, six of a side at most; "" where
    there are none."""
    shapes = {tensor.path: tensor.shape for tensor in (*a, *b)}
    return "; ".join(f"{side}: " + ", ".join(f"{name} {shapes[name]}" for name in names[:6])
                     for side, names in zip(sides, (match.unmatched_a, match.unmatched_b), strict=True) if names)


# ---- the file

def write_match(path: Any, match: Match, a: str = "a", b: str = "b") -> None:
    """Writes match.toml: a line a tensor, or one for the tensors of all blocks, with what is known of it."""
    lines = [HEAD.format(a=a, b=b), *(f"# {note}\n" for note in match.notes), "[tensors]\n"]
    for name, text, sure in _compressed(match.lines):
        lines.append(f'{_quoted(name)} = {_quoted(text)}' + (f"  # {sure}" if sure else "") + "\n")
    for side, names in (("a", match.unmatched_a), ("b", match.unmatched_b)):
        lines += [f"# of {side}, without a partner: {name}\n" for name in names]
    if match.idle_a or match.idle_b:
        lines.append("\n[idle]  # what no output depends on: no gradient reaches it\n")
        lines += [f"{side} = [{', '.join(map(_quoted, names))}]\n" for side, names in (
            ("a", match.idle_a), ("b", match.idle_b))]
    if match.dropout:
        lines.append("\n[dropout]  # b's calls in its own order: which of a's each is, by its rate and shape\n")
        lines.append(f"order = {[number + 1 for number in match.dropout]}\n")
    write_text(path, "".join(lines))


def read_match(path: Any, b: Sequence[Tensor]) -> Match:
    """The Match of a file, for a program with the tensors b, whose blocks tell {i} apart. Raises BadInput with the file
    and the line."""
    text, lines = read_text(path), []
    found = read_toml(path, MatchFile, FIX)
    for name, value in found["tensors"].items():
        at = f"{shown(path)}:{_line_of(text, name)}: {shown(name)}"
        sources, _, steps = value.partition("|")
        try:
            line = Line(name, tuple(source.strip() for source in sources.split(",")), steps_of(steps))
        except BadInput as error:
            raise BadInput(f"{at}: {error}") from None
        if "{i}" not in name:
            lines.append(line)
            continue
        blocks = _blocks(name, [tensor.path for tensor in b])
        if not blocks:
            raise BadInput(f"{at}: no tensor of b is called so")
        lines += [Line(name.replace("{i}", i), tuple(one.replace("{i}", i) for one in line.a), line.steps)
                  for i in blocks]
    order = {tensor.path: i for i, tensor in enumerate(b)}
    idle, drops = found.get("idle", {}), found["dropout"]["order"] if "dropout" in found else []
    if sorted(drops) != list(range(1, len(drops) + 1)):
        raise BadInput(f"{shown(path)}: dropout.order = {drops}: each of 1 to {len(drops)} once is wanted, for each "
                       "call of b's dropout the number of a's")
    return Match(tuple(sorted(lines, key=lambda line: order.get(line.b, len(order)))),
                 idle_a=tuple(idle.get("a", ())), idle_b=tuple(idle.get("b", ())),
                 dropout=tuple(number - 1 for number in drops))


def computes_in(path: Any) -> str:
    """"float32" where a match.toml says that a program of the pair computes in that whatever comes in; else ""."""
    return read_toml(path, MatchFile, FIX).get("computes", "") if exists(path) else ""


def with_computes(text: str, why: Sequence[str]) -> str:
    """The text of a match.toml that says so, with the places where programs first do."""
    said = "".join(f"# {one}\n" for one in why)
    return text.replace("[tensors]", f'{said}computes = "float32"  # whatever comes in, so that nothing is compared in '
                        "float64\n\n[tensors]", 1)


def _compressed(lines):
    """(name, text, sure) of lines, those of all blocks in one where they differ by the block's number alone."""
    written, done = [], set()
    by_name = {line.b: line for line in lines}
    for line in lines:
        if line.b in done:
            continue
        rule = _rule(line, by_name)
        written.append((*rule[:2], line.sure) if rule else (line.b, line.text, line.sure))
        done |= set(rule[2]) if rule else {line.b}
    return written


def _rule(line, by_name):
    """(name, text, names) of a line with {i}, which two tensors or more are covered by, and all that its name means."""
    for found in re.finditer(r"\d+", line.b):
        name, number = line.b[:found.start()] + "{i}" + line.b[found.end():], found[0]
        sources = [_numbered(one, number) for one in line.a]
        if not all(sources):
            continue
        for texts in _choices(sources):
            text = Line(name, texts, line.steps).text
            blocks = _blocks(name, by_name)
            if len(blocks) > 1 and all(by_name[name.replace("{i}", i)].text == text.replace("{i}", i)
                                       and by_name[name.replace("{i}", i)].sure == line.sure for i in blocks):
                return name, text, [name.replace("{i}", i) for i in blocks]
    return None


def _numbered(name, number):
    """Ways to write {i} for one occurrence of a number in a name."""
    return [name[:m.start()] + "{i}" + name[m.end():] for m in re.finditer(r"\d+", name) if m[0] == number]


def _choices(sources):
    return [tuple(one[min(k, len(one) - 1)] for one in sources) for k in range(max(map(len, sources)))]


def _blocks(name, names):
    """The numbers that {i} stands for in a name, as texts."""
    pattern = re.compile(re.escape(name).replace(re.escape("{i}"), r"(\d+)", 1).replace(re.escape("{i}"), r"\1"))
    return [found[1] for found in map(pattern.fullmatch, names) if found]


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _line_of(text, name):
    """The number of the line that begins with a name."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().strip("\"'").startswith(name):
            return number
    return 1
