"""Where two programs first part: what their modules that hold matched tensors are given and make, side by side in the
order in which the first calls them, each to within what twins of both programs are apart."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from twinscale.common.files.tensors import difference
from twinscale.common.numbers.formats import DITHER
from twinscale.common.pairs.bounds import allowed, dithered
from twinscale.common.pairs.causes import MOST, activates, cause, is_activated, masked
from twinscale.common.pairs.layouts import layouts, turned
from twinscale.common.pairs.match import Match
from twinscale.common.pairs.program import Arrays, Fed, Inputs, Program, Seen, outputs_paired
from twinscale.common.pairs.tensors import Tensor


class Sight(NamedTuple):
    """What was seen of one program: calls of its modules, its outputs of floats, and how far a twin's are from them."""

    seen: tuple[Seen, ...]
    outputs: Arrays
    noise: float


class Known(NamedTuple):
    """What is known of both programs: the match, the first one's tensors and their values, its inputs, the format."""

    match: Match
    tensors: Sequence[Tensor]
    values: Arrays
    inputs: Inputs
    precision: str


@dataclass(frozen=True)
class Beside:
    """Two modules, one of each program, and how far apart is what they are given and what they make, relative; None
    where they are past the first parting, or nothing can be said, as of heads that lie otherwise, or where one has an
    activation within it. `parts`: whether they are where the programs first part."""

    a: str
    b: str
    inputs: float | None = None
    outputs: float | None = None
    parts: bool = False


@dataclass(frozen=True)
class Parting:
    """Where two programs first part, what was measured there and how much was seen, in words, "" where nothing is
    known; their modules side by side, up to `bound` apart by rounding alone; and [(place, cause)] of where else they
    part when the second is fed with the first one's values."""

    place: str = ""
    cause: str = ""
    coverage: str = ""
    modules: tuple[Beside, ...] = ()
    bound: float = 0.0
    others: tuple[tuple[str, str], ...] = ()


class At(NamedTuple):
    """What was measured of a pair of modules, or of the outputs; place and cause are "" where nothing parts."""

    row: Beside | None
    place: str = ""
    cause: str = ""


def look(program: Program, values: Arrays, inputs: Inputs) -> Sight:
    """What is seen of a program at values of its tensors, as NumPy's arrays; it costs two forward passes."""
    first, twin = (_looked(program, dithered(values, dither), dithered(inputs, dither), [])
                   for dither in (0.0, DITHER[program.precision]))
    noise = [_difference(x, y) for one, other in zip(first.seen, twin.seen, strict=True)
             for x, y in zip(_arrays(one), _arrays(other), strict=True)]
    return first._replace(noise=max(noise, default=0.0))


def look_fed(program: Program, values: Arrays, inputs: Inputs, fed: Iterable[Seen]) -> Sight:
    """What is seen of a program that is fed with values for its modules' calls, of one forward pass; without noise."""
    return _looked(program, values, inputs, Fed(fed))


def _looked(program, values, inputs, calls):
    made, _ = program.call(values, inputs, seen=calls)
    plain: dict[int, np.ndarray] = {}  # one array that several modules have stays one
    seen = tuple(Seen(one.module, *(tuple(_plain(x, plain) for x in of) for of in (one.inputs, one.outputs)))
                 for one in calls)
    return Sight(seen, {name: _plain(x, plain) for name, x in made.items() if "float" in str(x.dtype)}, 0.0)


def _plain(x, known):
    """An array as NumPy has it, what NumPy has no format for in float32; `known` by the id of what is still there."""
    if id(x) not in known:
        array = np.asarray(x)
        known[id(x)] = array if array.dtype in (np.float64, np.float32) else array.astype(np.float32)
    return known[id(x)]


def parting(sights: tuple[Sight, Sight], known: Known) -> Parting:
    """Where two programs first part in their forward pass; its place is "" where they do not."""
    bound = allowed(known.tensors, known.precision, max(sight.noise for sight in sights))
    pairs, coverage = _paired(tuple(sight.seen for sight in sights), _partners(known.match, sights))
    modules: list[Beside] = []
    for at in _measured(pairs, sights, known, bound, {}):
        modules.extend([at.row] if at.row else [])
        if at.place:
            break
    rest = tuple(Beside(one.module, other.module) for one, other in pairs[len(modules):])
    return Parting(at.place, at.cause, coverage, (*modules, *rest), bound)


