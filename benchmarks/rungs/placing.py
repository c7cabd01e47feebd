"""Where two backends part: the first operation whose result differs though its inputs are the same.

Looked for in the order in which one thing leads to another: what is shared before the first step; each operation
forward, the loss, each operation backward, with the other backend's numbers fed in (teacher forcing), so that no
operation is blamed for another; the sum over micro-batches; the optimizer; what a later step draws; evaluation.
All of it in float64, where rounding hides nothing; in the recipe's precision where float64 agrees.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.rung_table import is_placed
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.rungs.cause import cause
from twinscale.benchmarks.rungs.later import suspects, taken_apart
from twinscale.benchmarks.rungs.operations import part, places_path, read_places
from twinscale.benchmarks.rungs.own_optimizers import own_cause
from twinscale.benchmarks.verdict import Check, Rung, precision_of, read_digests, read_hashes
from twinscale.common.families import traits_of
from twinscale.common.families.places import Place, places
from twinscale.common.files.tensors import difference
from twinscale.common.numbers.formats import RESOLVED
from twinscale.common.operations.points import POINTS
from twinscale.common.optimizers import described
from twinscale.common.recipe.schema import AXES, Recipe, in_sharpest
from twinscale.common.schedules import OwnSchedule
from twinscale.common.schedules import described as schedule_of
from twinscale.common.training.run_metrics import read_metrics

LOWEST = -1e30  # scores below are masked
CONTRACT = {"data": "data", "batch": "data", "weights": "initial value", "learning rates": "schedule",
            "random bits": "random bits", "recipe": "recipe"}
DTYPES = {"weights": "initial value", "ema": "average", "loss": "loss"}  # of what it is


class Looks(NamedTuple):
    """What is asked of both backends, the teacher first, while a cause is looked for."""

    taps: Callable  # (number) -> {backend: tensors of `common.training.trace.step_taps`}
    optimizer: Callable  # (recipe) -> {backend: tensors of `common.training.trace.optimizer_steps`}
    states: Callable  # (steps) -> {step: file of the teacher's state before it}
    places: Any  # (point) -> {backend: PlaceRows}
    step: Callable  # (point) -> {backend: tensors of `common.calls.one_step.whole_step`}
    uneven: Callable  # () -> the first step whose micro-batches weigh unlike, or None


def looked_at(recipe: Recipe, rungs: Sequence[Rung]) -> Recipe:
    """The recipe in the precision in which a cause is looked for: its own where nothing else has failed, else float64,
    in which rounding hides nothing."""
    failed = [c for rung in rungs if is_placed(rung["name"]) for c in rung["checks"] if not c["agrees"]]
    own = bool(failed) and all(precision_of(c) == recipe.train.precision for c in failed)
    return recipe if own else in_sharpest(recipe)


def first_cause(recipe: Recipe, positions: int, out: Path, verdict: dict[str, Any], looks: Looks
                ) -> dict[str, Any] | None:
    """The first cause of a disagreement, as `cause` has it, or None where nothing was found.

    Args:
      recipe: the recipe in the precision to look at. positions: the length of the longest sum of a step.
      out: what `benchmarks.compare.collect` left. verdict: what `benchmarks.compare.judge` made of it.
      looks: Looks.
    """
    rungs = {rung["name"]: rung for rung in verdict["rungs"]}
    return (contract_cause(recipe, out, rungs["P0"]) or batches_cause(recipe, out)
            or in_place_cause(recipe, {b: read_places(places_path(out, b)) for b in ladder.SIDES})
            or (None if rungs["P2"]["agrees"] else operation_cause(recipe, positions, looks.taps(0), 0))
            or shares_cause(recipe, positions, rungs["P2"])
            or gradient_cause(recipe, rungs["P2"], lambda point: taken_apart(
                recipe, positions, point, looks.step(point), looks.uneven))
            or optimizer_cause(recipe, rungs["P3"], looks.optimizer)
            or later_cause(recipe, positions, verdict["curves"][recipe.train.precision], looks)
            or step_cause(recipe, positions, out, rungs)
            or evaluation_cause(rungs, recipe) or alone_cause(rungs.get("P1")))


def contract_cause(recipe: Recipe, out: Path, rung: Rung) -> dict[str, Any] | None:
    """What P0 found: something shared that is not; a weight that one side lacks; or a dtype."""
    sides = {b: read_hashes(ComparisonFiles(out).contract(b)) for b in ladder.SIDES}
    keras, jax = sides.values()
    for kind, operation in CONTRACT.items():
        for name in sorted(keras.keys() | jax.keys()):
            if name.split("/")[0].rstrip("0123456789 ") == kind and keras.get(name) != jax.get(name):
                where, phase = ladder.bare(name), "before the first step"
                lacks = kind == "weights" and lacking(places(recipe.model), where, phase, 0, name, sides)
                return lacks or cause(operation, where, phase)
    parted = next((c for c in rung["checks"] if c["what"].endswith("dtypes") and c["differing"]), None)
    if parted is None:
        return None
    known = places(recipe.model)
    order = {f"{recipe.train.precision} forward/{name}": i for i, name in enumerate(known)}
    first = min(parted["differing"], key=lambda name: (order.get(name, len(order)), name))
    group, _, where = first.split(" ", 1)[1].partition("/")
    operation = known[where].operation if group == "forward" and where in known else (
        DTYPES | dict.fromkeys(described(recipe.optimizer).slots(recipe.optimizer), "moment")).get(group, "dtype")
    found = cause(operation, where or group, "dtypes", name=first)
    return found | {"sentence": f"{found['sentence']}: {parted['where']}"}


def lacking(known: Mapping[str, Place], where: str, phase: str, step: int, name: str,
            sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The cause where one of `sides`, {backend: tensors}, has no `name` and another has: what it lacks is the place
    `where`, or that which holds the tensor so called. None where both have it."""
    without = next((backend for backend, tensors in sides.items() if name not in tensors), None)
    if without is None:
        return None
    holder = where if where in known else next((n for n, p in known.items() if p.holds and where.startswith(
        f"{p.holds}.")), None)
    found = cause(known[holder].operation if holder else "weights", holder or where, phase, step, name=name)
    return found | {"sentence": f"step {step}, {phase}: {found['operation']} at {found['where']}: "
                                f"{ladder.BACKENDS[without]} has no `{where}`"}


