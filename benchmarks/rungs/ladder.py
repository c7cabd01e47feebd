"""The parity ladder: what two backends left behind, judged rung by rung.

Gates are measured by twins (a second run of the same backend that an allowed change alone sets apart) and derived from
arithmetic; each check carries where its bound came from and the smallest tolerance that would have passed. A difference
of tensors is max |a - b| / max |b|, of losses |a - b|.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.rungs.evaluations import SIDES, accuracy_bound, added_bounds, apart, largest, resolved
from twinscale.benchmarks.rungs.walks import ANY, noise_of, parting
from twinscale.benchmarks.sides import LABELS as BACKENDS
from twinscale.benchmarks.verdict import Check, Rung
from twinscale.common.data.arrays import row_positions
from twinscale.common.families.parameters import Parameter, is_trained
from twinscale.common.files.tensors import difference
from twinscale.common.metrics import finish, finished
from twinscale.common.numbers import formats
from twinscale.common.numbers.formats import EPS, MASTERS, RESOLVED
from twinscale.common.operations.synthetic import synthetic_gradients
from twinscale.common.optimizers import described
from twinscale.common.registry import short

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe

PARTS = {"weight": "positions", "label_bytes": "bytes"}  # of an evaluation's sums, which are counts of what is shared
TINY = formats.TINY["float64"]


def summed_positions(recipe: "Recipe", dataset: "Dataset") -> int:
    """Rows of a batch times the positions, or pixels, within each: the length of the longest sum of a step."""
    return recipe.train.global_batch * row_positions(dataset.kind, dataset.example_shape)


def check(what: str, worst: float, bound: float, where: str, bound_from: str) -> Check:
    """One comparison; a difference or a bound that is not finite fails."""
    return Check(what=what, agrees=bool(worst <= bound < math.inf), worst=float(worst), bound=float(bound), where=where,
                 bound_from=bound_from)


def rung(name: str, title: str, proves: str, checks: list[Check]) -> Rung:
    """A level of the ladder: its checks, and for the headline the one nearest to its bound or furthest above it."""
    def severity(c):
        return math.inf if not math.isfinite(c.worst) else c.worst / max(c.bound, TINY)

    head: Any = max(checks, key=severity)
    return Rung(name=name, title=title, proves=proves, agrees=all(c.agrees for c in checks), worst=head.worst,
                bound=head.bound, bound_from=head.bound_from, where=f"{head.what}: {head.where}",
                smallest_tolerance=head.worst, margin=head.bound / head.worst if head.worst else None,
                checks=sorted(checks, key=severity, reverse=True))


def contract_rung(contracts: Mapping[str, Mapping[str, str]], sides: Sequence[str] = SIDES,
                  dtypes: Mapping[str, Mapping[str, str]] | None = None, begun: str = "") -> Rung:
    """P0: everything that both sides share before the first step, by its hash, and the dtypes of what they compute,
    {side: {what: dtype}}, where these are known. `begun`: where first weights of the user's come from."""
    shared = {"hashes": contracts} | ({"dtypes": dtypes} if dtypes else {})
    checks = [equal_check(kind, values, sides) for kind, values in shared.items()]
    if begun:
        checks[0] |= {"where": f"{checks[0].where}; first weights: {begun}"}
    return rung("P0", "contract", "equal batches, first weights, random bits, learning rates and recipe"
                + ", and what is computed in equal dtypes" * bool(dtypes), checks)


def equal_check(kind: str, values: Mapping[str, Mapping[str, str]], sides: Sequence[str]) -> Check:
    """How many of {side: {what: text}} differ, which are to be equal; "differing" of the check names them."""
    one, other = (values[side] for side in sides)
    names = sorted(one.keys() | other.keys())
    differing = [name for name in names if one.get(name) != other.get(name)]
    said = differing[:3]
    if kind == "dtypes":
        said = [f"{name} ({one.get(name, 'none')} in {BACKENDS.get(sides[0], sides[0])}, "
                f"{other.get(name, 'none')} in {BACKENDS.get(sides[1], sides[1])})" for name in said]
    where = ", ".join(said) + f" and {len(differing) - 3} more" * (len(differing) > 3) or "nothing differs"
    return check(f"{len(names)} {kind}", len(differing), 0, where, f"bitwise: the number of {kind} that differ") | {
        "differing": differing}


