"""Decisions that a match is made of, and how each is made otherwise: how the tensors of a kind lie, which of two kinds
of modules, or of two modules, is which.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from twinscale.common.pairs.match import Line
from twinscale.common.pairs.names import Part, Sizes, blocks_of, is_qkv, part_of
from twinscale.common.pairs.tensors import Tensor

# Changes of names' match that programs which truly differ are believed: all kernels turned, a layout that names say
# nothing of, and against what names say.
LIKELY, OPEN, UNLIKELY = 0.5, 0.3, 0.1
MOST_KINDS, MOST_ORDERS = 5, 5000  # of equal sizes, whose every order is made; of all of them together


@dataclass(frozen=True)
class State:
    """A match in the making: parts, and which option of each kind is chosen; the first, where nothing is said."""

    parts: tuple[Part, ...]
    choice: Mapping[tuple, int] = field(default_factory=dict)

    @property
    def lines(self) -> tuple[Line, ...]:
        """Those of the chosen options."""
        return tuple(line for part in self.parts
                     for line in part.options[min(self.choice.get(part.kind, 0), len(part.options) - 1)])


@dataclass(frozen=True)
class Move:
    """One decision made otherwise. `made` gives None where it cannot be."""

    what: str  # "swap", "lie" or "turned"
    of: tuple[str, ...]  # the kinds that are concerned, patterns of b's names
    made: Callable[[State], State | None]
    worth: float = UNLIKELY  # what it has to leave of a difference, where outputs do not come to agree


Class = tuple[str, ...]  # modules of b, the same one in all blocks


def classes_of(state: State) -> dict[Class, tuple]:
    """{the modules of b that are one kind on both sides, in the order of their blocks: what those share that may change
    places with them}."""
    modules = _modules(state)
    blocks = [blocks_of([names[side] for names in modules]) for side in range(2)]
    found: dict = defaultdict(list)
    for (x, y), parts in modules.items():
        sizes = tuple((part.one[0].role, math.prod(part.one[0].shape), part.one[0].trained) for part in parts)
        found[blocks[0][x][0], blocks[1][y][0], sizes].append((blocks[1][y][1], y))
    return {tuple(name for _, name in sorted(members)): (sizes, len(members))
            for (_, _, sizes), members in found.items()}


def pattern_of(members: Class) -> str:
    """The name of a class: # for the number of the block."""
    return next(iter(blocks_of(members).values()))[0] if len(members) > 1 else members[0]


def kinds_moves(state: State, classes: Mapping[Class, tuple], sizes: Sizes) -> Iterator[Move]:
    """Decisions on kinds, the likeliest first: all kernels turned; two kinds in each other's place, in all blocks;
    another layout of one kind; another image that dense layers make."""
    turns = {part.kind: part.turned for part in state.parts if part.turned and not state.choice.get(part.kind, 0)}
    if turns:
        yield Move("turned", (), lambda now: State(now.parts, {**turns, **{
            kind: k for kind, k in now.choice.items() if k}}), LIKELY)
    yield from swaps(classes, sizes)
    kinds = {part.kind: part for part in sorted(state.parts, key=lambda part: bool(
        part.one) and part.one[0].role != "kernel")}
    for k in range(1, max((len(part.options) for part in kinds.values()), default=1)):
        for kind, part in kinds.items():
            if k < len(part.options) and not (part.images and part.images[k]):
                yield Move("lie", (kind[0],), _lying({kind: (state.choice.get(kind, 0) + k) % len(part.options)}),
                           UNLIKELY if part.one and (part.turned or not _is_matrix(part)) else OPEN)
    for image in dict.fromkeys(image for part in kinds.values() for image in part.images if image):
        yield Move("lie", (), _lying({kind: part.images.index(image) for kind, part in kinds.items()
                                      if image in part.images}), OPEN)


def swaps(classes: Mapping[Class, tuple], sizes: Sizes) -> Iterator[Move]:
    """Two kinds in each other's place, in all blocks."""
    names = list(classes)
    for i, one in enumerate(names):
        for other in names[i + 1:]:
            if classes[one] == classes[other]:
                yield Move("swap", (pattern_of(one), pattern_of(other)),
                           _placing(dict(zip(one + other, other + one, strict=True)), sizes))


