"""The parity ladder: what two backends left behind, judged rung by rung.

Gates are measured by twins (a second run of the same backend that an allowed change alone sets apart) and derived from
arithmetic; each check carries where its bound came from and the smallest tolerance that would have passed. A difference
of tensors is max |a - b| / max |b|, of losses |a - b|.
"""

import math

import numpy as np

from benchmarks.walks import ANY, noise_of, parting
from common.parameters import is_trained

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8}  # spacing of the numbers above 1
TINY = float(np.finfo(np.float64).tiny)
SIDES = ("keras", "jax")  # what is compared, unless a caller compares two other runs


def summed_positions(recipe, dataset):
    """Rows of a batch times the positions, or pixels, within each: the length of the longest sum of a step."""
    return recipe.train.global_batch * math.prod(dataset.example_shape[:2 if dataset.kind != "text" else 1])


def check(what, worst, bound, where, bound_from):
    """One comparison; a difference or a bound that is not finite fails."""
    return {"what": what, "agrees": bool(worst <= bound < math.inf), "worst": float(worst), "bound": float(bound),
            "where": where, "bound_from": bound_from}


def rung(name, title, proves, checks):
    """A level of the ladder: its checks, and for the headline the one nearest to its bound or furthest above it."""
    def severity(c):
        return math.inf if not math.isfinite(c["worst"]) else c["worst"] / max(c["bound"], TINY)

    head = max(checks, key=severity)
    margin = head["bound"] / head["worst"] if head["worst"] else None
    return {"name": name, "title": title, "proves": proves, "agrees": all(c["agrees"] for c in checks),
            "worst": head["worst"], "bound": head["bound"], "bound_from": head["bound_from"],
            "where": f"{head['what']}: {head['where']}", "smallest_tolerance": head["worst"], "margin": margin,
            "checks": sorted(checks, key=severity, reverse=True)}


def contract_rung(contracts, sides=SIDES):
    """P0: everything that both sides share before the first step, by its hash."""
    one, other = (contracts[side] for side in sides)
    names = sorted(one.keys() | other.keys())
    differing = [name for name in names if one.get(name) != other.get(name)]
    where = ", ".join(differing[:3]) + f" and {len(differing) - 3} more" * (len(differing) > 3) or "nothing differs"
    found = check(f"{len(names)} hashes", len(differing), 0, where, "bitwise: the number of hashes that differ")
    return rung("P0", "contract", "equal batches, first weights, random bits, learning rates and recipe", [found])


def gradient_rung(tensors, precision, positions):
    """P2: logits, loss and every gradient of the first step.

    The float64 bound is no lower than 16 eps for a sum of one value, and for `positions` of them 16 sqrt(positions)
    eps: the walk of their roundings (Higham & Mary 2019), which a twin shows only in part.

    Args:
      tensors: {precision: {run: {name: array}}}, runs "keras", "jax", "keras-twin", "jax-twin".
      precision: the recipe's.
      positions: the longest sum of the step, over rows and positions within a row.
    Returns: (rung, null directions).
    """
    null = null_directions(tensors["float64"])
    floor, source = 16 * math.sqrt(positions) * EPSILON["float64"], f"16 sqrt({positions:,}) eps of float64"
    checks = first_step_checks("float64", tensors["float64"], null, floor, source)
    checks += [twin_check(backend, tensors["float64"], null) for backend in ("keras", "jax")]
    if precision != "float64":
        checks += first_step_checks(precision, tensors[precision], null, 0.0, "")
    return rung("P2", "gradient", "one function: equal logits, loss and gradients at step 0", checks), null


def first_step_checks(precision, runs, null, floor, floor_from):
    """Checks of one precision: every tensor against 4 twins' noise, that of the noisiest tensor but null directions,
    or against `floor` where that is more."""
    judged = [name for name in runs["keras"] if bare(name) not in null]
    noise = max(difference(runs[b][name], runs[f"{b}-twin"][name]) for b in ("keras", "jax") for name in judged)
    bound, bound_from = max((4 * noise, f"4 x the {precision} twin's noise"), (floor, floor_from))
    checks = [check(precision, difference(runs["keras"][name], runs["jax"][name]), bound, name, bound_from)
              for name in judged]
    largest = max(np.abs(x).max() for name, x in runs["jax"].items() if name.startswith("gradients/"))
    for name in (name for name in runs["keras"] if bare(name) in null):
        worst = np.abs(runs["keras"][name] - runs["jax"][name]).max() / largest
        checks.append(check(f"{precision}, null direction", worst, bound, name, f"{bound_from}, of the largest"))
    return checks