def gradient_rung(tensors: Mapping[Any, Any], precision: str, positions: int) -> tuple[Rung, set[str]]:
    """P2: logits, loss and every gradient of the first step, and of the same step at weights and on a batch that
    nothing favours.

    The sharpest precision's bound is no lower than 16 eps for a sum of one value, and for `positions` of them
    16 sqrt(positions) eps: the walk of their roundings (Higham & Mary 2019), which a twin shows only in part.

    Args:
      tensors: {precision: {point: {run: {name: array}}}}, runs "keras", "jax", "keras-twin", "jax-twin", the sharpest
        precision first.
      precision: the recipe's.
      positions: the longest sum of the step, over rows and positions within a row.
    Returns: (rung, null directions of the first step).
    """
    checks, null = [], {}
    sharpest = next(iter(tensors))
    floor, source = 16 * math.sqrt(positions) * EPS[sharpest], f"16 sqrt({positions:,}) eps of {sharpest}"
    for point, runs in tensors[sharpest].items():
        null[point] = null_directions(runs, sharpest)
        found = first_step_checks(sharpest, runs, null[point], floor, source)
        found += [twin_check(backend, runs, null[point], sharpest) for backend in ("keras", "jax")]
        if precision != sharpest:
            found += first_step_checks(precision, tensors[precision][point], null[point], 0.0, "", runs)
        checks += found if point == "first" else [c | {"where": f"{c['where']} at the {point} point"} for c in found]
    proves = "one function: equal logits, loss and gradients at step 0, at generic weights and on a stress batch"
    return rung("P2", "gradient", proves, checks), null["first"]


def first_step_checks(precision: str, runs: Mapping[str, Any], null: set[str], floor: float, floor_from: str,
                      wide: Mapping[str, Any] | None = None) -> list[Check]:
    """Checks of one precision: every tensor against 4 twins' noise, or against `floor` where that is more.

    The noise is that of the noisiest tensor but null directions, and no bound is less than 4 times what rounding costs
    the better backend at that tensor beside its own float64, `wide`. What one operation adds to its own, P1 judges.
    """
    names = both(runs)
    judged = [name for name in names if bare(name) not in null]
    noise = max(difference(runs[b][n], runs[f"{b}-twin"][n]) for b in SIDES for n in judged if n in runs[b])
    bound, bound_from = max((4 * noise, f"4 x the {precision} twin's noise"), (floor, floor_from))
    checks = []
    for name in judged:
        cost = min(difference(runs[b].get(name), wide[b].get(name)) for b in SIDES) if wide else 0.0
        limit, source = max((bound, bound_from), (4 * cost, f"4 x what {precision} costs the better backend there"))
        apart = difference(runs["keras"].get(name), runs["jax"].get(name))
        checks.append(check(precision, apart, limit, name, source))
    largest = max(np.abs(x).max() for name, x in runs["jax"].items() if name.startswith("gradients/"))
    for name in (name for name in names if bare(name) in null):
        worst = np.abs(runs["keras"][name] - runs["jax"][name]).max() / largest
        checks.append(check(f"{precision}, null direction", worst, bound, name, f"{bound_from}, of the largest"))
    return checks


def twin_check(backend: str, runs: Mapping[str, Any], null: set[str], precision: str = "float64") -> Check:
    """A backend's twin is to differ by rounding alone: else its bounds would hide what depends on the order of rows."""
    worst, name = max((difference(runs[backend][name], runs[f"{backend}-twin"][name]), name)
                      for name in runs[backend] if bare(name) not in null)
    return check(f"{precision}, {BACKENDS[backend]} against its twin", worst, math.sqrt(EPS[precision]), name,
                 f"half of {precision}'s digits")


