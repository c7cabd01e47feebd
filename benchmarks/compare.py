"""Trains a recipe with both backends and their twins, climbs the parity ladder, writes the verdict and the report."""

import shutil
import sys
import time

import numpy as np

from benchmarks import ladder
from benchmarks.report import write_report
from benchmarks.throughput import side_by_side
from benchmarks.workers import ROOMS, each, open_workers
from common.data import open_dataset
from common.errors import DID_IT, NO, BadInput
from common.recipe_file import dumps
from common.run import check_run, read_metrics, read_run, write_json
from common.schedules import learning_rates
from common.tensors import load_tensors

SCHEMA_VERSION = 1
UPDATES = 5  # of the optimizer's rung
DITHER = 2.0**-9  # half a unit in the last place of bfloat16
SKIPPED = [{"name": "P1", "why": "operations against wide references are not part of this comparison"},
           {"name": "P6", "why": "one device for each backend"},
           {"name": "P7", "why": "one seed"},
           {"name": "P8", "why": "no mutants are planted in a comparison"}]


def compare(recipe, out, *, overwrite=False, plant=None):
    """Writes verdict.json, report.html, report.md and the runs into `out`; returns the exit code, 0 or 1.

    Args:
      recipe: the validated recipe.
      out: the directory.
      overwrite: remove what an earlier comparison left in `out`.
      plant: "BACKEND:MUTANT" plants a semantic error first, to show that it is caught.
    Raises: BadInput before anything is compiled or written.
    """
    dataset = open_dataset(recipe)
    mutant = planted(plant)
    prepare(out, recipe, overwrite)
    with open_workers() as workers:
        for backend, name in mutant:
            workers[backend].ask("plant", mutant=name)
        verdict = climb(recipe, dataset, workers, out)
        say("step times side by side")
        verdict["performance"] = side_by_side(recipe, workers, verdict["performance"])
    verdict |= described(recipe, dataset, out, plant)
    say("report")
    write_json(out / "verdict.json", verdict)
    write_report(verdict, out)
    return DID_IT if verdict["agrees"] else NO


def planted(plant):
    """[(backend, mutant)] of the hidden option; raises BadInput for anything but BACKEND:MUTANT."""
    if plant is None:
        return []
    backend, _, name = plant.partition(":")
    if backend not in ROOMS or not name:
        raise BadInput(f"--plant {plant}: expected BACKEND:MUTANT with a backend of {', '.join(ROOMS)}")
    return [(backend, name)]


def prepare(out, recipe, overwrite):
    """An empty output directory; raises BadInput where it holds anything that may not be removed."""
    holds = [entry.name for entry in out.iterdir()] if out.is_dir() else []
    ours = "verdict.json" in holds or "runs" in holds
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: a file, but a comparison is a directory")
    if holds and not ours:
        raise BadInput(f"--out {out}: not empty and no comparison; choose another directory")
    if "verdict.json" in holds and not overwrite:
        raise BadInput(f"--out {out}: holds a finished comparison; choose another directory or pass --overwrite")
    for backend in ROOMS:
        run = out / "runs" / f"{backend}-{recipe.train.precision}"
        check_run(run, recipe, backend, overwrite=True)
    for name in ("verdict.json", "report.html", "report.md", "runs", "tensors"):
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def climb(recipe, dataset, workers, out):
    """The verdict's findings: rungs P0 and P2 to P5, curves, held-out metrics and run times."""
    precision, semantic = recipe.train.precision, recipe.with_values(train={"precision": "float64"})
    say("contract")
    contracts = each(workers, lambda worker: worker.ask("contract", recipe))
    rungs, curves = [ladder.contract_rung(contracts)], {}

    say("first step and optimizer")
    precisions = sorted({"float64", precision})
    first = {p: first_steps(recipe.with_values(train={"precision": p}), workers, out) for p in precisions}
    gradient, null = ladder.gradient_rung(first, precision)
    rungs += [gradient, ladder.optimizer_rung(optimizer_states(semantic, workers, out), UPDATES)]

    steps = recipe.train.steps if precision == "float64" else min(recipe.train.steps, recipe.compare.float64_steps)
    say(f"float64 trajectory, {steps} steps, and its twins")
    runs = trained(semantic, dataset, workers, out, stop=steps, evaluated=precision == "float64")
    semantics, curves["float64"] = ladder.semantics_rung(runs, null, learning_rates(recipe)[:steps])
    rungs.append(semantics)
    if precision != "float64":
        say(f"{precision} trajectory, {recipe.train.steps} steps, and its twins")
        runs = trained(recipe, dataset, workers, out)
        numerics, curves[precision] = ladder.numerics_rung(runs, precision)
        rungs.append(numerics)
    finished = {backend: read_run(out / "runs" / f"{backend}-{precision}") for backend in workers}
    return {"agrees": all(rung["agrees"] for rung in rungs), "horizon": curves[precision]["horizon"], "rungs": rungs,
            "sentence": sentence(rungs, precision, curves), "curves": curves, "null_directions": sorted(null),
            "held_out": {backend: info["final"] for backend, info in finished.items()},
            "performance": {backend: info["performance"] for backend, info in finished.items()},
            "versions": {backend: info["versions"] for backend, info in finished.items()},
            "devices": {backend: info["devices"] for backend, info in finished.items()}}


