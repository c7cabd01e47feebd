"""Which tensors of two programs are one another's, by their names: the sizes of modules, kinds of modules, which are
the same module in all blocks, the likeness of words, and blocks by their rank.

Kinds are paired first, each as a whole; then what is left: queries, keys and values that are one tensor on one side,
single modules, single tensors, and a table that one side has twice.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from twinscale.common.pairs.layouts import cut, flattened, fused, imaged, layouts, turned_among
from twinscale.common.pairs.match import Line
from twinscale.common.pairs.tensors import Tensor, alike, block_of, likeness, words

SAME_RANK, SAME_ORDER = 1.0, 0.5  # what it counts, beside likeness from 0 to 2, that blocks and places correspond
ALL_WORDS, SAME_SHAPE = 0.5, 0.5  # of kinds, beside the words that tell them apart: all their words, and their shapes
WRONG = 1e3  # the cost of a pair that cannot be
QKV = ("query", "key", "value")
Module = Mapping[str, Tensor]  # by what a tensor is in its module: a role, or a name where two have one role


@dataclass(frozen=True)
class Part:
    """Tensors that are decided together: the ways in which those of b may be made, the lines of each."""

    options: tuple[tuple[Line, ...], ...]
    kind: tuple  # of its class, whose tensors lie alike: what the tensors of all blocks share
    one: tuple[Tensor, ...] = ()  # of a and of b, where it is of one tensor each
    images: tuple = ()  # of each option, the image that columns make (`layouts.imaged`), or None
    modules: tuple[str, str] = ("", "")  # of a and of b, where it is of one tensor each
    turned: int | None = None  # the option in which a kernel is turned

    @property
    def b(self) -> tuple[str, ...]:
        """Those of b."""
        return tuple(line.b for line in self.options[0])

    @property
    def a(self) -> tuple[str, ...]:
        """Those of a."""
        return tuple(dict.fromkeys(name for line in self.options[0] for name in line.a))


@dataclass(frozen=True)
class Sizes:
    """What two programs' shapes say of both: numbers of heads to try, of channels, and of outputs of dense layers."""

    heads: tuple[int, ...]
    channels: tuple[int, ...]
    outputs: frozenset[int]


def sizes_of(a: Sequence[Tensor], b: Sequence[Tensor]) -> Sizes:
    """Sizes of two programs: heads are axes of kernels of three dimensions and more, then small powers of 2 and 3."""
    heads = [size for tensor in [*a, *b] if len(tensor.shape) in (3, 4) and tensor.role in ("kernel", "bias")
             for size in tensor.shape if 1 < size <= 64]
    channels = {size for tensor in [*a, *b] if len(tensor.shape) == 4 for size in tensor.shape}
    outputs = frozenset(tensor.shape[-1] for tensor in a if len(tensor.shape) == 2 and tensor.role == "kernel")
    return Sizes(tuple(dict.fromkeys([*heads, 2, 4, 8, 3, 6, 12, 16, 1])), tuple(sorted(channels, reverse=True)),
                 outputs)


def matched_by_names(a: Sequence[Tensor], b: Sequence[Tensor], by_order: bool = False
                     ) -> tuple[list[Part], list[str], list[str]]:
    """(parts, paths of a that are left, paths of b that are left).

    Args:
      a: the tensors of one program.
      b: those of the other.
      by_order: modules of equal sizes go by their order alone, where both have as many.
    """
    sizes = sizes_of(a, b)
    of_a, of_b = modules_of(a), modules_of(b)
    ranks = ranks_of(of_a), ranks_of(of_b)
    parts = _fused(of_a, of_b, sizes.heads, ranks, named=True)
    for pairs in ((_ordered,) if by_order else (_kinds, _ordered)):
        parts += _taken(list(pairs(of_a, of_b, alone=not by_order)), of_a, of_b, sizes)
    parts += _taken(list(_assigned(of_a, of_b, ranks)), of_a, of_b, sizes)
    parts += _fused(of_a, of_b, sizes.heads, ranks, named=False)
    left_a, left_b = ([tensor for module in of.values() for tensor in module.values()] for of in (of_a, of_b))
    parts += _singles(left_a, left_b, sizes)
    used_a, used_b = {name for part in parts for name in part.a}, {name for part in parts for name in part.b}
    for tensor in [tensor for tensor in left_b if tensor.path not in used_b]:  # a table that a shares and b has twice
        twins = [one for one in a if one.role == "embedding" and layouts(one.shape, tensor.shape)]
        if len(twins) == 1 and tensor.role in ("kernel", "embedding"):
            parts.append(part_of(twins[0], tensor, sizes, (twins[0].path, tensor.path)))
            used_b.add(tensor.path)
    return (parts, [tensor.path for tensor in a if tensor.path not in used_a],
            [tensor.path for tensor in b if tensor.path not in used_b])