def twin_check(backend, runs, null):
    """A backend's twin is to differ by rounding alone: else its bounds would hide what depends on the order of rows."""
    worst, name = max((difference(runs[backend][name], runs[f"{backend}-twin"][name]), name)
                      for name in runs[backend] if bare(name) not in null)
    return check(f"float64, {backend} against its twin", worst, math.sqrt(EPSILON["float64"]), name,
                 "half of float64's digits")


def null_directions(runs):
    """Names whose gradient is zero but for rounding: in float64 their twin shares no three digits with them, and they
    are below 1e-9 of the largest gradient."""
    gradients = {name: x for name, x in runs["keras"].items() if name.startswith("gradients/")}
    largest = max(np.abs(x).max() for x in gradients.values())
    null = set()
    for name, x in gradients.items():
        noisy = max(difference(runs[b][name], runs[f"{b}-twin"][name]) for b in ("keras", "jax")) > 1e-3
        if np.abs(x).max() <= 1e-9 * largest and (noisy or not x.any()):
            null.add(bare(name))
    return null


def optimizer_rung(states):
    """P3: what the same synthetic gradients left of both optimizers after each update, in float64.

    Args:
      states: {backend: {"clipped/NAME" or "UPDATE/GROUP/NAME": array}}.
    """
    keras, jax = states["keras"], states["jax"]
    checks = []
    for name in keras:
        head, _, tensor = name.partition("/")
        updates = 1 if head == "clipped" else int(head) + 1
        where = name if head == "clipped" else f"{tensor} after update {updates}"
        checks.append(check("float64", difference(keras[name], jax[name]), 8 * updates * EPSILON["float64"], where,
                            f"8 eps of float64 for each of {updates} updates"))
    return rung("P3", "optimizer", "one update: equal weights and slots after identical gradients", checks)


def semantics_rung(runs, starts, optimizer, rates):
    """P4: the float64 trajectory: every loss up to the twins' horizon, the weights at the end, and what an evaluation
    of them found.

    Args:
      runs: as `compare.trainings` has them. starts: {canonical name: first value} of null directions.
      optimizer: the recipe's section. rates: of each update.
    """
    curve = loss_curve(runs, "float64", factor=8)
    checks = [loss_check("float64", curve), *weight_checks(runs, starts, optimizer, rates),
              *held_out_checks(runs, curve)]
    return rung("P4", "semantics", "one training: equal losses and weights step by step in float64", checks), curve


def numerics_rung(runs, precision):
    """P5: the trajectory in the recipe's precision, up to the horizon."""
    curve = loss_curve(runs, precision, factor=4)
    return rung("P5", "numerics", f"no more rounding than {precision} costs each backend itself",
                [loss_check(precision, curve)]), curve


def loss_curve(runs, precision, factor, sides=SIDES):
    """Both losses, their difference, the twins' envelope and the bound, step by step.

    The envelope is the largest difference of either side from its own twin so far. Below it stands what the mean of
    N positions cannot resolve, a random walk of N roundings (Higham & Mary 2019): sqrt(N) eps |L| in the dtype of the
    sums, or eps |L| / sqrt(N) where each position is rounded by itself in the compute dtype. The horizon is the first
    step at which a side has lost half of its digits to its twin, sqrt(eps) |L|.
    """
    one, other = (runs[side]["loss"] for side in sides)
    size = np.maximum(np.abs(one), np.abs(other))
    summed = EPSILON["float64" if precision == "float64" else "float32"]
    walk = math.sqrt(runs["positions"])
    resolved = size * max(walk * summed, EPSILON[precision] / walk)
    apart = np.max([np.abs(runs[s]["loss"] - runs[f"{s}-twin"]["loss"]) for s in sides if f"{s}-twin" in runs], 0)
    envelope = np.maximum(np.maximum.accumulate(apart), resolved)
    parted = np.flatnonzero(apart > math.sqrt(EPSILON[precision]) * size)
    return {"steps": list(range(len(one))), sides[0]: one, sides[1]: other, "difference": np.abs(one - other),
            "envelope": envelope, "bound": factor * envelope, "factor": factor,
            "horizon": int(parted[0]) if len(parted) else None}