def batches_cause(recipe: Recipe, out: Path) -> dict[str, Any] | None:
    """The first step whose batches differ."""
    runs = (ComparisonFiles(out).run(b, recipe.train.precision) for b in ("keras", "jax"))
    keras, jax = map(read_digests, runs)
    step = next((i for i, (a, b) in enumerate(zip(keras, jax, strict=False)) if a != b), None)
    return None if step is None else cause("data", "batch", "input", step)


def in_place_cause(recipe: Recipe, found: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any] | None:
    """The first operation that P1 has found to be off in its place, of the recipe's precision: in the order of
    `blamed`. None where there is none, or one side lacks a place: `operation_cause` says so.

    `found`: {backend: {point of POINTS, or number of a step: PlaceRows}}, of both the same points.
    """
    kind = "float64" if recipe.train.precision == "float64" else "own"
    for point in next(iter(found.values())):
        when, step = (f"at the {point} point", 0) if point in POINTS else (f"at step {point}", point)
        rows = [row | {"backend": b} for b, points in found.items() for row in points[point][kind]]
        off = {row["tensor"]: row for row in sorted(rows, key=part) if part(row) > 1}
        if any(row["error"] is None and not row["bound"] for row in off.values()):
            return None
        where = blamed(places(recipe.model), off)
        if where:
            operation, place, phase, tensor = where
            row = off[tensor]
            said = cause(operation, place, f"{phase} {when}", step, row["error"], row["bound"], ladder.bare(tensor))
            eps = f"{sig(row['error'] or math.inf)} eps off, {sig(row['bound'])} is rounding"
            if row["error"] is not None and row["error"] <= row["bound"]:
                eps = f"{sig(row['beside'])} of its values are not the nearest, {sig(row['rare'])} is rounding"
            who = "" if kind == "float64" else f"{ladder.BACKENDS[row['backend']]}: "
            return said | {"sentence": f"{phase} {when}: {who}{operation} at {place}: {ladder.bare(tensor)} is {eps}"}
    return None