def null_directions(runs: Mapping[str, Any], precision: str = "float64") -> set[str]:
    """Names whose gradient is zero but for rounding: their twin shares no three digits with them, and they are below
    1e-9 of the largest gradient in float64, in float32 1,000 eps of it, as many as three digits are. One that is all
    zeros on one side alone is not: it is missing there."""
    names = [n for n in runs["keras"] if n.startswith("gradients/") and n in runs["jax"]]
    largest = {b: max(np.abs(runs[b][n]).max() for n in names) for b in SIDES}
    small = 1e-9 if precision == "float64" else 1e3 * EPS[precision]
    tiny = {b: {n for n in names if np.abs(runs[b][n]).max() <= small * largest[b]} for b in SIDES}
    noisy = {n for n in names if max(difference(runs[b][n], runs[f"{b}-twin"][n]) for b in SIDES) > 1e-3}
    zero = {n for n in names if not runs["keras"][n].any()}
    return {bare(n) for n in tiny["keras"] & (noisy | (tiny["jax"] & zero))}


def optimizer_rung(states: Mapping[Any, Any], optimizer: Any = None) -> Rung:
    """P3: what the same synthetic gradients left of both optimizers after each update, in float64 and in the masters'
    dtype of the recipe's precision, which under bfloat16 is float32.

    Args:
      states: {precision: {backend: {"clipped/NAME" or "UPDATE/GROUP/NAME": array}}}.
      optimizer: the recipe's section. In float32 it says how far 1 - beta may be off, for each beta is rounded, and
        which of Lion's strides are of a sign that rounding decides: those are not judged.
    """
    checks = []
    for precision, sides in states.items():
        dtype = MASTERS[precision]
        narrow = optimizer if dtype == "float32" else None
        signs = unsure_signs(sides["keras"], narrow) if narrow and described(narrow).signs else {}
        shares = shares_rounded(narrow) if narrow else 0
        for name in both(sides):
            head, _, tensor = name.partition("/")
            updates = 1 if head == "clipped" else int(head) + 1
            where = name if head == "clipped" else f"{tensor} after update {updates}"
            judged = [sides[b].get(name) for b in SIDES]
            unsure = signs.get((head, bare(tensor))) if tensor.startswith(("weights/", "ema/")) else None
            if unsure is not None and all(x is not None for x in judged):
                judged = [np.where(unsure, 0, x) for x in judged]
            checks.append(check(precision, difference(*judged), (8 * updates + shares) * EPS[dtype], where,
                                f"8 eps of {dtype} for each of {updates} updates"))
    return rung("P3", "optimizer", "one update: equal weights and slots after identical gradients", checks)


def shares_rounded(optimizer: Any) -> float:
    """Eps by which two sides' 1 - beta may part where each beta is rounded, added up over an optimizer's betas."""
    return sum(1 / (1 - beta) for beta in described(optimizer).betas(optimizer))


def unsure_signs(side: Mapping[str, np.ndarray], optimizer: Any) -> dict[tuple[str, str], np.ndarray]:
    """{(UPDATE, NAME): bool array} of the weights in which an optimizer has strode, at an update or before it, by the
    sign of a sum that float32 does not resolve: 16 eps of what it adds up."""
    kind = described(optimizer)
    begun = "0/weights/"
    tree = {name.removeprefix(begun): Parameter(x.shape) for name, x in side.items() if name.startswith(begun)}
    found, update = {}, 0
    while any(name.startswith(f"{update}/") for name in side):
        gradients = synthetic_gradients(tree, update)
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradients.values()))
        share = min(1.0, optimizer.clip_norm / norm) if optimizer.clip_norm else 1.0
        for name, g in gradients.items():
            held = {slot: np.asarray(side.get(f"{update - 1}/{slot}/{name}", where.first), np.float64)
                    for slot, where in kind.slots(optimizer).items()}
            total, size = kind.signs(optimizer, held, share * g)
            found[str(update), name] = found.get((str(update - 1), name), False) | (total <= 16 * EPS["float32"] * size)
        update += 1
    return found