def orders(classes: Mapping[Class, tuple], sizes: Sizes) -> Iterator[Move]:
    """Every order of kinds of equal sizes, those that move few kinds first."""
    groups: dict = defaultdict(list)
    for members, shared in classes.items():
        groups[shared].append(members)
    several = [group[:MOST_KINDS] for group in groups.values() if len(group) > 1]
    found = itertools.islice(itertools.product(*(itertools.permutations(group) for group in several)), MOST_ORDERS)
    pairs = [[(one, other) for group, order in zip(several, chosen, strict=True)
              for one, other in zip(group, order, strict=True) if one != other] for chosen in found]
    for moved in sorted(pairs, key=len)[1:]:
        sources = {x: y for one, other in moved for x, y in zip(one, other, strict=True)}
        yield Move("order", tuple(pattern_of(one) for one, _ in moved), _placing(sources, sizes))


def modules_moves(members: Class, sizes: Sizes) -> Iterator[Move]:
    """Two modules of one kind in each other's place, neighbours first."""
    for apart in range(1, len(members)):
        for one, other in zip(members, members[apart:], strict=False):
            yield Move("swap", (one, other), _placing({one: other, other: one}, sizes))


def regroupings(state: State, a: Sequence[Tensor], sizes: Sizes) -> Iterator[Move]:
    """Other modules of a within one tensor of b, in all blocks: a single one of the same sizes for one of those that
    are joined, as they lie now and in every other way."""
    of_a: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for tensor in a:
        of_a[tensor.home][tensor.role] = tensor
    joined: dict[tuple, list[Part]] = defaultdict(list)
    for part in state.parts:
        if not part.one:
            joined[part.kind].append(part)
    paths = {tensor.path: tensor for tensor in a}
    partners = {y: x for x, y in _modules(state)}
    for kind, parts in joined.items():
        groups = [tuple(dict.fromkeys(paths[name].home for name in part.a)) for part in parts]
        for place in range(0 if all(map(is_qkv, groups[0])) else len(groups[0])):  # names say which three they are
            for members in classes_of(state):
                singles = [partners[member] for member in members]
                pairs = list(zip((group[place] for group in groups), singles, strict=False))
                if len(singles) != len(groups) or not all(_same_sizes(of_a[x], of_a[y]) for x, y in pairs):
                    continue
                names = {of_a[x][role].path: of_a[y][role].path for one in pairs for x, y in (one, one[::-1])
                         for role in of_a[x]}
                for option in range(len(parts[0].options)):
                    yield Move("regroup", (kind[0], pattern_of(members)),
                               _regrouped(names, paths, {kind: option}, sizes), OPEN)


def _same_sizes(one, other):
    return {role: x.shape for role, x in one.items()} == {role: x.shape for role, x in other.items()}


def _regrouped(names, paths, choice, sizes):
    """{path of a: the one that takes its place}."""
    def moved(part):
        if part.one:
            x = paths[names.get(part.one[0].path, part.one[0].path)]
            return part_of(x, part.one[1], sizes, (x.home, part.modules[1]))
        return replace(part, options=tuple(tuple(replace(line, a=tuple(names.get(one, one) for one in line.a))
                                                 for line in lines) for lines in part.options))

    return lambda now: State(tuple(map(moved, now.parts)), {**now.choice, **choice})


def _is_matrix(part):
    return all(len(tensor.shape) == 2 for tensor in part.one)


def _lying(new):
    return lambda now: State(now.parts, {**now.choice, **new})


def _placing(sources: Mapping[str, str], sizes: Sizes) -> Callable[[State], State | None]:
    """{module of b: the one whose tensors of a it gets}. What was turned stays turned."""
    def made(now: State) -> State | None:
        modules = {y: parts for (_, y), parts in _modules(now).items()}
        new, choice = {}, dict(now.choice)
        for one, other in sources.items():
            for p, q in zip(modules[one], modules[other], strict=True):
                part = part_of(q.one[0], p.one[1], sizes, (q.modules[0], p.modules[1]))
                if part.turned and now.choice.get(p.kind, 0) == p.turned:
                    choice.setdefault(part.kind, part.turned)
                new[p.b] = part
        if not all(part.options for part in new.values()):
            return None
        return State(tuple(new.get(part.b, part) for part in now.parts), choice)

    return made


def _modules(state) -> dict[tuple[str, str], list[Part]]:
    """{(module of a, of b): its parts, by their roles}, of parts that are of one tensor each."""
    found: dict = defaultdict(list)
    for part in state.parts:
        if part.one:
            found[part.modules].append(part)
    return {names: sorted(parts, key=lambda part: (part.one[0].role, math.prod(part.one[0].shape)))
            for names, parts in found.items()}