def blamed(known: dict[str, Place], off: Collection[str]) -> tuple[str, str, str, str] | None:
    """(operation, place, phase, tensor) of the first of the tensors `off` of a step, forward, then the loss, then what
    the forward pass keeps, then backward; None where there is none."""
    for name, place in known.items():
        if f"forward/{name}" in off:
            return place.operation, name, "forward", f"forward/{name}"
    for name in ("loss/weight", "loss/loss", "loss/correct"):
        if name in off:
            return "loss", "loss", "forward", name
    for tensor in (t for t in off if t.startswith("running/")):
        holder = holder_of(known, tensor.removeprefix("running/"))
        return known[holder].operation, holder, "running statistics", tensor
    for name, place in reversed(known.items()):
        if f"backward/{name}" in off:  # what its readers hand on, before what it makes of that
            readers = [n for n, p in known.items() if name in p.reads]
            kinds = sorted({known[n].operation for n in readers}) or ["loss"]
            return " or ".join(kinds), " or ".join(readers) or "loss", "backward", f"backward/{name}"
        for tensor in (t for t in off if place.holds and t.startswith(f"gradients/{place.holds}.")):
            kinds = sorted({p.operation for p in known.values() if p.holds == place.holds})  # a tied head's table
            return " or ".join(kinds), place.holds, "backward", tensor
    return None


def operation_cause(recipe: Recipe, positions: int, sides: Mapping[str, Mapping[str, np.ndarray]], step: int
                    ) -> dict[str, Any] | None:
    """The first operation of a step that makes other numbers of the teacher's, or that one side lacks: forward, then
    the loss, then what the forward pass keeps, then backward. `sides` are as `taps` of `first_cause` returns them."""
    teacher, student = sides.values()
    bound = 16 * math.sqrt(positions) * RESOLVED[recipe.train.precision]
    known = places(recipe.model)
    phases = {"forward": "forward", "running": "running statistics", "gradients": "backward"}
    largest = {}  # of the gradients at a place: a bias may have a zero gradient, and is judged by its kernel's
    for name in ladder.both(sides):
        group, _, bare = name.partition("/")
        if group in phases and (found := lacking(known, bare, phases[group], step, name, sides)):
            return found
        if group == "gradients":
            holder = bare.rpartition(".")[0]
            largest[holder] = max(largest.get(holder, 0.0), float(np.abs(teacher[name]).max()))

    def far(name):
        scale = largest[ladder.bare(name).rpartition(".")[0]] if name.startswith("gradients/") else 0.0
        return apart(student[name], teacher[name], scale)

    off = {name: d for name in teacher if name in student and (d := far(name)) > bound}
    where = blamed(known, off)
    if where is None:
        return None
    operation, place, phase, tensor = where
    return cause(operation, place, phase, step, off[tensor], bound, ladder.bare(tensor))


