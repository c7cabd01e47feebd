"""Whether two programs are one function: outputs and every gradient at weights that are nowhere zero, one or equal,
held to what the programs' own roundings move; and where they first part.

A bound is four times what a twin is apart, the same program with weights and inputs changed within half a unit of
their last place, as on the ladder's rung P2, or the walk of the longest sum's roundings (Higham and Mary 2019) where
that is more; in float64 it is sixteen times that.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twinscale.common.errors import DID_IT, NO, BadInput, Disagreement
from twinscale.common.families.parameters import generic_value, stream
from twinscale.common.files.tensors import difference
from twinscale.common.numbers.formats import DITHER, MASTERS
from twinscale.common.pairs.bounds import NULL, TWINS, allowed, dithered
from twinscale.common.pairs.match import Match, carried
from twinscale.common.pairs.momenta import SAME, momenta_apart
from twinscale.common.pairs.parting import Known, all_partings, backward_parting, look, look_fed
from twinscale.common.pairs.program import Arrays, Inputs, Program, outputs_paired
from twinscale.common.pairs.tensors import Tensor


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
    others: tuple[tuple[str, str], ...] = ()  # (place, cause) where else they part, when b is fed with a's values

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
        more = [f"Fed with a's values behind it, b parts {place}. {cause}".rstrip() for place, cause in self.others]
        return "\n".join([self.sentence, *more, *lines, *self.notes])


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
    there = carried(match, values)
    found = all_partings((look(a, values, inputs[0]), look(b, there, inputs[1])),
                         Known(match, a.tensors, values, inputs[0], a.precision),
                         lambda fed: look_fed(b, there, inputs[1], fed))
    place = found.place
    if not place and all(row.agrees for row in rows if row.what.startswith("output")):
        off = {tensor.module for tensor in a.tensors for row in rows
               if not row.agrees and row.what.startswith(f"gradient of {tensor.path}")}
        place = backward_parting([one.a for one in found.modules], off)
    return PairVerdict(verdict.rows, match, place, found.cause, found.coverage, notes, found.others)


def generic(program: Program, seed: int) -> Arrays:
    """`generic_values` of a program's tensors and their first values, in its precision."""
    return generic_values(program.tensors, program.start, program.precision, seed)


def generic_values(tensors: Sequence[Tensor], start: Mapping[str, np.ndarray], precision: str, seed: int) -> Arrays:
    """Values of tensors that are nowhere zero, one or equal: their first ones, each tensor moved by noise of its own
    size; running variances stay above zero. float64 where the precision is, else float32."""
    found = {}
    for tensor in tensors:
        value = np.asarray(start[tensor.path], np.float64)
        noise = stream(seed, tensor.path, "generic").standard_normal(value.shape)
        found[tensor.path] = generic_value(value, noise, tensor.role == "var")
    return {name: np.asarray(x, MASTERS[precision]) for name, x in found.items()}


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
        pairs = [(wanted[name], np.reshape(found[there], wanted[name].shape))
                 for name, there in outputs_paired(wanted, found).items()]
        apart = [float(np.linalg.norm(x.astype(np.float64) - y)) / max(float(np.linalg.norm(x)), 1e-300)
                 for x, y in pairs]
        return float(max(apart)) if np.isfinite(apart).all() else math.inf

    return judge


def idle_of(program: Program, inputs: Inputs, names: Collection[str]) -> list[str]:
    """Those of some tensors that no output depends on, such as a pooler where another output is meant: gradients of all
    outputs, by signs that cancel nowhere, are zero to the bit."""
    rest = [tensor.path for tensor in program.tensors if tensor.trained and tensor.path in names]
    if not rest:
        return []
    values = generic(program, 0)
    outputs, _ = program.call(values, inputs)
    signs = {name: _signs(stream(0, name, "signs"), np.shape(x)) for name, x in outputs.items()
             if "float" in str(x.dtype)}
    gradients, _ = program.gradients(values, inputs, signs)
    return [name for name in rest if not np.any(gradients[name])]


# ---- one run of both sides

def _run(a, b, inputs, match, values, seed, dither):
    """{side: {"output NAME", "gradient of NAME" or "statistic NAME": array}} in a's layout (of a statistic in b's), of
    dithered weights and inputs."""
    moved, given = dithered(values, dither), [dithered(one, dither) for one in inputs]
    there = carried(match, moved)
    outputs, after = a.call(moved, given[0])
    others, after_there = b.call(there, given[1])
    names = outputs_paired({name: x for name, x in outputs.items() if "float" in str(x.dtype)}, others)
    signs = {name: _signs(stream(seed, name, "signs"), np.shape(outputs[name])) for name in names}
    gradients, outputs = a.gradients(moved, given[0], signs)
    sides = {"a": (gradients, {name: outputs[name] for name in names})}
    gradients, outputs = b.gradients(there, given[1], {names[name]: np.reshape(x, np.shape(others[names[name]]))
                                                       for name, x in signs.items()})
    sides["b"] = carried_back(match, a.tensors, b.tensors, gradients), {
        name: np.reshape(outputs[there], signs[name].shape) for name, there in names.items()}
    statistics = {"a": carried(match, moved | after), "b": there | after_there}
    lines = [line for line in match.lines if line.b in after_there or not after.keys().isdisjoint(line.a)]
    return {side: {f"output {name}": np.asarray(x) for name, x in outputs.items()} | {
        f"gradient of {name}": x for name, x in gradients.items()} | {
        f"statistic {line.a[0]}": np.asarray(statistics[side][line.b]) for line in lines}
        for side, (gradients, outputs) in sides.items()}


def _signs(rng, shape):
    """Random numbers of both signs, float32, whose sums are not zero: those of +1 and -1 over a few rows may be."""
    return (rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape)).astype(np.float32)


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
    return min(allowed(program.tensors, program.precision, noise), NULL[program.precision])