def all_partings(sights: tuple[Sight, Sight], known: Known, again: Callable[[Sequence[Seen]], Sight]) -> Parting:
    """Where two programs first part, and what lies behind it: by `again`, which shows what is seen of the second one
    when it is fed with values, `look_fed`, and is asked three times where they part. How values lie is told by what
    each program has, which comes nearer: first inputs are fed, then outputs, of which inputs behind a module that parts
    are made; then the inputs as they lie now."""
    first, seen = parting(sights, known), sights[1]
    fed: tuple[Seen, ...] = ()
    if not (first.place and first.modules):
        return first
    for _ in ("inputs", "outputs", "inputs as they lie"):
        fed = values_for((sights[0], seen), known, first.bound, fed)
        seen = again(fed)
    return fed_parting(first, (sights[0], seen), fed, known)


def values_for(sights: tuple[Sight, Sight], known: Known, bound: float, fed: Sequence[Seen] = ()) -> tuple[Seen, ...]:
    """What the second program is to be fed with, a Seen of each of its calls: the first one's values as the second has
    them, where their sizes are the same; what is of others is left empty.

    Args:
      fed: what it was fed with when the second one of `sights` was seen. Nothing, and inputs alone are told, since only
        of what it makes of equal inputs it can be said whether the first one has an activation within it; else
        outputs too.
    """
    pairs, _ = _paired(tuple(sight.seen for sight in sights), _partners(known.match, sights))
    partners, found = {id(other): one for one, other in pairs}, []
    for number, other in enumerate(sights[1].seen):
        one, inputs, outputs = partners.get(id(other)), (), ()
        if one:
            inputs = _carried(_in_order(one, other, known, bound).inputs, other.inputs)
        if one and fed and one.outputs and other.outputs:
            given = fed[number].inputs
            if not is_activated(one, replace(other, inputs=given or other.inputs), bound):
                outputs = _turned_as((one.inputs, given), one.outputs, other.outputs) or _carried(
                    one.outputs, other.outputs)
        found.append(Seen(other.module, inputs, outputs))
    return tuple(found)


def fed_parting(first: Parting, sights: tuple[Sight, Sight], fed: tuple[Seen, ...], known: Known) -> Parting:
    """A first parting with what the modules behind it do by themselves.

    Args:
      sights: of the first program, and of the second one when it was fed with `fed`, what `values_for` has made.
    """
    pairs, _ = _paired(tuple(sight.seen for sight in sights), _partners(known.match, sights))
    numbers = {id(one): number for number, one in enumerate(sights[1].seen)}
    found = list(_measured(pairs, sights, known, first.bound, {
        number: fed[numbers[id(other)]] for number, (_, other) in enumerate(pairs)}))
    ahead = next((number for number, row in enumerate(first.modules) if row.parts), len(first.modules))
    rows = [at.row for at in found if at.row]
    modules = (*first.modules[:ahead + 1], *(replace(row, parts=False) for row in rows[ahead + 1:]))
    others = tuple((at.place, at.cause) for at in found if at.place and at.place != first.place)
    return replace(first, modules=modules, others=others)


def _measured(pairs, sights, known, bound, fed) -> Iterator[At]:
    """An At of each pair of modules, and last one of the outputs; `fed` has by number what the second of a pair was fed
    with, of which both what it would have been given and what it makes of it are judged."""
    before: tuple[Seen, Seen] | None = None
    for number, (one, other) in enumerate(pairs):
        one, values = _in_order(one, other, known, bound), fed.get(number)
        is_fed = values is not None and (values.inputs or not other.inputs)
        given, made = _apart(one.inputs[:1], other.inputs[:1], bound), _apart(one.outputs[:1], other.outputs[:1], bound)
        between, within = (given or 0.0) > bound, (made or 0.0) > bound
        if fed and not is_fed:
            made = None  # its inputs are of another kind, and it was given what its own program made
        alone = replace(other, inputs=values.inputs or other.inputs) if values else other
        of_it = (is_fed or not fed and not between) and within and not is_activated(one, alone, bound)
        row = Beside(one.module, other.module, given, None if within and not (of_it or between) else made,
                     parts=between or bool(of_it))
        if between:
            last = before[0].module if before else "the inputs"
            yield At(row, f"between {last} and {one.module}, whose inputs differ",
                     cause(before, (one, other), None, None, bound)
                     or masked(one.inputs[0], other.inputs[0], known.inputs, bound)
                     or _elsewhere(one, other, pairs, bound))
        if of_it:
            tensors = {tensor.role: known.values[tensor.path] for tensor in known.tensors
                       if is_of(tensor.path, one.module)}
            whose = "which makes something else of the same" if between else (
                "whose inputs agree and whose outputs do not")
            yield At(None if between else row, f"at {one.module}, {whose}",
                     cause(None, (one, alone), tensors, set(tensors), bound)
                     or masked(one.outputs[0], other.outputs[0], known.inputs, bound))
        if not (between or of_it):
            yield At(row)
        before = one, replace(alone, outputs=values.outputs or other.outputs) if values else other
    yield _ends(sights, before, known, bound)


