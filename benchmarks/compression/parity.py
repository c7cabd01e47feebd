"""Whether both backends have trained a stage alike: contract, masks, quanta, losses and the final metric, as rungs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.compression.stages import make_start, run_path, start_path
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.rungs.flips import LOUD, flip_checks, shadowed, until_jump
from twinscale.benchmarks.rungs.outcome import equivalence
from twinscale.benchmarks.workers import ROOMS, Worker, each
from twinscale.common.compress.recipes import active
from twinscale.common.compress.rules import mask_updates
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.numbers.formats import EPS, TINY
from twinscale.common.recipe.schema import Recipe, positions
from twinscale.common.training.loop import twin_of
from twinscale.common.training.run_metrics import read_metrics

if TYPE_CHECKING:
    from twinscale.benchmarks.verdict import Rung


def judge_stage(recipe: Recipe, out: Path, label: str, workers: Mapping[str, Worker]) -> dict[str, Any]:
    """{"rungs", "columns"} of a stage that both backends have trained."""
    stage = active(recipe)
    states = {b: load_tensors(RunFiles(run_path(out, b, label)).final) for b in ROOMS}
    rungs = [contract_rung(label, states)]
    columns: dict[str, Any] = {}
    if stage.kind == "prune":
        rung, columns["mask_agreement"] = masks_rung(recipe, out, label, states, workers)
        rungs.append(rung)
    if stage.kind in ("quantize", "post_training"):
        rung, columns["quanta"] = quanta_rung(recipe, out, label, workers)
        columns["quanta_differing"] = columns["quanta"]["differing"]
        rungs.append(rung)
    if stage.kind != "post_training":
        rungs.append(trajectory_rung(recipe, out, label, workers))
    rung, columns["paired"] = paired_rung(recipe, out, label, workers)
    return {"rungs": [*rungs, rung], "columns": columns}


def contract_rung(label: str, states: Mapping[str, Mapping[str, np.ndarray]]) -> "Rung":
    """Equal names and shapes of everything that both states hold."""
    one, other = ({name: x.shape for name, x in states[b].items()} for b in ROOMS)
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    check = ladder.check(f"{len(one)} names and shapes", len(differing), 0,
                         ", ".join(differing[:3]) or "nothing differs", "the number that differ")
    return ladder.rung(f"{label} contract", "contract", "the same is pruned, quantised, clustered and trained", [check])


def masks_rung(recipe: Recipe, out: Path, label: str, states: Mapping[str, Mapping[str, np.ndarray]],
               workers: Mapping[str, Worker]) -> "tuple[Rung, float]":
    """Every mask of either run, against what the other backend makes of the same weights: bit for bit. Returns the rung
    and the share of entries that are equal in the two runs' own masks at the end."""
    checks = []
    updates = mask_updates(active(recipe))
    for owner, other in (("keras", "jax"), ("jax", "keras")):
        run = run_path(out, owner, label)
        for update, later in zip(updates, [*updates[1:], None], strict=True):
            path = ComparisonFiles(out).masks(label, other, owner, update)
            workers[other].ask("stage_masks", recipe, path=path, update=update,
                               teacher=RunFiles(run).step(update - 1))
            made = load_tensors(path)
            after = load_tensors(RunFiles(run).step(later - 1) if later else RunFiles(run).final)
            wrong = {name: int((after[f"weights/{name}_mask"] != mask).sum()) for name, mask in made.items()}
            worst = max(wrong, key=wrong.__getitem__)
            total = sum(mask.size for mask in made.values())
            checks.append(ladder.check(f"{len(made)} masks of {owner}'s run, made by {other} from its weights",
                                       sum(wrong.values()), 0, f"{worst} at update {update}, {total:,} entries",
                                       "bitwise: the number of entries that differ"))
    names = [name for name in states["keras"] if name.endswith("_mask")]
    equal = sum(int((states["keras"][name] == states["jax"][name]).sum()) for name in names)
    return (ladder.rung(f"{label} masks", "masks", "equal weights are masked alike at every update", checks),
            equal / sum(states["keras"][name].size for name in names))