@lru_cache(65536)
def part_of(x: Tensor, y: Tensor, sizes: Sizes, modules: tuple[str, str] = ("", "")) -> Part:
    """The Part of one tensor of each side, of two modules; without options where they cannot be one another's."""
    ways: dict = dict.fromkeys(layouts(x.shape, y.shape))
    if math.prod(x.shape) == math.prod(y.shape) and len(x.shape) == len(y.shape) <= 2:
        if x.role == "kernel" and len(x.shape) == 2:
            ways |= {steps: None for steps in flattened(x.shape, y.shape, sizes.channels) if steps not in ways}
        if x.shape[-1] in sizes.outputs and (len(x.shape) == 1 or x.role == "kernel"):
            ways |= {steps: image for image, steps in imaged(x.shape, y.shape, sizes.channels) if steps not in ways}
    return Part(tuple((Line(y.path, (x.path,), steps),) for steps in ways),
                (block_of(y.path)[0], x.shape, y.shape), (x, y), tuple(ways.values()), modules,
                turned_among(list(ways), x.shape, y.shape) if x.role == "kernel" else None)


# ---- modules

def modules_of(tensors: Sequence[Tensor]) -> dict[str, dict[str, Tensor]]:
    """{module: {role: Tensor}}; roles that a module has twice are told apart by their sizes and order."""
    found: dict = defaultdict(dict)
    for tensor in tensors:
        role, module = tensor.role, found[tensor.home]
        same = sum(one.role == role for one in module.values())
        module[f"{role} {same}" if same else role] = tensor
    # A module with several kernels and as many vectors is none: functions keep all tensors of a program in one.
    return {name if len(module) <= 6 else f"{name}/{role}": module if len(module) <= 6 else {role: tensor}
            for name, module in found.items() for role, tensor in module.items()}


def signature(module: Module) -> tuple:
    """What two modules share that may be one another's: roles and numbers of elements."""
    return tuple(sorted((role, math.prod(tensor.shape)) for role, tensor in module.items()))


def ranks_of(names: Iterable[str]) -> dict[str, tuple[int, int, float]]:
    """{name: (the rank of its block among those of its pattern, how many there are, its place from 0 to 1)}."""
    numbers: dict = defaultdict(set)
    blocks = blocks_of(names)
    for pattern, number in blocks.values():
        numbers[pattern].add(number)
    return {name: (sorted(numbers[pattern]).index(number), len(numbers[pattern]), place / max(len(blocks) - 1, 1))
            for place, (name, (pattern, number)) in enumerate(blocks.items())}


def blocks_of(names: Iterable[str]) -> dict[str, tuple[str, int]]:
    """{name: (its pattern, the number of its block)}; "dense" is the first of dense_1 and dense_2, as Keras counts."""
    found = {name: block_of(counted) for name, counted in _counted_by_block(names).items()}
    patterns = {pattern for pattern, _ in found.values()}
    return {name: (f"{name}_#", 0) if f"{name}_#" in patterns else block for name, block in found.items()}


def _counted_by_block(names: Iterable[str]) -> dict[str, str]:
    """{name: it with the numbers of layers counted anew in each block}, where they run on through all blocks, as Keras
    gives them: block_1/dense_2 and block_1/dense_3 are block_1/dense_0 and block_1/dense_1."""
    found = {name: name.split("/") for name in names}
    for depth in range(1, max(map(len, found.values()), default=0)):
        groups: dict = defaultdict(lambda: defaultdict(set))
        children = {name: (*block_of("/".join(path[:depth])), *_numbered(path[depth]))
                    for name, path in found.items() if len(path) > depth}
        for above, block, stem, number in children.values():
            groups[above, stem][block].add(number)
        for name, (above, block, stem, number) in children.items():
            of_blocks = [sorted(numbers) for _, numbers in sorted(groups[above, stem].items())]
            if "#" in above and len(of_blocks) > 1 and _run_on(of_blocks):
                found[name][depth] = f"{stem}_{sorted(groups[above, stem][block]).index(number)}"
    return {name: "/".join(path) for name, path in found.items()}


def _numbered(word):
    stem, _, number = word.rpartition("_")
    return (stem, int(number)) if stem and number.isdecimal() else (word, 0)


def _run_on(of_blocks):
    """Whether numbers go on from each block to the next, as many in each."""
    flat = [number for numbers in of_blocks for number in numbers]
    return flat == list(range(flat[0], flat[0] + len(flat))) and len(set(map(len, of_blocks))) == 1