def _ends(sights, before, known, bound) -> At:
    """What was measured of the outputs, behind the last module."""
    ours, theirs = sights[0].outputs, sights[1].outputs
    ends = [(Seen("", (ours[name],), ()), Seen("", (theirs[there],), ()))
            for name, there in outputs_paired(ours, theirs).items()
            if difference(ours[name], np.reshape(theirs[there], np.shape(ours[name]))) > bound]
    said = [cause(before, end, None, None, bound) or masked(end[0].inputs[0], end[1].inputs[0], known.inputs, bound)
            for end in ends]
    where = f"after {before[0].module}, the last module that holds tensors" if before and ends else ""
    return At(None, where, next(filter(None, said), ""))


def backward_parting(order: Sequence[str], off: Collection[str]) -> str:
    """Where gradients part though all that is made forward agrees, in words.

    Args:
      order: modules in the order in which they are called. off: those of them whose gradients differ.
    """
    module = last_off(order, off)
    if module is None:
        return ""
    later = order[len(order) - order[::-1].index(module):]
    return (f"backward, at {module} or between it and {(*later, 'the outputs')[0]}: forward they agree, and so do the "
            "gradients that come before it")


def last_off(order: Sequence[str], off: Collection[str]) -> str | None:
    """The last module in the order in which they are called that is among those `off`; None where none is."""
    return next((module for module in reversed(order) if module in off), None)