def shares_cause(recipe: Recipe, positions: int, rung: Rung) -> dict[str, Any] | None:
    """What several devices make otherwise than one, whose every operation is right. Where logits are others: an
    operation that reads what other devices have, a batch norm's statistics or bits by the row's number, else the rows
    that devices are given. Where gradients alone are: their sum. Twins' rows lie on other devices, so that the noise of
    P2 hides all of it but from its own bound."""
    bound = 16 * math.sqrt(positions) * RESOLVED[recipe.train.precision]
    off = [c for c in rung["checks"] if c["what"] == recipe.train.precision and c["worst"] > bound]
    if math.prod(getattr(recipe.devices, axis) for axis in AXES) == 1 or rung["agrees"] or not off:
        return None
    batch_norm = traits_of(recipe.model).norm == "batch"
    crossing = {name: place.operation for name, place in places(recipe.model).items()
                if place.operation == "random bits" or place.operation == "norm" and batch_norm}
    logits = [c for c in off if c["where"].startswith("logits")]
    worst = max(logits or off, key=lambda c: c["worst"])
    if not logits:
        operation, where = "accumulation", "gradients"
    else:
        operation, where = " or ".join(dict.fromkeys(crossing.values())) or "data", next(iter(crossing), "batch")
    return cause(operation, where, "several devices", 0, worst["worst"], bound, ladder.bare(worst["where"]))


def gradient_cause(recipe: Recipe, rung: Rung, apart_at: Callable[[str], dict[str, Any] | None] = lambda point: None
                   ) -> dict[str, Any] | None:
    """Gradients that differ though every operation's own are right, at the point where they do most: those of some
    tensors, or the sum of all. Of that `apart_at(point)` has the cause, where the point's step taken apart shows it."""
    total = [c for c in rung["checks"] if c["where"].startswith("gradients/") and "twin" not in c["what"]]
    failed = [c for c in total if not c["agrees"]]
    if not failed:
        return None
    # In one precision, or at a point whose micro-batches weigh alike, they may all agree.
    total = [c for c in total if c["what"] in {f["what"] for f in failed}]
    worst = max(failed, key=lambda c: c["worst"])
    point = point_of(worst)
    total, failed = ([c for c in checks if point_of(c) == point] for checks in (total, failed))
    name, known = ladder.bare(worst["where"]).split(" ")[0], places(recipe.model)
    if 2 * len(failed) > len(total):
        found = apart_at(point)
        return found or cause("accumulation", "gradients", "backward", 0, worst["worst"], worst["bound"], name)
    place = known[holder_of(known, name)]
    return cause(place.operation, place.holds or name.rpartition(".")[0], "backward", 0, worst["worst"], worst["bound"],
                 name)


def holder_of(known: Mapping[str, Place], tensor: str) -> str:
    """The place that holds a tensor by its canonical name: the one that there is, of a program as a whole."""
    return next((name for name, place in known.items() if place.holds and tensor.startswith(f"{place.holds}.")),
                next(iter(known)))


def point_of(check: Check) -> str:
    """The point of POINTS that a check of P2 is at."""
    return next((point for point in POINTS[1:] if check["where"].endswith(f"at the {point} point")), POINTS[0])


def optimizer_cause(recipe: Recipe, rung: Rung, optimizer: Callable[[Recipe], Mapping[str, Mapping[str, np.ndarray]]]
                    ) -> dict[str, Any] | None:
    """The part of an update that differs: clipping; decay or schedule, where without them nothing does; a moment; the
    average; or the update itself."""
    failed = [c for c in rung["checks"] if not c["agrees"]]
    if not failed:
        return None

    def blame(operation, groups):
        worst = next((c for c in failed if c["where"].startswith(groups)), failed[0])
        return cause(operation, worst["where"].split(" ")[0].split("/", 1)[-1], "update", 0, worst["worst"],
                     worst["bound"], worst["where"])

    if described(recipe.optimizer).theirs and recipe.train.precision == "float64" and (
            found := own_cause(failed, optimizer(recipe), recipe.optimizer)):
        return found
    groups = {c["where"].split("/")[0] for c in failed}
    if "clipped" in groups:
        return blame("clip", "clipped/")
    for operation, variant in optimizer_variants(recipe).items():
        states = {recipe.train.precision: optimizer(variant)}
        if ladder.optimizer_rung(states, recipe.optimizer)["agrees"]:
            return blame(operation, "weights/")
    for group in described(recipe.optimizer).slots(recipe.optimizer):
        if group in groups:
            return blame("moment", f"{group}/")
    return blame("average", "ema/") if groups == {"ema"} else blame("update", "weights/")


