"""What one step is found to do, from a state that both backends are given: `common.calls.one_step.whole_step` takes it
apart.

How a step adds up its micro-batches, whose random bits it draws, how it carries running statistics on and which rate it
tells is asked of each backend by itself, and so in any precision: no other program's rounding comes in. What the
optimizer makes of a gradient is asked of both, with the same state and the same gradient, as P3 does at the first.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.rungs.cause import cause
from twinscale.benchmarks.rungs.ladder import BACKENDS, EPS, RESOLVED, TINY, bare, both, resolved, shares_rounded
from twinscale.common.calls.one_step import share
from twinscale.common.data import Dataset, training_batches
from twinscale.common.families.places import places
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import difference, load_tensors
from twinscale.common.operations.points import POINTS
from twinscale.common.operations.rounding import RARE
from twinscale.common.optimizers import described
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.common.schedules import learning_rates
from twinscale.common.training.trace import step_of

if TYPE_CHECKING:
    from twinscale.benchmarks.workers import Trainer

LOOKED = 6  # steps that are taken apart where no loss says which
NEARER = 16  # times that a loss is nearer to what other random bits give than to what its own do
PART = 0.01  # of a difference that may be left where it is called a multiple of something: a name's, not a gate's


def suspects(curve: dict[str, Any]) -> list[int]:
    """The steps to take apart: that before the first loss which parts, whose update may have made it part, and that
    itself; where none parts, a few of all, the last among them."""
    over = np.flatnonzero(~(np.asarray(curve["difference"], float) <= np.asarray(curve["bound"], float)))
    if len(over):
        return sorted({max(0, int(over[0]) - 1), int(over[0])})
    return sorted({int(step) for step in np.linspace(0, len(curve["steps"]) - 1, LOOKED).round()})


def leave_states(worker: "Trainer", recipe: Recipe, out: Path, steps: Iterable[int]) -> dict[int, Path]:
    """Has a backend train once more and leave the states before `steps`; returns {step: file}."""
    run = ComparisonFiles(out).traced(worker.backend, recipe.train.precision)
    probe = {"trace": "full", "traced": tuple(steps), "log_every": 1, "stop": max(steps) + 1, "evaluated": False,
             "saved": False}
    worker.ask("run_training", recipe, run_dir=run, probe=probe, progress=False, overwrite=True)
    return {step: RunFiles(run).step(step) for step in steps}


def leave_step(worker: "Trainer", recipe: Recipe, out: Path, point: str | Path, teacher: Path | None = None) -> Path:
    """Has a backend take the step of a point apart; returns the file."""
    path = step_path(out, worker.backend, recipe, point)
    worker.ask("whole_step", recipe, path=path, point=point, **({"teacher": teacher} if teacher else {}))
    return path


def step_path(out: Path, backend: str, recipe: Recipe, point: str | Path) -> Path:
    """The file of what a backend makes of the step of a point."""
    return ComparisonFiles(out).step(backend, recipe.train.precision, Path(point).stem)


def first_uneven(recipe: Recipe, dataset: Dataset) -> int | None:
    """The first step whose micro-batches weigh unlike; None where all weigh alike."""
    parts = recipe.train.accumulate
    for step, batch, _ in training_batches(dataset, recipe, 0, recipe.train.steps):
        if len(set(batch["weights"].reshape(parts, -1).sum(1).tolist())) > 1:
            return step
    return None


def taken_apart(recipe: Recipe, positions: int, point: str | Path, sides: Mapping[str, Mapping[str, np.ndarray]],
                uneven: Callable[[], int | None] = lambda: None) -> dict[str, Any] | None:
    """What differs in one step taken apart, or None: what micro-batches weigh, how they are added up, random bits,
    running statistics, rate, clipping, moments, update, average.

    Args:
      point: of POINTS, or the file of the state before the step.
      sides: {backend: what `whole_step` has written}, the teacher first.
      uneven: () to the first step whose micro-batches weigh unlike.
    """
    step, bound = step_of(point), 16 * math.sqrt(positions) * RESOLVED[recipe.train.precision]
    found = weight_cause(step, sides) or sum_cause(recipe, point, sides, uneven)
    for backend, tensors in () if found else sides.items():
        found = found or drawn_cause(recipe, positions, step, backend, tensors) or running_cause(
            recipe, bound, step, backend, tensors)
    found = found or rate_cause(recipe, step, sides)
    return found or (None if point in POINTS else update_cause(recipe, step, sides))


def weight_cause(step: int, sides: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any] | None:
    """A micro-batch that does not weigh the same on both sides."""
    (one, mine), (other, theirs) = sides.items()
    for i in range(parts(mine)):
        key = f"part {i}/weight"
        if value(mine, key) != value(theirs, key):
            found = cause("loss", "loss", "forward", step, name=key)
            said = f"{value(mine, key):g} in {BACKENDS[one]}, {value(theirs, key):g} in {BACKENDS[other]}"
            return found | {"sentence": f"step {step}: the loss weight of micro-batch {i + 1} is {said}"}
    return None


def sum_cause(recipe: Recipe, point: str | Path, sides: Mapping[str, Mapping[str, np.ndarray]],
              uneven: Callable[[], int | None]) -> dict[str, Any] | None:
    """A backend that does not add up what its micro-batches give, each counted once: as they weigh, or where they weigh
    unlike, which shows means of means in a precision that the batch's own weights may be too near for."""
    when = f"at the {point} point" if point in POINTS else f"at step {step_of(point)}"
    half = math.sqrt(RESOLVED[recipe.train.precision])
    for backend, kind in ((backend, kind) for backend in sides for kind in ("total", "uneven")):
        counts, unsure, left = counted(sides[backend], half, kind)
        unsure = np.maximum(RARE * unsure, half)
        if left > half or (np.abs(counts - 1) <= unsure).all():
            continue
        weights = weights_of(sides[backend], kind)
        worst = int(np.argmax(np.abs(counts - 1)))
        means = np.where(weights > 0, weights.sum() / (len(counts) * np.where(weights > 0, weights, 1)), 1)
        if (np.abs(counts - means) <= unsure).all():
            since = uneven()
            said = (f"{BACKENDS[backend]} divides by micro-batches: the loss weight differs "
                    + (when if since is None else f"from step {since} on"))
        else:
            said = (f"{BACKENDS[backend]} counts micro-batch {worst + 1} of {len(counts)} {sig(float(counts[worst]))} "
                    f"times {when}")
        found = cause("accumulation", "gradients", "backward", step_of(point), float(abs(counts[worst] - 1)),
                      float(unsure[worst]), f"micro-batch {worst + 1}")
        return found | {"sentence": said}
    return None