def _in_order(one, other, known, bound):
    """A call with the features that it is given in the order of the other's, as its kernel's rows are matched: behind
    images that are flattened with their channels first or last. As it is where that is no nearer, or rows are not
    known."""
    if _alike(one.inputs[:1], other.inputs[:1], bound):
        return one
    x, y = np.asarray(one.inputs[0]), np.asarray(other.inputs[0])
    held = {tensor.path: tensor.shape for tensor in known.tensors if is_of(tensor.path, one.module)}
    for line in known.match.lines:
        shape = held.get(line.a[0], ())
        if not is_of(line.b, other.module) or len(line.a) != 1 or len(shape) != 2:
            continue
        rows = turned(line.steps, [np.arange(math.prod(shape)).reshape(shape) // shape[1]])
        for order in (rows, rows.T) if rows.ndim == 2 else ():
            if (order == order[:, :1]).all() and x.shape[-1] == shape[0]:
                turned_x = x[..., order[:, 0]]
                return replace(one, inputs=(turned_x,)) if difference(turned_x, y) < difference(x, y) else one
    return one


def _elsewhere(one, other, pairs, bound):
    """Whether one side alone calls a module whose outputs go straight into another before that one, as of norms."""
    place = next(i for i, (_, y) in enumerate(pairs) if y is other)
    for number, (x, y) in enumerate(pairs[place + 1:], place + 1):
        if number == place + 1 and x.inputs and _alike(one.outputs[:1], x.inputs[:1], bound) and (
                not y.inputs or not _alike(other.outputs[:1], y.inputs[:1], bound)) and not (
                y.inputs and activates(other.outputs[0], y.inputs[0])):
            return f"a calls {one.module} right before {x.module}, b does not."
        if y.outputs and np.size(y.outputs[0]) == np.size(other.inputs[0]) and _alike(
                y.outputs[:1], other.inputs[:1], bound):
            return f"b calls {x.module} right before {one.module}, a does not."
    return ""


def _paired(both, partners):
    """([(Seen of a, of its partner in b)] in a's order, how many of a's calls have one, in words). A module that a
    calls at each step of a sequence and b once, for all steps, is one pair."""
    (seen, others), calls = both, {}  # of b, by module
    of_a: dict[str, list[Seen]] = {}
    for found, all_of in ((of_a, seen), (calls, others)):
        for one in all_of:
            found.setdefault(one.module, []).append(one)
    pairs, count = [], 0
    for one in seen:
        there = next((calls[name] for name in partners.get(one.module, ()) if calls.get(name)), None)
        if there:
            is_first = len(there) == 1 and of_a[one.module][0] is one
            whole = _stacked(of_a[one.module], there[0]) if is_first else None
            pairs.append((whole or one, there.pop(0)))
            count += len(of_a[one.module]) if whole else 1
    return pairs, f"{count} of {len(seen)} calls of modules that hold tensors have their partner"


def _stacked(steps, whole):
    """Calls at the steps of a sequence as one, whose time is axis 1, where `whole` has the size of all; else None.
    Keras calls a cell once more, before the first."""
    if not all(one.inputs and one.outputs for one in (whole, *steps)):
        return None
    count, rest = divmod(math.prod(whole.inputs[0].shape), max(math.prod(steps[0].inputs[0].shape), 1))
    steps = steps[-count:] if count else []
    if rest or not 1 < count == len(steps) or len({(x.inputs[0].shape, x.outputs[0].shape) for x in steps}) > 1:
        return None
    return Seen(steps[0].module, *((np.stack([np.asarray(getattr(one, side)[0]) for one in steps], 1),)
                                   for side in ("inputs", "outputs")))


def _carried(ours, theirs):
    """One program's arrays in the other's order of axes, the nearest one; () where they are not as many of the same
    sizes."""
    if len(ours) != len(theirs) or any(np.size(x) != np.size(y) for x, y in zip(ours, theirs, strict=True)):
        return ()
    made = []
    for x, y in zip(map(np.asarray, ours), map(np.asarray, theirs), strict=True):
        orders = [turned(steps, [x]) for steps in layouts(x.shape, y.shape)] if x.size <= MOST else (
            [x] if x.shape == y.shape else [])
        if not orders:
            return ()
        made.append(np.ascontiguousarray(min(orders, key=lambda z: difference(z, y))))
    return tuple(made)


def _turned_as(inputs, ours, theirs):
    """The first program's one output with its axes as its one input's are turned to be the second's; () where that is
    no order of axes, or there are others. Where the outputs are of an error, they do not tell it themselves."""
    if any(len(arrays) != 1 for arrays in (*inputs, ours, theirs)):
        return ()
    (x,), (y,), (made,), (there,) = (tuple(map(np.asarray, arrays)) for arrays in (*inputs, ours, theirs))
    if not x.ndim == y.ndim == made.ndim or x.shape == y.shape:
        return ()
    orders = [order for order in itertools.permutations(range(x.ndim)) if x.transpose(order).shape == y.shape
              and made.transpose(order).shape == there.shape]
    order = min(orders, key=lambda order: difference(x.transpose(order), y), default=None)
    return (np.ascontiguousarray(made.transpose(order)),) if order else ()


def _difference(x, y):
    """`difference` of two arrays, but for what is infinite, as of a mask, or no number on both sides alike."""
    odd = ~np.isfinite(x)
    if x.shape != y.shape or not odd.any() or not np.array_equal(x[odd], y[odd], equal_nan=True):
        return difference(x, y)
    return difference(*(np.where(odd, 0.0, z) for z in (x, y)))


def _arrays(one):
    return [np.asarray(x) for x in (*one.inputs, *one.outputs)]


def is_of(tensor: str, module: str) -> bool:
    """Whether a tensor's path is that of a tensor of a module that is seen; of pure functions, whose tensors may be
    seen each by itself, it is the module's own."""
    return tensor == module or tensor.rpartition("/")[0] == module


def _partners(match, sights):
    """{module of a: modules of b that hold what is made of its tensors}, without those of b that have others within
    them where that of a has none: what they are called with is not that one's."""
    found: dict[str, list[str]] = {}
    names = [{one.module for one in sight.seen} for sight in sights]
    for line in match.lines:
        for name in line.a:
            of_a, module = (path if path in seen else path.rpartition("/")[0]
                            for path, seen in zip((name, line.b), names, strict=True))
            if module not in found.setdefault(of_a, []):
                found[of_a].append(module)
    wholes, others = ({one for one in modules if any(_is_within(other, one) for other in modules)}
                      for modules in (found, set().union(*found.values())))
    return {name: [other for other in there if name in wholes or other not in others] for name, there in found.items()}


def _is_within(module, other):
    return module != other and (not other or module.startswith(f"{other}/"))


def _alike(one: Iterable[Any], other: Iterable[Any], bound: float) -> bool:
    """Whether arrays agree to within a bound, in some order of axes, as far as can be said."""
    return (_apart(one, other, bound) or 0.0) <= bound


def _apart(one: Iterable[Any], other: Iterable[Any], bound: float) -> float | None:
    """How far arrays are apart in the first order of axes in which they are within a bound, else in the best one. None
    where they are of other kinds, such as heads beside each other: nothing can be said."""
    most = None
    for x, y in zip(one, other, strict=False):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if x.size != y.size:
            return None
        best = math.inf
        for steps in layouts(x.shape, y.shape) if x.size <= MOST else [()] * (x.shape == y.shape):
            best = min(best, _difference(turned(steps, [x]), y))
            if best <= bound:
                break
        most = max(best, most or 0.0)
    return most