def semantics_rung(runs: Mapping[str, Any], starts: Mapping[str, np.ndarray], optimizer: Any, rates: np.ndarray
                   ) -> tuple[Rung, dict[str, Any]]:
    """P4: the float64 trajectory: every loss up to the twins' horizon, the weights at the end, and what an evaluation
    of them found.

    Args:
      runs: as `compare.trainings` has them, and where it is known "unshown", by which twins' noise is multiplied.
      starts: {canonical name: first value} of null directions.
      optimizer: the recipe's section. rates: of each update.
    """
    curve = loss_curve(runs, "float64", factor=8 * runs.get("unshown", 1.0))
    checks = [loss_check("float64", curve), *weight_checks(runs, starts, optimizer, rates),
              *held_out_checks("float64", runs, curve)]
    return rung("P4", "semantics", "one training: equal losses and weights step by step in float64", checks), curve


def unshown(runs: Mapping[str, Any], null: set[str], positions: int) -> float:
    """How many times as far as twins both sides' first gradients lie apart in float64, 1 or more: so much of their
    rounding twins do not show.

    A twin reorders rows and dithers first weights by half a unit in the last place. A sum over all rows at one position
    and then at the next, as XLA on a CPU forms a float64 convolution's kernel gradient, is rounded nearly alike for all
    that. Each step's rounding is carried on in proportion until twins part, so what holds of the first gradients holds
    of what follows. A difference counts up to what P2 lets pass.

    Args: as `gradient_rung` has them; `runs` of the first step in float64, `null` its null directions.
    """
    judged = [name for name in both(runs) if name.startswith("gradients/") and bare(name) not in null]
    eps, of = EPS["float64"], {run: runs[run].get for run in (*SIDES, *(f"{b}-twin" for b in SIDES))}
    twins = max((difference(of[b](name), of[f"{b}-twin"](name)) for b in SIDES for name in judged), default=0.0)
    sides = max((difference(of["keras"](name), of["jax"](name)) for name in judged), default=0.0)
    return max(1.0, min(sides, 16 * math.sqrt(positions) * eps) / max(twins, eps))


def numerics_rung(runs: Mapping[str, Any], precision: str) -> tuple[Rung, dict[str, Any]]:
    """P5: the trajectory in the recipe's precision, up to the horizon, and what an evaluation at its end found."""
    curve = loss_curve(runs, precision, factor=4)
    return rung("P5", "numerics", f"no more rounding than {precision} costs each backend itself",
                [loss_check(precision, curve), *held_out_checks(precision, runs, curve)]), curve


def loss_curve(runs: Mapping[str, Any], precision: str, factor: float, sides: Sequence[str] = SIDES) -> dict[str, Any]:
    """Both losses, their difference, the twins' envelope and the bound, step by step.

    The envelope is the largest difference of either side from its own twin so far. Below it stands what the mean of
    N positions cannot resolve, a random walk of N roundings (Higham & Mary 2019): sqrt(N) eps |L| in the dtype of the
    sums, or r |L| / sqrt(N) where each position is rounded by itself in the compute dtype, r being its RESOLVED. The
    horizon is the first step at which a side has lost half of its digits to its twin, sqrt(r) |L|.
    """
    one, other = (runs[side]["loss"] for side in sides)
    size = np.maximum(np.abs(one), np.abs(other))
    apart = np.max([np.abs(runs[s]["loss"] - runs[f"{s}-twin"]["loss"]) for s in sides if f"{s}-twin" in runs], 0)
    envelope = np.maximum(np.maximum.accumulate(apart), resolved(precision, size, runs["positions"]))
    parted = np.flatnonzero(apart > math.sqrt(RESOLVED[precision]) * size)
    return {"steps": list(range(len(one))), sides[0]: one, sides[1]: other, "difference": np.abs(one - other),
            "envelope": envelope, "bound": factor * envelope, "factor": factor,
            "horizon": int(parted[0]) if len(parted) else None}


