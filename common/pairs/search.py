"""Finds which tensors of two programs are one another's, without rules: by the sizes of modules, the likeness of
names, blocks by their rank, and then by trial: two programs whose outputs agree on one batch, at weights that are
nowhere zero, one or equal, have their tensors matched.

A first match is made of names alone. Where the outputs differ, one decision after the other is tried otherwise: how the
tensors of a class lie (a class has the same tensor of all blocks), and which of two modules of equal sizes is which.
The best of a round is kept. In the end it has to have brought the outputs to agree, or much nearer: programs that truly
differ keep the names' match.
"""

import itertools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from twinscale.common.pairs.layouts import cut, flattened, fused, layouts
from twinscale.common.pairs.match import Line, Match
from twinscale.common.pairs.tensors import Tensor, block_of, likeness

AGREES = 1e-4  # of outputs, relative: far above float32's rounding of a small program, far below any wrong tensor
MUCH_NEARER = 0.3  # what is left of a difference that a change has to have been worth
SAME_RANK, SAME_ORDER = 1.0, 0.5  # what it counts, beside likeness from 0 to 2, that blocks and places correspond
WRONG = 1e3  # the cost of a pair that cannot be
Judge = Callable[[Match], float]  # the difference of outputs under a match, relative


@dataclass(frozen=True)
class Part:
    """Tensors that are decided together: the ways in which those of b may be made, the lines of each."""

    options: tuple[tuple[Line, ...], ...]
    kind: tuple  # of its class: what the tensors of all blocks share

    @property
    def b(self) -> tuple[str, ...]:
        """Those of b."""
        return tuple(line.b for line in self.options[0])

    @property
    def a(self) -> tuple[str, ...]:
        """Those of a."""
        return tuple(dict.fromkeys(name for line in self.options[0] for name in line.a))

    def of(self, a: tuple[str, ...]) -> "Part":
        """The same of other tensors of a, of a part that has one line."""
        return replace(self, options=tuple((replace(line, a=a),) for (line,) in self.options))


Module = Mapping[str, Tensor]  # by what a tensor is in its module: a role, or a name where two have one role


def find(a: Sequence[Tensor], b: Sequence[Tensor], judge: Judge, seconds: float = 60.0,
         tell: Callable[[str], None] = lambda said: None) -> tuple[Match, float, int]:
    """(the match, the outputs' difference under it, how many were tried).

    Args:
      a: the tensors of the program whose layout is kept.
      b: the tensors of the other.
      judge: runs both programs once; infinite where the match does not fit.
      seconds: after which no further one is tried.
      tell: takes a line on how far it is.
    """
    parts, left_a, left_b = matched_by_names(a, b)
    match = Match((), tuple(left_a), tuple(left_b))
    if left_a or left_b or not parts:
        return replace(match, lines=_lines(parts, Counter())), math.inf, 0
    return _by_trial(parts, match, judge, seconds, tell)


# ---- by names