def say(phase):
    """What is being done, on stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {phase}", file=sys.stderr, flush=True)


def first_steps(recipe, workers, out):
    """{run: tensors of the first step} of both backends and their twins."""
    def path(run):
        return out / "tensors" / f"first-step-{run}-{recipe.train.precision}.safetensors"

    def ask(worker):
        for run, twin in pair(worker.backend):
            worker.ask("first_step", recipe, path=path(run), **twin_of(recipe, twin))

    each(workers, ask)
    return {run: load_tensors(path(run)) for backend in workers for run, _ in pair(backend)}


def optimizer_states(recipe, workers, out):
    """{backend: state tensors} after the same synthetic gradients."""
    paths = {backend: out / "tensors" / f"optimizer-{backend}.safetensors" for backend in workers}
    each(workers, lambda worker: worker.ask("optimizer_steps", recipe, path=paths[worker.backend], updates=UPDATES))
    return {backend: load_tensors(path) for backend, path in paths.items()}


def trained(recipe, dataset, workers, out, **options):
    """{run: {"loss": float64 (steps,), "weights": {name: array}}} of both backends and their twins, and "positions":
    the number that a loss is the mean of."""
    def path(run):
        return out / "runs" / f"{run}-{recipe.train.precision}"

    def ask(worker):
        for run, twin in pair(worker.backend):
            probe = {"trace": [], "log_every": 1, **options, **twin_of(recipe, twin)}
            worker.ask("run_training", recipe, run_dir=path(run), probe=probe)

    each(workers, ask)
    runs = {"positions": recipe.train.global_batch * (dataset.example_shape[0] if dataset.kind == "text" else 1)}
    for run in (run for backend in workers for run, _ in pair(backend)):
        losses = [line["train/loss"] for line in read_metrics(path(run)) if "train/loss" in line]
        state = load_tensors(path(run) / "trace" / "final.safetensors")
        runs[run] = {"loss": np.array(losses, np.float64),
                     "weights": {name: x for name, x in state.items() if name.startswith("weights/")}}
    return runs


def pair(backend):
    """A backend's run and its twin: [(name, is it the twin)]."""
    return [(backend, False), (f"{backend}-twin", True)]


def twin_of(recipe, twin):
    """What sets a twin apart: rows permuted within each batch; in bfloat16, whose rounding rows do not show, also
    first weights that are dithered by half a unit in the last place."""
    return {"permuted": twin, "dither": DITHER if twin and recipe.train.precision == "bfloat16" else 0.0}


def sentence(rungs, precision, curves):
    """The verdict in one sentence."""
    failed = [rung for rung in rungs if not rung["agrees"]]
    if failed:
        rung = failed[0]
        return (f"Keras and JAX do not agree: {rung['name']} ({rung['title']}) parts at {rung['where']}, "
                f"{rung['worst']:.2g} against a bound of {rung['bound']:.2g}.")
    steps, horizon = len(curves[precision]["steps"]), curves[precision]["horizon"]
    reach = f"up to the horizon at step {horizon} of {steps}" if horizon else f"over all {steps} steps"
    exact = float((curves["float64"]["difference"] / np.maximum(curves["float64"]["keras"], 1e-300)).max())
    return (f"Keras and JAX train the same: every rung holds, the losses agree within {precision} noise {reach}, "
            f"and in float64 within {exact:.1e} relative over {len(curves['float64']['steps'])} steps.")


def described(recipe, dataset, out, plant):
    """What a verdict says beside its findings."""
    command = f"twinscale compare RECIPE --out DIR --precision {recipe.train.precision}"
    return {"schema_version": SCHEMA_VERSION, "precision": recipe.train.precision, "steps": recipe.train.steps,
            "recipe": {"name": recipe.name, "hash": recipe.hash, "toml": dumps(recipe)}, "plant": plant,
            "skipped": SKIPPED, "data": dataset.manifest,
            "assumptions": ["first weights, batches, random bits and schedules are shared, so that any difference left "
                            "is the program's or the runtime's",
                            "a twin permutes the rows within each batch; in bfloat16 it also dithers the first weights "
                            "by half a unit in the last place"],
            "limits": ["one device for each backend", "one seed: nothing is said past the horizon",
                       "step times of one machine at one time: compare the ratio, not the milliseconds"],
            "commands": [f"twinscale recipe show {recipe.name}", command]}