def loss_check(precision: str, curve: dict[str, Any]) -> Check:
    """The step whose difference is nearest to its bound, or furthest above it, before the horizon."""
    end = len(curve["steps"]) if curve["horizon"] is None else max(1, curve["horizon"])
    ratio = curve["difference"][:end] / np.maximum(curve["bound"][:end], TINY)
    step = int(np.argmax(np.where(np.isfinite(ratio), ratio, np.inf)))
    source = f"{curve['factor']:.3g} x the {precision} twin's envelope at step {step}"
    return check(f"{precision} loss", curve["difference"][step], curve["bound"][step],
                 f"step {step} of {end}" + " (the horizon)" * (curve["horizon"] is not None), source)


def held_out_checks(precision: str, runs: Mapping[str, Any], curve: dict[str, Any]) -> list[Check]:
    """Every metric of the evaluation at a trajectory's end: how much was evaluated, whether each side's metrics are
    those of its own sums, and, but past the horizon, where they are P7's, both sides' metrics. Nothing where a side was
    not evaluated.

    Args:
      runs: {run: {"held_out": metrics, "sums": what they are made of}} of both sides and their twins.
      curve: of the same runs.
    """
    one, other = (runs[side].get("sums") for side in SIDES)
    if not (one and other):
        return []
    checks = [check(f"{precision} held-out {what}", apart(one.get(key), other.get(key)), 0, "the evaluation",
                    "bitwise: what is evaluated is shared")
              for key, what in PARTS.items() if key in one or key in other]
    for side in SIDES:
        checks += own_checks(precision, BACKENDS[side], runs[side]["held_out"], runs[side]["sums"],
                             runs.get("metrics", ()), runs.get("labels", ()))
    if curve["horizon"] is not None:
        return checks
    bounds = held_out_bounds(precision, runs, curve)
    for name in both({side: runs[side]["held_out"] for side in SIDES}):
        bound, source = bounds.get(name, (0.0, "bitwise: no other bound is known"))
        worst = apart(*(runs[side]["held_out"].get(name) for side in SIDES))
        checks.append(check(f"{precision} held-out {name}", worst, bound, "the evaluation", source))
    return checks


def own_checks(precision: str, label: str, metrics: Mapping[str, Any], sums: Mapping[str, Any],
               added: Sequence[str] = (), labels: Sequence[str] = ()) -> list[Check]:
    """Whether the metrics that a side has told are what its sums give, but for the rounding of float64. `added`: those
    of `train.metrics`; `labels`: the names of the data's classes."""
    wanted, bound = finish(sums, sums.get("label_bytes")) | finished(added, sums, labels), 4 * EPS["float64"]
    return [check(f"{precision} held-out {name}", apart(metrics.get(name), wanted.get(name)),
                  bound * abs(wanted.get(name) or 0.0), f"what {label} makes of its own sums", "4 eps of float64")
            for name in dict.fromkeys([*wanted, *metrics])]