def optimizer_variants(recipe: Recipe) -> dict[str, Recipe]:
    """{class of operation: the recipe without it}, of what an optimizer can do without."""
    variants = {}
    if recipe.optimizer.weight_decay:
        variants["decay"] = recipe.with_values(optimizer={"weight_decay": 0.0})
    if schedule_of(recipe.schedule).moves:
        variants["schedule"] = recipe.with_values(schedule=OwnSchedule())
    return variants


def later_cause(recipe: Recipe, positions: int, curve: dict[str, Any], looks: Looks) -> dict[str, Any] | None:
    """What differs at a later step, from the state that the teacher's training had before it: an operation in its
    place, or what `taken_apart` finds. Where no states were left, an operation under the first weights."""
    states = looks.states(suspects(curve))
    if not states:
        losses = zip(curve["difference"], curve["bound"], strict=True)
        step = next((i for i, (apart, bound) in enumerate(losses) if not apart <= bound), 0)
        return step and operation_cause(recipe, positions, looks.taps(step), step) or None
    for step, state in states.items():
        found = in_place_cause(recipe, {backend: {step: rows} for backend, rows in looks.places(state).items()})
        found = found or taken_apart(recipe, positions, state, looks.step(state), looks.uneven)
        if found:
            return found
    return None


def step_cause(recipe: Recipe, positions: int, out: Path, rungs: Mapping[str, Rung]) -> dict[str, Any] | None:
    """What a whole step does otherwise than its parts: gradients and updates agree by themselves, and yet the first
    step's gradient has another norm before it is clipped, or leads elsewhere."""
    losses = [c for c in rungs["P4"]["checks"] if c["what"] == "float64 loss" and not c["agrees"]]
    if not (rungs["P2"]["agrees"] and rungs["P3"]["agrees"] and losses):
        return None
    norms = [next(line["train/gradient_norm"] for line in read_metrics(
        ComparisonFiles(out).run(b, recipe.train.precision)) if "train/gradient_norm" in line) for b in ladder.SIDES]
    off, bound = apart(*norms), 16 * math.sqrt(positions) * RESOLVED[recipe.train.precision]
    if off > bound:
        return cause("accumulation or clip", "gradients", "the whole step", 0, off, bound, "the gradient's norm")
    return cause("clip or update", "gradients", "the whole step", 0, losses[0]["worst"], losses[0]["bound"], "the loss")


def evaluation_cause(rungs: Mapping[str, Rung], recipe: Recipe) -> dict[str, Any] | None:
    """The evaluation, where nothing but its results differ."""
    failed = [c for name in ("P4", "P5") for c in rungs.get(name, {"checks": ()})["checks"] if not c["agrees"]]
    if failed and all("held-out" in c["what"] for c in failed):
        where = failed[0]["what"].split(" ", 1)[1]
        return cause("evaluation", where, "evaluation", recipe.train.steps, failed[0]["worst"], failed[0]["bound"])
    return None


def alone_cause(rung: Rung | None) -> dict[str, Any] | None:
    """The operation furthest from its reference by itself, where it is not seen to differ in its place."""
    failed = [c for c in rung["checks"] if not c["agrees"] and c["what"].startswith(ladder.SIDES)] if rung else []
    if not failed:
        return None
    name = failed[0]["where"].split(",")[0]
    return cause(name, f"{name} by itself", failed[0]["what"], 0, failed[0]["worst"], failed[0]["bound"],
                 failed[0]["where"])


def apart(a: np.ndarray | float, b: np.ndarray | float, scale: float = 0.0) -> float:
    """max |a - b| of the largest |b| or of `scale`; infinite where one is masked and the other not, or not finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return math.inf
    masked = b < LOWEST
    if (masked != (a < LOWEST)).any():
        return math.inf
    a, b = np.where(masked, 0, a), np.where(masked, 0, b)
    return difference(a, b, scale)