def counted(tensors: Mapping[str, np.ndarray], half: float, kind: str = "total",
            drawn: str | None = None) -> tuple[np.ndarray, np.ndarray, float]:
    """(how often a step's gradient has each micro-batch's in it, the standard error of that, what is left over, as a
    part of the gradient), by least squares over all elements of all tensors, each by its largest one, and none by less
    than a part `half` of the largest of all: null directions are rounding alone.

    `kind`: "total" or "uneven", the gradient. `drawn`: a step with whose random bits all micro-batches' gradients are
    taken, as one, in place of each with its own step's."""
    pieces = {f"drawn {drawn}": 1.0} if drawn is not None else {
        f"part {i}": share(i) if kind == "uneven" else 1.0 for i in range(parts(tensors))}
    count, total = len(pieces), weights_of(tensors, kind).sum()
    names = [name.removeprefix("total/") for name in tensors if name.startswith("total/gradients/")]
    given = {name: np.stack([size * np.ravel(tensors[f"{piece}/{name}"]).astype(np.float64)
                             for piece, size in pieces.items()]) for name in names}
    sizes = {name: float(np.abs(own).max(initial=0.0)) for name, own in given.items()}
    least = max(TINY, half * max(sizes.values()))
    pairs = [(own / max(sizes[name], least), np.ravel(tensors[f"{kind}/{name}"]) * (total / max(sizes[name], least)))
             for name, own in given.items()]
    inverse = np.linalg.pinv(sum(own @ own.T for own, _ in pairs), hermitian=True)
    counts = inverse @ sum(own @ found for own, found in pairs)
    left = sum(((found - counts @ own) ** 2).sum() for own, found in pairs)
    freedom = max(1, sum(found.size for _, found in pairs) - count)
    silent = ~sum(np.abs(own).sum(1) for own, _ in pairs).astype(bool)  # none of it counts
    whole = sum((found**2).sum() for _, found in pairs)
    return (np.where(silent, 1.0, counts), np.sqrt(left / freedom * np.maximum(np.diag(inverse), 0)),
            math.sqrt(left / whole) if whole else 0.0)