def quanta_rung(recipe: Recipe, out: Path, label: str, workers: Mapping[str, Worker]) -> "tuple[Rung, dict[str, Any]]":
    """Both backends' quantisers on Keras' final weights and ranges: no value more than one quantum apart. Returns the
    rung, and {"differing", "total", "worst"}."""
    state = RunFiles(run_path(out, "keras", label)).final
    paths = {b: ComparisonFiles(out).quanta(label, b) for b in ROOMS}
    each(workers, lambda worker: worker.ask("quanta", recipe, path=paths[worker.backend], teacher=state))
    made, tensors = {b: load_tensors(path) for b, path in paths.items()}, load_tensors(state)
    checks, differing, total = [], 0, 0
    for name, keras in made["keras"].items():
        weights = f"weights/{name}_range" in tensors
        low, high = tensors[f"weights/{name}_range" if weights else f"weights/{name}.range"].astype(np.float64)
        quantum = np.maximum((high - low) / (254 if weights else 255), TINY["float64"])
        apart = np.abs(keras.astype(np.float64) - made["jax"][name]) / quantum
        count = int((keras != made["jax"][name]).sum())
        differing, total = differing + count, total + keras.size
        # What a value is a multiple of carries a rounding of its own: 255 quanta, each half an eps of float32 off.
        bound = 1 + 255 * EPS["float32"]
        checks.append(ladder.check("weights" if weights else "activations", float(apart.max()), bound,
                                   f"{name}, {count} of {keras.size:,} differ", "one quantum, and its own rounding"))
    rung = ladder.rung(f"{label} quanta", "quanta", "equal values are quantised alike, within one quantum", checks)
    return rung, {"differing": differing, "total": total, "worst": rung["worst"]}


def trajectory_rung(recipe: Recipe, out: Path, label: str, workers: Mapping[str, Worker]) -> "Rung":
    """The stage's losses, step by step, against the twins' envelope: as P5 of the ladder. Of a quantised model, every
    step is judged from Keras' state too, and the free runs up to where they jump apart: see
    `benchmarks.rungs.flips`."""
    runs, precision = losses_of(recipe, out, label), recipe.train.precision
    rung, curve = ladder.numerics_rung(runs, precision)
    if active(recipe).kind == "quantize":
        curve = until_jump(curve)
        checks = flip_checks(precision, *shadows(recipe, out, label, workers))
        if curve["jump"] is None:
            checks.append(ladder.loss_check(precision, curve))
        elif curve["jump"]:
            judged = ladder.loss_check(precision, curve | {"horizon": curve["jump"]})
            checks.append(judged | {"where": f"step {judged['where'].split()[1]}, before a flip at {curve['jump']}"})
        rung = ladder.rung("P5", rung["title"], rung["proves"], checks)
    return rung | {"name": f"{label} P5", "horizon": curve["horizon"]}


def shadows(recipe: Recipe, out: Path, label: str, workers: Mapping[str, Worker]) -> tuple[dict[str, Any], list[int]]:
    """({what: distances step by step}, the steps) of both backends' trials from Keras' states: see `flip_checks`."""
    steps, teacher = shadowed(recipe.train.steps), run_path(out, "keras", label)
    paths = {b: ComparisonFiles(out).shadow(label, b) for b in ROOMS}
    each(workers, lambda worker: worker.ask("shadow", recipe, path=paths[worker.backend], teacher=teacher, steps=steps,
                                            loud=LOUD))
    keras, jax = (load_tensors(paths[b]) for b in ROOMS)
    series = {}
    for n, what in enumerate(("loss", "loss an update later")):
        one, other = keras["loss"][..., n], jax["loss"][..., n]
        curve = ladder.loss_curve({"keras": {"loss": one[0]}, "jax": {"loss": other[0]},
                                   "positions": positions(recipe), "keras-twin": {"loss": one[0]},
                                   "jax-twin": {"loss": other[0]}}, recipe.train.precision, 1)
        far = [np.maximum(np.abs(one[j] - one[0]), np.abs(other[j] - other[0])) for j in (1, 2)]
        series[what] = {"pair": curve["difference"], "twin": far[0], "loud": far[1], "floor": curve["envelope"]}
    far = [np.maximum(keras["weights"][j], jax["weights"][j]) for j in range(3)]
    series["weights"] = {"pair": far[0], "twin": far[1], "loud": far[2],
                         "floor": np.full(len(steps), EPS["float32"])}
    return series, steps