def matched_by_names(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[list[Part], list[str], list[str]]:
    """(parts, paths of a that are left, paths of b that are left): modules of equal sizes, then several in one and one
    in several, then single tensors, and tables that one side has twice."""
    heads = _heads([*a, *b])
    channels = sorted({size for tensor in [*a, *b] if len(tensor.shape) == 4 for size in tensor.shape}, reverse=True)
    of_a, of_b = _modules(a), _modules(b)
    parts = []
    pairs = list(_assigned(of_a, of_b))
    for x, y in pairs:
        parts += [_part(of_a[x][role], of_b[y][role], channels) for role in of_b[y]]
        del of_a[x], of_b[y]
    parts += _fused(of_a, of_b, heads)
    left_a, left_b = ([tensor for module in of.values() for tensor in module.values()] for of in (of_a, of_b))
    parts += _singles(left_a, left_b, channels)
    used_a, used_b = {name for part in parts for name in part.a}, {name for part in parts for name in part.b}
    for tensor in [tensor for tensor in left_b if tensor.path not in used_b]:  # a table that a shares and b has twice
        twins = [one for one in a if one.role == "embedding" and layouts(one.shape, tensor.shape)]
        if len(twins) == 1 and tensor.role in ("kernel", "embedding"):
            parts.append(_part(twins[0], tensor, channels))
            used_b.add(tensor.path)
    return (parts, [tensor.path for tensor in a if tensor.path not in used_a],
            [tensor.path for tensor in b if tensor.path not in used_b])


def _modules(tensors) -> dict[str, dict[str, Tensor]]:
    """{module: {role: Tensor}}; roles that a module has twice are told apart by their sizes and order."""
    found: dict = defaultdict(dict)
    for tensor in tensors:
        role, module = tensor.role, found[tensor.module]
        alike = sum(one.role == role for one in module.values())
        module[f"{role} {alike}" if alike else role] = tensor
    # A module with several kernels and as many vectors is none: functions keep all tensors of a program in one.
    return {name if len(module) <= 6 else f"{name}/{role}": module if len(module) <= 6 else {role: tensor}
            for name, module in found.items() for role, tensor in module.items()}


def _signature(module: Module) -> tuple:
    return tuple(sorted((role, math.prod(tensor.shape)) for role, tensor in module.items()))


def _assigned(of_a, of_b) -> Iterator[tuple[str, str]]:
    """Modules of equal signature, paired by likeness, blocks and order."""
    by_signature: dict = defaultdict(lambda: ([], []))
    for side, modules in enumerate((of_a, of_b)):
        for name, module in modules.items():
            by_signature[_signature(module)][side].append(name)
    ranks = [_ranks(list(modules)) for modules in (of_a, of_b)]
    for one, other in by_signature.values():
        if one and other:
            costs = np.array([[-_likeness(x, y, ranks) for y in other] for x in one])
            yield from ((one[i], other[j]) for i, j in zip(*linear_sum_assignment(costs), strict=True))


def _ranks(names):
    """{name: (the rank of its block among those of its pattern, how many there are, its place from 0 to 1)}."""
    numbers: dict = defaultdict(set)
    for name in names:
        pattern, number = block_of(name)
        numbers[pattern].add(number)
    found = {}
    for place, name in enumerate(names):
        pattern, number = block_of(name)
        found[name] = (sorted(numbers[pattern]).index(number), len(numbers[pattern]), place / max(len(names) - 1, 1))
    return found


def _likeness(x, y, ranks):
    one, other = ranks[0][x], ranks[1][y]
    same = one[:2] == other[:2]
    return likeness(x, y) + SAME_RANK * same + SAME_ORDER * (1 - abs(one[2] - other[2]))


def _part(x: Tensor, y: Tensor, channels) -> Part:
    ways = layouts(x.shape, y.shape)
    if x.role == "kernel" and len(x.shape) == len(y.shape) == 2 and math.prod(x.shape) == math.prod(y.shape):
        ways = [*ways, *(steps for steps in flattened(x.shape, y.shape, channels) if steps not in ways)]
    return Part(tuple((Line(y.path, (x.path,), steps),) for steps in ways), (block_of(y.path)[0], x.shape, y.shape))


def _singles(left_a, left_b, channels) -> list[Part]:
    """Tensors that are left, by their sizes and their likeness; of a padded vocabulary by one axis that differs."""
    if not left_a or not left_b:
        return []
    ranks = [_ranks([tensor.path for tensor in left]) for left in (left_a, left_b)]
    costs = np.array([[-_likeness(x.path, y.path, ranks) if _can_be(x, y) else WRONG for y in left_b] for x in left_a])
    return [_part(left_a[i], left_b[j], channels) for i, j in zip(*linear_sum_assignment(costs), strict=True)
            if costs[i, j] < WRONG]


def _can_be(x, y):
    return x.trained == y.trained and (x.role == y.role or {x.role, y.role} <= {"kernel", "embedding"}) and bool(
        layouts(x.shape, y.shape))


def _fused(of_a, of_b, heads) -> list[Part]:
    """Modules that are several on one side and one on the other; what is matched is taken out of both."""
    parts = []
    for several, one, is_cut in ((of_a, of_b, False), (of_b, of_a, True)):
        for whole in list(one):
            group = next(_groups(several, one[whole], whole), None)
            if group is None:
                continue
            options = _arranged({role: ([several[name][role] for name in group], tensor)
                                 for role, tensor in one[whole].items()}, is_cut, heads)
            if not options:
                continue
            shapes = tuple(several[name][role].shape for name in group for role in one[whole])
            parts.append(Part(options, (block_of(whole)[0], shapes)))
            for name in group:
                del several[name]
            del one[whole]
    return parts


def _arranged(roles, is_cut, heads) -> tuple[tuple[Line, ...], ...]:
    """Lines of all of a module's tensors, {role: (several, one)}, for each way in which all of them lie: biases lie as
    kernels do."""
    by_way: dict = {}
    for role, (several, one) in roles.items():
        shapes, names = [tensor.shape for tensor in several], tuple(tensor.path for tensor in several)
        ways = cut(one.shape, shapes, heads) if is_cut else fused(shapes, one.shape, heads)
        for way, steps in ways:
            made: tuple[Line, ...] = (Line(one.path, names, steps),)
            if is_cut:
                made = tuple(Line(name, (one.path,), each) for name, each in zip(names, steps, strict=True))
            by_way.setdefault(way, {}).setdefault(role, []).append(made)
    found = []
    for lines in by_way.values():
        if lines.keys() == roles.keys():
            found += [sum(chosen, ()) for chosen in itertools.islice(itertools.product(*lines.values()), 12)]
    return tuple(found)


def _groups(several, whole: Module, name: str) -> Iterator[list[str]]:
    """Modules of one parent whose sizes add up to those of `whole`, queries, keys and values in this order; the
    likest parent first."""
    by_parent: dict = defaultdict(list)
    for other, module in several.items():
        if module.keys() == whole.keys():
            by_parent[other.rpartition("/")[0]].append(other)
    def order(parent):
        return -_rank_alike(parent, name, by_parent), -likeness(parent, name)

    for parent in sorted(by_parent, key=order):
        members = sorted(by_parent[parent], key=_qkv)
        for count in (3, 2):
            for start in range(len(members) - count + 1):
                group = members[start:start + count]
                if all(sum(math.prod(several[one][role].shape) for one in group) == math.prod(tensor.shape)
                       for role, tensor in whole.items()):
                    yield group


def _rank_alike(parent, name, parents):
    """Whether two names have the same number of a block, counted from the first of a side."""
    first = min(block_of(other)[1] for other in parents)
    return block_of(parent)[1] - first == 0 or block_of(parent)[1] == block_of(name)[1]


def _qkv(name):
    """The place of queries, keys and values, by a module's last words; 3 of any other."""
    alike = [likeness(name.rpartition("/")[2], word) for word in ("query", "key", "value")]
    return alike.index(max(alike)) if max(alike) > 1.4 else 3


def _heads(tensors):
    """Numbers of heads to try: axes of three-dimensional kernels, then small powers of two and three."""
    seen = [size for tensor in tensors if len(tensor.shape) == 3 for size in tensor.shape if size <= 64]
    return list(dict.fromkeys([*seen, 2, 4, 8, 3, 6, 12, 16, 1]))


# ---- by trial

def _lines(parts, choice) -> tuple[Line, ...]:
    return tuple(line for part in parts for line in part.options[min(choice[part.kind], len(part.options) - 1)])


def _by_trial(parts, match, judge, seconds, tell):
    ends, tried, choice = time.monotonic() + seconds, 0, Counter()

    def difference(parts, choice):
        nonlocal tried
        tried += 1
        return judge(replace(match, lines=_lines(parts, choice)))

    first = best = difference(parts, choice)
    tell(f"by names: outputs differ by {best:.1e}")
    names = parts, dict(choice)
    moved = True
    while moved and not best <= AGREES and time.monotonic() < ends:
        nearest = best, parts, choice
        for new in _moves(parts, choice):
            found = difference(*new)
            if found < nearest[0]:
                nearest = found, *new
            if found <= AGREES or time.monotonic() > ends:
                break
        moved = nearest[0] < 0.98 * best
        if moved:
            best, parts, choice = nearest
            tell(f"trial {tried}: outputs differ by {best:.1e}")
    if best > AGREES and not best <= MUCH_NEARER * first:
        parts, choice, best = names[0], Counter(names[1]), first
    return replace(match, lines=_lines(parts, choice)), best, tried


def _moves(parts, choice):
    """(parts, choice) one decision away, the likeliest first: all kernels turned; another layout of one class; two
    modules of one signature in each other's place."""
    turned = Counter(choice)
    for part in parts:
        for k, option in enumerate(part.options):
            if [[step[0] for step in line.steps] for line in option] == [["transpose"]] and not choice[part.kind]:
                turned[part.kind] = k
                break
    if turned != choice:
        yield parts, turned
    options = {part.kind: len(part.options) for part in parts}
    for k in range(1, max(options.values(), default=1)):
        for kind, count in options.items():
            if k < count:
                changed = Counter(choice)
                changed[kind] = (choice[kind] + k) % count
                yield parts, changed
    yield from ((swapped, choice) for swapped in _swaps(parts))


def _swaps(parts):
    """Parts in which the tensors of a of two classes, in all blocks, or of two modules, are in each other's place."""
    modules: dict = defaultdict(list)
    for part in parts:
        if len(part.options[0]) == 1 and len(part.a) == 1:
            modules[part.b[0].rpartition("/")[0]].append(part)
    by_class: dict = defaultdict(list)
    for name, members in modules.items():
        by_class[block_of(name)[0], tuple(part.kind[1:] for part in members)].append(members)
    kinds = list(by_class.items())
    for i, ((_, one), members) in enumerate(kinds):
        for (_, other), others in kinds[i + 1:]:
            if one == other and len(members) == len(others):
                yield _exchanged(parts, list(zip(members, others, strict=True)))
        for j in range(len(members)):
            for k in range(j + 1, len(members)):
                yield _exchanged(parts, [(members[j], members[k])])


def _exchanged(parts, pairs):
    new = {}
    for one, other in pairs:
        for x, y in zip(one, other, strict=True):
            new[x.b], new[y.b] = x.of(y.a), y.of(x.a)
    return [new.get(part.b, part) for part in parts]