def _taken(pairs, of_a, of_b, sizes) -> list[Part]:
    """Parts of pairs of modules, which are taken out of both sides."""
    parts = []
    for x, y in pairs:
        parts += [part_of(of_a[x][role], of_b[y][role], sizes, (x, y)) for role in of_b[y]]
        del of_a[x], of_b[y]
    return parts


def _kinds(of_a, of_b, alone) -> Iterator[tuple[str, str]]:
    """Modules of kinds of which both sides have as many members, of equal sizes: kinds by their words, members by the
    rank of their blocks."""
    groups: dict = defaultdict(lambda: ([], []))
    for side, modules in enumerate((of_a, of_b)):
        kinds, blocks = defaultdict(list), blocks_of(modules)
        for name, module in modules.items():
            kinds[blocks[name][0], signature(module)].append(name)
        for (_, sizes), members in kinds.items():
            groups[sizes, len(members)][side].append(sorted(members, key=lambda name: blocks[name][1]))
    for one, other in groups.values():
        if one and other:
            costs = -_kinds_alike([x[0] for x in one], [y[0] for y in other], of_a, of_b)
            for i, j in zip(*linear_sum_assignment(costs), strict=True):
                yield from zip(one[i], other[j], strict=True)


def _kinds_alike(one, other, of_a, of_b):
    """How alike kinds are, each by its first member: (rows one, columns other). Words that all of a side share say
    nothing."""
    telling = _telling(one), _telling(other)
    return np.array([[alike(telling[0][i], telling[1][j]) + ALL_WORDS * likeness(x, y)
                      + SAME_SHAPE * all(of_a[x][role].shape == of_b[y][role].shape for role in of_b[y])
                      + SAME_ORDER * (1 - abs(i / max(len(one) - 1, 1) - j / max(len(other) - 1, 1)))
                      for j, y in enumerate(other)] for i, x in enumerate(one)])


def _telling(names):
    """The words of each name that not all of them have."""
    counts = [Counter(words(name)) for name in names]
    shared = counts[0].copy()
    for count in counts:
        shared &= count
    return [tuple((count - shared).elements()) for count in counts]


def _ordered(of_a, of_b, alone) -> Iterator[tuple[str, str]]:
    """Modules of equal sizes in order, where both sides have as many; `alone`: only where one side tells them apart by
    a number alone."""
    for one, other in _by_signature(of_a, of_b):
        if len(one) == len(other) > 1 and (not alone or 1 in [len({block for block, _ in blocks_of(side).values()})
                                                              for side in (one, other)]):
            yield from zip(_in_order(one), _in_order(other), strict=True)


def _in_order(names):
    """Names as they are listed; numbers as numbers where the list is sorted as text is, as JAX' trees are."""
    def natural(name):
        return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)]

    return sorted(names, key=natural) if list(names) == sorted(names) else names


def _by_signature(of_a, of_b):
    """([modules of a], [modules of b]) of each signature."""
    found: dict = defaultdict(lambda: ([], []))
    for side, modules in enumerate((of_a, of_b)):
        for name, module in modules.items():
            found[signature(module)][side].append(name)
    return [(one, other) for one, other in found.values() if one and other]


def _assigned(of_a, of_b, ranks) -> Iterator[tuple[str, str]]:
    """Modules of equal signature, paired by likeness, blocks and order."""
    for one, other in _by_signature(of_a, of_b):
        costs = np.array([[-_likeness(x, y, ranks) for y in other] for x in one])
        yield from ((one[i], other[j]) for i, j in zip(*linear_sum_assignment(costs), strict=True))


def _likeness(x, y, ranks):
    one, other = ranks[0][x], ranks[1][y]
    same = one[:2] == other[:2]
    return likeness(x, y) + SAME_RANK * same + SAME_ORDER * (1 - abs(one[2] - other[2]))


# ---- single tensors

def _singles(left_a, left_b, sizes) -> list[Part]:
    """Tensors that are left, by their sizes and their likeness; of a padded vocabulary by one axis that differs."""
    if not left_a or not left_b:
        return []
    ranks = tuple(ranks_of([tensor.path for tensor in left]) for left in (left_a, left_b))
    costs = np.array([[-_likeness(x.path, y.path, ranks) if _can_be(x, y) else WRONG for y in left_b] for x in left_a])
    return [part_of(left_a[i], left_b[j], sizes, (left_a[i].path, left_b[j].path))
            for i, j in zip(*linear_sum_assignment(costs), strict=True) if costs[i, j] < WRONG]