def held_out_bounds(precision: str, runs: Mapping[str, Any], curve: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """{metric of `common.metrics.finish`: (bound, where it is from)}.

    The loss may differ as those of the steps do: by the envelope at the last step, or by what a twin's evaluation
    differs by where that is more, and no less than the mean of its positions resolves. What is a smooth function of the
    loss may differ by what the loss's bound makes of it. Of classes, as many hits may be gained or lost as
    `accuracy_bound` says.
    """
    sums, told = ([runs[side][group] for side in SIDES] for group in ("sums", "held_out"))
    weight = max(found["weight"] for found in sums)
    twins = [(runs[s], runs[f"{s}-twin"]) for s in SIDES if runs.get(f"{s}-twin", {}).get("sums")]
    own = max((apart(*(run["held_out"].get("loss") for run in pair)) for pair in twins), default=0.0)
    unresolved = resolved(precision, largest(told, "loss"), max(weight, 1.0))
    loss, exact = curve["factor"] * max(own, float(curve["envelope"][-1]), unresolved), 4 * EPS["float64"]
    hits = accuracy_bound(sums, twins, curve["factor"], loss) if "correct" in sums[0] else {}
    bits = weight / (math.log(2) * max(1.0, min(found.get("label_bytes") or 1.0 for found in sums)))
    return {
        "loss": (loss, f"{curve['factor']:.3g} x the {precision} twin's envelope at the end, or its evaluation's"),
        **hits,
        "perplexity": (largest(told, "perplexity") * (exact - math.expm1(-loss)), "exp of the loss and of its bound"),
        "bits_per_byte": (bits * loss + exact * largest(told, "bits_per_byte"), "the loss's bound in bits a byte"),
        **added_bounds(precision, runs, curve["factor"], loss)}


def weight_checks(runs: Mapping[str, Any], starts: Mapping[str, np.ndarray], optimizer: Any, rates: np.ndarray
                  ) -> list[Check]:
    """The weights at the end of the float64 trajectory: 8 twins' noise, the noisiest tensor's, times what they do not
    show. Null directions are moved by rounding alone: absolutely, no further apart than two walks of noise under this
    optimizer."""
    weights = {run: runs[run]["weights"] for run in ("keras", "jax", "keras-twin", "jax-twin")}
    judged = [name for name in both(weights) if bare(name) not in starts]
    noise = max(difference(weights[b].get(name), weights[f"{b}-twin"].get(name)) for b in SIDES for name in judged
                if name in weights[b])
    factor = 8 * runs.get("unshown", 1.0)
    bound, source = max((factor * noise, f"{factor:.3g} x the float64 twin's noise in the weights"),
                        (16 * EPS["float64"], "16 eps of float64"))
    checks = [check("float64 weights", difference(*(weights[b].get(name) for b in SIDES)), bound, name, source)
              for name in judged]
    return checks + [null_check(runs, name, starts[bare(name)], optimizer, rates) for name in weights["keras"]
                     if bare(name) in starts and is_trained(name)]


def null_check(runs: Mapping[str, Any], name: str, start: np.ndarray, optimizer: Any, rates: np.ndarray) -> Check:
    """A null direction at the end of the float64 trajectory: as far as `benchmarks.rungs.walks` lets two walks part by
    noise of its size, or 8 twins' noise in it where that is more; and never further than by noise of any size. Where
    nothing is known of the optimizer's strides, 8 twins' noise alone."""
    keras, jax = (runs[b]["weights"][name] for b in ("keras", "jax"))
    twins = max(np.abs(runs[b]["weights"][name] - runs[f"{b}-twin"]["weights"][name]).max() for b in ("keras", "jax"))
    norms = np.maximum(runs["keras"]["norm"], runs["jax"]["norm"])
    noise = noise_of(optimizer, norms, 16 * math.sqrt(runs["positions"]) * EPS["float64"])
    walks = f"two walks of rounding noise under {short(optimizer.name)}"
    noisy = 8 * float(twins), "8 x the float64 twin's noise in it"
    parted: Any = (parting(optimizer, rates, g, bare(name), start) for g in (noise, np.full(len(rates), ANY)))
    some, any_size = parted
    bound, source = noisy if some is None else min(max((some, walks), noisy), (any_size, walks))
    return check("float64 weights, null direction", np.abs(keras - jax).max(), bound, name, source)


def both(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of Keras' tensors and of JAX', in order; what one of them lacks differs by infinity."""
    return list(dict.fromkeys([*runs["keras"], *runs["jax"]]))


def bare(name: str) -> str:
    """A tensor's canonical name without its group."""
    return name.split("/", 1)[-1]