def loss_check(precision, curve):
    """The step whose difference is nearest to its bound, or furthest above it, before the horizon."""
    end = len(curve["steps"]) if curve["horizon"] is None else max(1, curve["horizon"])
    ratio = curve["difference"][:end] / np.maximum(curve["bound"][:end], TINY)
    step = int(np.argmax(np.where(np.isfinite(ratio), ratio, np.inf)))
    source = f"{curve['factor']} x the {precision} twin's envelope at step {step}"
    return check(f"{precision} loss", curve["difference"][step], curve["bound"][step],
                 f"step {step} of {end}" + " (the horizon)" * (curve["horizon"] is not None), source)


def held_out_checks(runs, curve):
    """The held-out loss after a float64 trajectory that was evaluated, against the last step's bound."""
    keras, jax = (runs[b]["held_out"].get("loss") for b in ("keras", "jax"))
    if keras is None or curve["horizon"] is not None:
        return []
    return [check("float64 held-out loss", abs(keras - jax), curve["bound"][-1], "the evaluation",
                  f"{curve['factor']} x the float64 twin's envelope at the last step")]


def weight_checks(runs, starts, optimizer, rates):
    """The weights at the end of the float64 trajectory: 8 twins' noise, the noisiest tensor's. Null directions are
    moved by rounding alone: absolutely, no further apart than two walks of noise under this optimizer."""
    weights = {run: runs[run]["weights"] for run in ("keras", "jax", "keras-twin", "jax-twin")}
    judged = [name for name in weights["keras"] if bare(name) not in starts]
    noise = max(difference(weights[b][name], weights[f"{b}-twin"][name]) for b in ("keras", "jax") for name in judged)
    bound, source = max((8 * noise, "8 x the float64 twin's noise in the weights"),
                        (16 * EPSILON["float64"], "16 eps of float64"))
    checks = [check("float64 weights", difference(weights["keras"][name], weights["jax"][name]), bound, name, source)
              for name in judged]
    return checks + [null_check(runs, name, starts[bare(name)], optimizer, rates) for name in weights["keras"]
                     if bare(name) in starts and is_trained(name)]


def null_check(runs, name, start, optimizer, rates):
    """A null direction at the end of the float64 trajectory: as far as `benchmarks.walks` lets two walks part by noise
    of its size, or 8 twins' noise in it where that is more; and never further than by noise of any size."""
    keras, jax = (runs[b]["weights"][name] for b in ("keras", "jax"))
    twins = max(np.abs(runs[b]["weights"][name] - runs[f"{b}-twin"]["weights"][name]).max() for b in ("keras", "jax"))
    norms = np.maximum(runs["keras"]["norm"], runs["jax"]["norm"])
    noise = noise_of(optimizer, norms, 16 * math.sqrt(runs["positions"]) * EPSILON["float64"])
    walks = f"two walks of rounding noise under {optimizer.name}"
    likely = max((parting(optimizer, rates, noise, bare(name), start), walks),
                 (8 * float(twins), "8 x the float64 twin's noise in it"))
    bound, source = min(likely, (parting(optimizer, rates, np.full(len(rates), ANY), bare(name), start), walks))
    return check("float64 weights, null direction", np.abs(keras - jax).max(), bound, name, source)


def difference(a, b):
    """max |a - b| / max |b| in float64; infinite where either is not finite or the shapes differ."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    return float(np.abs(a - b).max() / max(np.abs(b).max(), TINY)) if a.size else 0.0


def bare(name):
    """A tensor's canonical name without its group."""
    return name.split("/", 1)[-1]