def weights_of(tensors: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
    """What each micro-batch weighs in the "total" of a step or where it is "uneven"."""
    return np.array([value(tensors, f"part {i}/weight") * (share(i) if kind == "uneven" else 1.0)
                     for i in range(parts(tensors))])


def drawn_cause(recipe: Recipe, positions: int, step: int, backend: str, tensors: Mapping[str, np.ndarray]
                ) -> dict[str, Any] | None:
    """A backend whose gradient or loss is not that of its step's random bits, but that of another step's.

    A mean loss hardly depends on the bits, and is no finer than its precision; a gradient is another one altogether.
    That of the wrong bits is no sum of what the micro-batches give by as much as half of the digits, and of the right
    ones' it is `NEARER`.
    """
    half = math.sqrt(RESOLVED[recipe.train.precision])
    apart = counted(tensors, half)[2]
    others = [name.removeprefix("drawn ").removesuffix("/loss") for name in tensors if name.startswith("drawn ")
              and name.endswith("/loss")]
    for other in others if apart > half else ():
        if NEARER * counted(tensors, half, drawn=other)[2] <= apart:
            return drawn_from(other, step, backend, apart, half, "gradients")
    loss, weight = (sum(value(tensors, f"part {i}/{what}") for i in range(parts(tensors)))
                    for what in ("loss", "weight"))
    own = loss / weight
    noise = NEARER * resolved(recipe.train.precision, abs(own), positions)
    for key in ("total/loss", "told/loss"):
        apart = abs(value(tensors, key) - own)
        for other in others:
            if apart > noise and NEARER * abs(value(tensors, key) - value(tensors, f"drawn {other}/loss")) <= apart:
                return drawn_from(other, step, backend, apart, noise, "loss")
    return None


def drawn_from(other: str, step: int, backend: str, apart: float, bound: float, what: str) -> dict[str, Any]:
    """The cause that is a backend whose `what` is that of another step's random bits."""
    found = cause("random bits", "step key", "forward", step, apart, bound, what)
    return found | {"sentence": f"step {step}: {BACKENDS[backend]} draws the random bits of step {other}"}


def running_cause(recipe: Recipe, bound: float, step: int, backend: str, tensors: Mapping[str, np.ndarray]
                  ) -> dict[str, Any] | None:
    """Running statistics that a step does not carry on from one micro-batch to the next as its passes move them."""
    last = f"part {parts(tensors) - 1}/running/"
    for key in (key for key in tensors if key.startswith(last)):
        name = key.removeprefix(last)
        apart = difference(tensors[f"after/weights/{name}"], tensors[key])
        if apart > bound:
            known = places(recipe.model)
            holder = next(n for n, place in known.items() if name.startswith(f"{place.holds}."))
            found = cause(known[holder].operation, holder, "running statistics", step, apart, bound, name)
            return found | {"sentence": f"step {step}: {BACKENDS[backend]} leaves other running statistics than its "
                                        f"micro-batches make in forward order: {name} differs by {sig(apart)}, "
                                        f"{sig(bound)} is rounding"}
    return None


def rate_cause(recipe: Recipe, step: int, sides: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any] | None:
    """A backend whose step tells another rate than the recipe's schedule has for it; a user's own optimizer has its
    own."""
    if described(recipe.optimizer).theirs:
        return None
    rates = learning_rates(recipe)
    for backend, tensors in sides.items():
        told, wanted = value(tensors, "told/learning_rate"), float(rates[step])
        if abs(told - wanted) > 2 * EPS["float32"] * abs(wanted):  # told in float32 at worst
            near = [n for n in (step - 1, step + 1) if 0 <= n < len(rates)
                    and abs(told - rates[n]) <= 2 * EPS["float32"] * abs(rates[n])]
            found = cause("schedule", "learning rate", "update", step, abs(told - wanted),
                          2 * EPS["float32"] * abs(wanted), "learning rate")
            whose = f", that of step {near[0]}" if near else ""
            return found | {"sentence": f"step {step}: {BACKENDS[backend]} takes the rate {sig(told)}{whose}; the "
                                        f"schedule has {sig(wanted)}"}
    return None


def update_cause(recipe: Recipe, step: int, sides: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any] | None:
    """The part of an update that differs, from one state and one gradient: clipping, a moment, the rate or the decay,
    the update itself, the average."""
    (_, mine), (other, theirs) = sides.items()
    dtype = master_dtype(recipe)
    bound = (8 + (shares_rounded(recipe.optimizer) if dtype == "float32" else 0)) * EPS[dtype]
    off = {}
    for name in (name for name in both(sides) if name.startswith(("clipped/", "update/"))):
        x, y = mine.get(name), theirs.get(name)
        if x is not None and y is not None and (unsure := unsure_signs(recipe, name, mine, dtype)) is not None:
            x, y = np.where(unsure, 0, x), np.where(unsure, 0, y)
        if (apart := difference(y, x)) > bound:
            off[name.removeprefix("update/")] = apart
    slots = [(slot, "moment") for slot in described(recipe.optimizer).slots(recipe.optimizer)]
    for group, operation in (("clipped", "clip"), *slots, ("weights", None), ("ema", "average")):
        failed = {name: apart for name, apart in off.items() if name.startswith(f"{group}/")}
        if failed:
            worst = max(failed, key=failed.__getitem__)
            operation, said = (operation, "") if operation else stride_cause(BACKENDS[other], mine, theirs, failed)
            found = cause(operation, bare(worst), "update", step, failed[worst], bound, worst)
            return found | {"sentence": f"{found['sentence']}{said}"}
    return None


def stride_cause(student: str, mine: Any, theirs: Any, failed: Any) -> tuple[str, str]:
    """(operation, how) of weights that one update has moved elsewhere: all by the same multiple, by a share of what
    they were, or otherwise."""
    def stacked(function):
        return np.concatenate([np.ravel(np.asarray(function(name), np.float64)) for name in failed])

    before = stacked(lambda name: mine[f"before/{name}"])
    one, other = (stacked(lambda name, side=side: side[f"update/{name}"]) - before for side in (mine, theirs))
    apart = other - one
    size = np.linalg.norm(apart)
    for operation, what, way in (("schedule", one, "its stride is {} times as long"),
                                 ("decay", before, "it decays by {} more")):
        share = float(what @ apart / max(what @ what, TINY))
        if np.linalg.norm(apart - share * what) <= PART * size:
            return operation, f"; {student}: " + way.format(sig(1 + share if operation == "schedule" else -share))
    return "update", ""


def unsure_signs(recipe: Recipe, name: str, side: Mapping[str, np.ndarray], dtype: str) -> np.ndarray | None:
    """Where Lion's stride is of a sign that the masters' rounding decides, as `benchmarks.rungs.ladder.unsure_signs`
    has it; None where nothing is unsure of a tensor."""
    kind = described(recipe.optimizer)
    if kind.signs is None or not name.startswith(("update/weights/", "update/ema/")):
        return None
    tensor, slots = name.split("/", 2)[2], kind.slots(recipe.optimizer)
    if not {f"clipped/{tensor}", *(f"before/{slot}/{tensor}" for slot in slots)} <= side.keys():
        return None
    held = {slot: np.asarray(side[f"before/{slot}/{tensor}"], np.float64) for slot in slots}
    total, size = kind.signs(recipe.optimizer, held, np.asarray(side[f"clipped/{tensor}"], np.float64))
    return total <= 16 * EPS[dtype] * size


def value(tensors: Mapping[str, np.ndarray], key: str) -> float:
    """A scalar, which comes out of a file as one value."""
    return float(np.ravel(tensors[key])[0])


def parts(tensors: Mapping[str, np.ndarray]) -> int:
    """The number of micro-batches of a step taken apart."""
    return sum(name.startswith("part ") and name.endswith("/weight") for name in tensors)


def load_sides(paths: Mapping[str, Path]) -> dict[str, Mapping[str, np.ndarray]]:
    """{backend: what `whole_step` has written} of {backend: file}."""
    return {backend: load_tensors(path) for backend, path in paths.items()}