def semantics(recipe: Recipe, out: Path, label: str, left: Path, workers: Mapping[str, Worker]) -> "Rung":
    """Trains a stage's first steps in float64 too: as P4 of the ladder, of the losses."""
    wide, label = recipe.with_values(train={"precision": "float64"}), f"{label}-float64"
    made = mask_updates(active(recipe))[:2] if active(recipe).kind == "prune" else []
    steps = min(recipe.train.steps, max(recipe.compare.float64_steps, *made, 1))
    make_start(workers["keras"], wide, out, label, left)

    def trained(worker):
        for twin in (False, True):
            worker.ask("train_stage", wide, run_dir=run_path(out, worker.backend, label, twin), overwrite=True,
                       start=start_path(out, label), probe={"trace": "full", "log_every": 1, "stop": steps,
                       "saved": False, "evaluated": False, **(twin_of(wide) if twin else {})})

    each(workers, trained)
    curve = ladder.loss_curve(losses_of(wide, out, label), "float64", factor=8)
    checks = [ladder.loss_check("float64", curve)]
    keras, jax = (load_tensors(RunFiles(run_path(out, b, label)).final) for b in ROOMS)
    masks = [name for name in keras if name.endswith("_mask")]
    if masks:
        differing = sum(int((keras[name] != jax[name]).sum()) for name in masks)
        checks.append(ladder.check("float64 masks", differing, 0, f"of either's own weights after {steps} steps",
                                   "bitwise: the number of entries that differ"))
    return ladder.rung(f"{label} P4", "semantics", "equal losses and masks step by step in float64", checks)


def losses_of(recipe: Recipe, out: Path, label: str) -> dict[str, Any]:
    """{run: {"loss": float64 (steps,)}} of both backends and their twins, and "positions", which a loss is the mean
    of."""
    runs: dict[str, Any] = {"positions": positions(recipe)}
    for backend in ROOMS:
        for twin in (False, True):
            lines = read_metrics(run_path(out, backend, label, twin))
            losses = [line["train/loss"] for line in lines if "train/loss" in line]
            runs[f"{backend}-twin" if twin else backend] = {"loss": np.array(losses, np.float64)}
    return runs


def paired_rung(recipe: Recipe, out: Path, label: str, workers: Mapping[str, Worker]) -> "tuple[Rung, dict[str, Any]]":
    """The backends' final models on the same held-out batches: the differences of their losses, tested for equivalence
    within the recipe's margin. Returns the rung and the test."""
    paths = {b: ComparisonFiles(out).held_out(label, b) for b in ROOMS}
    each(workers, lambda worker: worker.ask("held_out_losses", recipe, path=paths[worker.backend],
                                            teacher=RunFiles(run_path(out, worker.backend, label)).final))
    keras, jax = ({name: x for name, x in load_tensors(paths[b]).items()} for b in ROOMS)
    # Each batch weighs as much as it holds, so that the mean of the differences is the difference of the losses.
    share = keras["weight"] / keras["weight"].mean()
    test = equivalence((keras["loss"] / keras["weight"] - jax["loss"] / jax["weight"]) * share,
                       recipe.compare.margin.loss)
    check = ladder.check("held-out loss", max(map(abs, test["interval"])), test["margin"],
                         f"{test['answer']}: Keras - JAX = {test['mean']:+.2g} over {test['seeds']} batches",
                         "the recipe's margin of loss")
    rung = ladder.rung(f"{label} metric", "metric", "held-out losses within the recipe's margin", [check])
    return rung | {"open": test["answer"] == "inconclusive"}, test
