"""Whether two programs are one function: outputs and every gradient at weights that are nowhere zero, one or equal,
held to what the programs' own roundings move; and where they first part.

A bound is four times what a twin is apart, the same program with weights and inputs changed within half a unit of
their last place, as on the ladder's rung P2, or the walk of the longest sum's roundings (Higham and Mary 2019) where
that is more; in float64 it is sixteen times that.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinscale.common.errors import DID_IT, NO, BadInput, Disagreement
from twinscale.common.families.parameters import dithering, generic_value, stream
from twinscale.common.files.tensors import difference
from twinscale.common.numbers.formats import DITHER, EPS, MASTERS, RESOLVED, walk
from twinscale.common.pairs.causes import cause, is_activated, masked
from twinscale.common.pairs.layouts import layouts, turned
from twinscale.common.pairs.match import Match, carried
from twinscale.common.pairs.momenta import SAME, momenta_apart
from twinscale.common.pairs.program import Arrays, Inputs, Program, Seen
from twinscale.common.pairs.tensors import Tensor

TWINS = 4  # a bound is so many times a twin's noise
# Bounds are so much wider: one twin of few numbers may see little noise; what is no rounding is millions of float64's.
WIDER = {"float64": 16, "float32": 1, "bfloat16": 1}
# A gradient that its twin shares no more digits with is zero but for rounding.
NULL = {"float64": 1e-2, "float32": 1e-2, "bfloat16": 0.5}


@dataclass(frozen=True)
class Row:
    """One tensor that was compared: the largest difference, relative to the largest value, and its bound."""

    what: str
    difference: float
    bound: float

    @property
    def agrees(self) -> bool:
        """Whether it is within its bound."""
        return self.difference <= self.bound


@dataclass(frozen=True)
class PairVerdict:
    """Whether two programs are one function. True where they are."""

    rows: tuple[Row, ...]
    match: Match
    place: str = ""  # where they first part, in words
    cause: str = ""  # what was measured there
    coverage: str = ""  # how many modules of a were seen with their partners
    notes: tuple[str, ...] = field(default=())

    @property
    def agrees(self) -> bool:
        """Whether every row does."""
        return bool(self.rows) and all(row.agrees for row in self.rows)

    @property
    def exit_code(self) -> int:
        """Of a command that ends with it."""
        return DID_IT if self.agrees else NO

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def sentence(self) -> str:
        """The answer in a sentence or two."""
        worst = max(self.rows, key=lambda row: row.difference / max(row.bound, 1e-300))
        kept = any(row.what.startswith("momentum") for row in self.rows)
        kinds = "outputs, gradients and momenta" if kept else "outputs and gradients"
        if self.agrees:
            return (f"One function: {len(self.rows)} {kinds} agree; the nearest to its bound is "
                    f"{worst.what}, {worst.difference:.1e} of {worst.bound:.1e}.")
        apart = sum(not row.agrees for row in self.rows)
        parts = [f"Not one function: {apart} of {len(self.rows)} {kinds} differ; the furthest "
                 f"is {worst.what}, {worst.difference:.1e} where {worst.bound:.1e} is rounding."]
        return " ".join(filter(None, [*parts, self.place and f"They first part {self.place}.", self.cause]))

    def raise_if_not(self) -> None:
        """Raises Disagreement, with the sentence, where they are not one function."""
        if not self.agrees:
            raise Disagreement(self.sentence, self)

    def __str__(self) -> str:
        worst = sorted(self.rows, key=lambda row: -row.difference / max(row.bound, 1e-300))[:12]
        lines = [f"{'ok ' if row.agrees else 'NO '} {row.difference:8.1e} of {row.bound:8.1e}  {row.what}"
                 for row in worst]
        return "\n".join([self.sentence, *lines, *self.notes])


def judged(a: Program, b: Program, inputs: tuple[Inputs, Inputs], match: Match, seed: int = 0) -> PairVerdict:
    """The verdict on two programs of one precision under a match, each with its own form of the same inputs."""
    values = generic(a, seed)
    runs = [_run(a, b, inputs, match, values, seed, dither) for dither in (0.0, DITHER[a.precision])]
    rows, kept = _rows(runs, a), momenta_apart(a, b, inputs, match, values)
    momenta = tuple(Row(f"momentum of {name}", abs(one - other), SAME) for name, one, other in kept)
    verdict = PairVerdict((*rows, *momenta), match)
    if verdict.agrees:
        return verdict
    if all(row.agrees for row in rows):
        name, one, other = next(of for row, of in zip(momenta, kept, strict=True) if not row.agrees)
        return PairVerdict(verdict.rows, match, f"at {name.rpartition('/')[0]}, in training alone",
                           f"a keeps {one:.4g} of a running statistic in each step of a training, b {other:.4g}.")
    null = NULL[a.precision]
    notes = tuple(f"{row.what}: the program's own roundings move it by {null / TWINS:.1%} and more: other inputs would "
                  "tell more" for row in rows if row.bound >= null)[:1]
    return PairVerdict(verdict.rows, match, *parting(a, b, inputs, match, values), notes)


def generic(program: Program, seed: int) -> Arrays:
    """Values of a program's tensors that are nowhere zero, one or equal: its first ones, each tensor moved by noise of
    its own size; running variances stay above zero. float64 where the program is, else float32."""
    found = {}
    for tensor in program.tensors:
        value = np.asarray(program.start[tensor.path], np.float64)
        noise = stream(seed, tensor.path, "generic").standard_normal(value.shape)
        found[tensor.path] = generic_value(value, noise, tensor.role == "var")
    return {name: np.asarray(x, MASTERS[program.precision]) for name, x in found.items()}


def outputs_difference(a: Program, b: Program, inputs: tuple[Inputs, Inputs]) -> Callable[[Match], float]:
    """What `common.pairs.search.find` asks: the difference of outputs under a match, root mean square, relative."""
    values = generic(a, 0)
    wanted, _ = a.call(values, inputs[0])
    wanted = {name: np.asarray(x) for name, x in wanted.items()}

    def judge(match: Match) -> float:
        try:
            found, _ = b.call(carried(match, values), inputs[1])
        except BadInput:
            return math.inf
        pairs = [(wanted[name], np.asarray(found[there])) for name, there in _names(wanted, found).items()]
        apart = [float(np.linalg.norm(x.astype(np.float64) - y)) / max(float(np.linalg.norm(x)), 1e-300)
                 for x, y in pairs]
        return float(max(apart)) if np.isfinite(apart).all() else math.inf

    return judge


# ---- one run of both sides

def _run(a, b, inputs, match, values, seed, dither):
    """{side: {"output NAME", "gradient of NAME" or "statistic NAME": array}} in a's layout (of a statistic in b's), of
    dithered weights and inputs."""
    moved, given = _dithered(values, dither), [_dithered(one, dither) for one in inputs]
    there = carried(match, moved)
    outputs, after = a.call(moved, given[0])
    others, after_there = b.call(there, given[1])
    names = _names({name: x for name, x in outputs.items() if "float" in str(x.dtype)}, others)
    signs = {name: _signs(stream(seed, name, "signs"), np.shape(outputs[name])) for name in names}
    gradients, outputs = a.gradients(moved, given[0], signs)
    sides = {"a": (gradients, {name: outputs[name] for name in names})}
    gradients, outputs = b.gradients(there, given[1], {names[name]: x for name, x in signs.items()})
    sides["b"] = carried_back(match, a.tensors, b.tensors, gradients), {name: outputs[names[name]] for name in names}
    statistics = {"a": carried(match, moved | after), "b": there | after_there}
    lines = [line for line in match.lines if line.b in after_there or not after.keys().isdisjoint(line.a)]
    return {side: {f"output {name}": np.asarray(x) for name, x in outputs.items()} | {
        f"gradient of {name}": x for name, x in gradients.items()} | {
        f"statistic {line.a[0]}": np.asarray(statistics[side][line.b]) for line in lines}
        for side, (gradients, outputs) in sides.items()}


def _signs(rng, shape):
    """Random numbers of both signs, float32, whose sums are not zero: those of +1 and -1 over a few rows may be."""
    return (rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape)).astype(np.float32)


def _names(one, other):
    """{name of an output of a: that of b's}: those of one name, or in order where there are equally many. Raises
    BadInput where they do not fit."""
    names = {name: name for name in one if name in other}
    if not names and len(one) != len(other):
        raise BadInput(f"outputs: one side makes {', '.join(one)}, the other {', '.join(other)}: say which are meant "
                       "by outputs=(NAME, NAME)")
    names = names or dict(zip(one, other, strict=True))
    for name, there in names.items():
        if tuple(one[name].shape) != tuple(other[there].shape):
            raise BadInput(f"outputs: {name} is {tuple(one[name].shape)} on one side and "
                           f"{tuple(other[there].shape)} on the other")
    return names


def _dithered(inputs, dither):
    """Inputs, or tensors, with floats changed within half a unit of their last place."""
    if isinstance(inputs, Mapping):
        return {name: _dithered(x, dither) for name, x in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_dithered(x, dither) for x in inputs)
    x = np.asarray(inputs)
    if not dither or x.dtype.kind != "f" or (np.trunc(x) == x).all():  # such as a mask, which no rounding has touched
        return x
    return np.asarray(x * dithering(1, "inputs", dither, x.shape), x.dtype)


def carried_back(match: Match, a: Sequence[Tensor], b: Sequence[Tensor], gradients: Mapping[str, np.ndarray]) -> Arrays:
    """Gradients with respect to a's tensors of those with respect to b's: the adjoint of `carried`, which moves
    elements; of a tensor that b has in several places they add up. One that b does not train has none."""
    ends, places = 1, {}
    for tensor in a:
        size = math.prod(tensor.shape)
        places[tensor.path] = np.arange(ends, ends + size).reshape(tensor.shape)  # 0: of padding
        ends += size
    total, trained = np.zeros(ends), np.zeros(ends, bool)
    for name, index in carried(match, places).items():
        if name in gradients:
            trained[index] = True
            np.add.at(total, index.ravel(), np.asarray(gradients[name], np.float64).ravel())
    return {tensor.path: total[places[tensor.path]] for tensor in a
            if tensor.trained and trained[places[tensor.path]].any()}


def _rows(runs, a):
    plain, twin = runs
    names = [name for name in plain["a"] if name in plain["b"]]
    gradients = [name for name in names if name.startswith("gradient")]
    largest = max((float(np.abs(plain["a"][name]).max(initial=0)) for name in gradients), default=0.0)
    apart = {name: max(difference(plain[side][name], twin[side][name]) for side in plain) for name in names}
    null = {name for name in gradients if apart[name] > NULL[a.precision]}
    noise = {kind: max((difference(plain[side][name], twin[side][name], largest if name in null else 0.0)
                        for name in names if name.startswith(kind) for side in plain), default=0.0)
             for kind in ("output", "gradient", "statistic")}
    return tuple(Row(name + " (zero but for rounding)" * (name in null),
                     difference(plain["a"][name], plain["b"][name], largest if name in null else 0.0),
                     _bound(a, noise[name.split()[0]])) for name in names)


def _bound(program, noise):
    """What a twin's noise allows."""
    return min(WIDER[program.precision] * max(TWINS * noise, _floor(program)), NULL[program.precision])


def _floor(program):
    """The walk of the roundings of the longest sum, relative."""
    longest = max((math.prod(tensor.shape[:-1]) for tensor in program.tensors if len(tensor.shape) > 1), default=1)
    return max(walk(longest) * EPS[MASTERS[program.precision]], RESOLVED[program.precision])


# ---- where they part

def parting(a: Program, b: Program, inputs: tuple[Inputs, Inputs], match: Match, values: Arrays
            ) -> tuple[str, str, str]:
    """(where two programs first part, what was measured there, how much was seen), in words; "" where nothing is
    known. Modules that hold matched tensors are compared in the order in which a calls them, each to within what twins
    of both programs are apart."""
    (seen, made), (twins, _) = (_seen(a, b, inputs, match, values, dither) for dither in (0.0, DITHER[a.precision]))
    noise = [difference(x, y) for side in range(2) for one, other in zip(seen[side], twins[side], strict=True)
             for x, y in zip(_arrays(one), _arrays(other), strict=True)]
    bound = WIDER[a.precision] * max(TWINS * max(noise, default=0.0), _floor(a))
    pairs, coverage = _paired(seen, _partners(match))
    if not pairs:
        return "", "", coverage
    before: tuple[Seen, Seen] | None = None
    for one, other in pairs:
        if not _alike(one.inputs[:1], other.inputs[:1], bound):
            last = before[0].module if before else "the inputs"
            return (f"between {last} and {one.module}, whose inputs differ",
                    cause(before, (one, other), None, None) or masked(one.inputs[0], other.inputs[0], inputs[0])
                    or _elsewhere(one, other, pairs, bound), coverage)
        if not _alike(one.outputs[:1], other.outputs[:1], bound) and not is_activated(one, other):
            of_it = [tensor for tensor in a.tensors if tensor.module == one.module]
            tensors = {tensor.role: values[tensor.path] for tensor in of_it}
            return (f"at {one.module}, whose inputs agree and whose outputs do not",
                    cause(None, (one, other), tensors, set(tensors))
                    or masked(one.outputs[0], other.outputs[0], inputs[0]), coverage)
        before = one, other
    ends = [(Seen("", (made[0][name],), ()), Seen("", (made[1][there],), ())) for name, there in _names(*made).items()
            if difference(np.asarray(made[0][name]), np.asarray(made[1][there])) > bound]
    said = [cause(before, end, None, None) or masked(end[0].inputs[0], end[1].inputs[0], inputs[0]) for end in ends]
    return (f"after {pairs[-1][0].module}, the last module that holds tensors", next(filter(None, said), ""), coverage)


def _seen(a, b, inputs, match, values, dither):
    """(([Seen of a], [Seen of b]), (outputs of a, of b)), of dithered weights and inputs."""
    seen: tuple[list[Seen], list[Seen]] = ([], [])
    moved, given = _dithered(values, dither), [_dithered(one, dither) for one in inputs]
    made, _ = a.call(moved, given[0], seen=seen[0])
    others, _ = b.call(carried(match, moved), given[1], seen=seen[1])
    return seen, ({name: x for name, x in made.items() if "float" in str(x.dtype)}, others)


def _elsewhere(one, other, pairs, bound):
    """Whether one side alone calls a module whose outputs go straight into another before that one, as of norms."""
    place = next(i for i, (x, _) in enumerate(pairs) if x is one)
    for number, (x, y) in enumerate(pairs[place + 1:], place + 1):
        if number == place + 1 and x.inputs and _alike(one.outputs[:1], x.inputs[:1], bound) and (
                not y.inputs or not _alike(other.outputs[:1], y.inputs[:1], bound)):
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


def _arrays(one):
    return [np.asarray(x) for x in (*one.inputs, *one.outputs)]


def _partners(match):
    """{module of a: modules of b that hold what is made of its tensors}, without those of b that have others within
    them where that of a has none: what they are called with is not that one's."""
    found: dict[str, list[str]] = {}
    for line in match.lines:
        for name in line.a:
            module = line.b.rpartition("/")[0]
            if module not in found.setdefault(name.rpartition("/")[0], []):
                found[name.rpartition("/")[0]].append(module)
    wholes, others = ({one for one in modules if any(_is_within(other, one) for other in modules)}
                      for modules in (found, set().union(*found.values())))
    return {name: [other for other in there if name in wholes or other not in others] for name, there in found.items()}


def _is_within(module, other):
    return module != other and (not other or module.startswith(f"{other}/"))


def _alike(one: Iterable[Any], other: Iterable[Any], bound: float) -> bool:
    """Whether arrays agree to within a bound, in some order of axes."""
    for x, y in zip(one, other, strict=False):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if x.size != y.size:
            return True  # of another kind, such as heads beside each other: nothing can be said
        ways = layouts(x.shape, y.shape) if x.size <= 1 << 16 else [()] * (x.shape == y.shape)
        if not any(difference(turned(steps, [x]), y) <= bound for steps in ways):
            return False
    return True