def _can_be(x, y):
    return x.trained == y.trained and (x.role == y.role or {x.role, y.role} <= {"kernel", "embedding"}) and bool(
        layouts(x.shape, y.shape))


# ---- several in one

def _fused(of_a, of_b, heads, ranks, named) -> list[Part]:
    """Modules that are several on one side and one on the other; what is matched is taken out of both. `named`: only
    queries, keys and values that are called so, of modules whose sizes the other side has not."""
    parts = []
    for several, one, is_cut in ((of_a, of_b, False), (of_b, of_a, True)):
        known = {signature(module) for module in several.values()}
        parents = ranks_of(dict.fromkeys(map(_parent, several)))
        for whole in list(one):
            if named and signature(one[whole]) in known:
                continue
            rank = ranks[0 if is_cut else 1][whole]
            group = next(_groups(several, one[whole], whole, rank, parents, named), None)
            options = group is not None and _arranged({role: ([several[name][role] for name in group], tensor)
                                           for role, tensor in one[whole].items()}, is_cut, heads)
            if group is None or not options:
                continue
            shapes = tuple(several[name][role].shape for name in group for role in one[whole])
            parts.append(Part(options, (block_of(whole)[0], shapes)))
            for name in group:
                del several[name]
            del one[whole]
    return parts


def _arranged(roles, is_cut, heads) -> tuple[tuple[Line, ...], ...]:
    """Lines of all of a module's tensors, {role: (several, one)}, for each way in which all of them lie: biases lie as
    kernels do. Where names do not say which is the query, every order of them."""
    names = [tensor.home for tensor in next(iter(roles.values()))[0]]
    orders = [tuple(range(len(names)))]
    if not all(is_qkv(name) for name in names):
        orders = list(itertools.permutations(orders[0]))
    found: list = []
    for order in orders:
        by_way: dict = {}
        for role, (several, one) in roles.items():
            parts = [several[i] for i in order]
            shapes, paths = [tensor.shape for tensor in parts], tuple(tensor.path for tensor in parts)
            vectors = role.startswith("bias")
            ways = cut(one.shape, shapes, heads, vectors) if is_cut else fused(shapes, one.shape, heads, vectors)
            for way, steps in ways:
                made: tuple[Line, ...] = (Line(one.path, paths, steps),)
                if is_cut:
                    made = tuple(Line(name, (one.path,), each) for name, each in zip(paths, steps, strict=True))
                by_way.setdefault(way, {}).setdefault(role, []).append(made)
        for lines in by_way.values():
            if lines.keys() == roles.keys():
                found += [sum(chosen, ()) for chosen in itertools.islice(itertools.product(*lines.values()), 12)]
    return tuple(found)


def _groups(several, whole: Module, name: str, rank, parents, named) -> Iterator[list[str]]:
    """Modules of one parent whose sizes add up to those of `whole`, queries, keys and values in this order; the
    likest parent first."""
    by_parent: dict = defaultdict(list)
    for other, module in several.items():
        if module.keys() == whole.keys() and (not named or is_qkv(other)):
            by_parent[_parent(other)].append(other)
            if not named and _parent(other) != other.rpartition("/")[0]:
                by_parent[other.rpartition("/")[0]].append(other)

    def order(parent):
        known = parents.get(parent, (0, 0))
        return -(known[:2] == rank[:2]), -(known[0] == rank[0]), -likeness(parent, name)

    for parent in sorted(by_parent, key=order):
        members = sorted(by_parent[parent], key=_qkv)
        for count in (3, 2):
            for start in sorted(range(len(members) - count + 1), key=lambda i: count == 2 and _qkv(members[i]) == 0):
                group = members[start:start + count]
                if all(sum(math.prod(several[one][role].shape) for one in group) == math.prod(tensor.shape)
                       for role, tensor in whole.items()):
                    yield group


def _parent(name):
    """What the query, the key and the value of a layer share: "h/0/attn_*" of h/0/attn_q; else the path above."""
    above, slash, last = name.rpartition("/")
    pieces = re.split(r"([_.])", last)
    if any(_word(piece) in QKV for piece in pieces):
        return above + slash + "".join("*" if _word(piece) in QKV else piece for piece in pieces)
    return above


def _word(piece):
    found = words(piece)
    return found[0] if len(found) == 1 else ""


def is_qkv(name: str) -> bool:
    """Whether a module is called a query, a key or a value."""
    return "*" in _parent(name)


def _qkv(name):
    """The place of queries, keys and values, by a module's last words; 3 of any other."""
    last = [_word(piece) for piece in re.split(r"[_.]", name.rpartition("/")[2])]
    return next((QKV.index(word) for word in last if word in QKV), 3)
