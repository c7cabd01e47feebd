"""Trains a recipe with both backends and their twins, climbs the parity ladder, writes the verdict and the report."""

import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from twinscale.benchmarks import ladder
from twinscale.benchmarks.comparison_files import HOLDS, MARKER, VERDICT, ComparisonFiles
from twinscale.benchmarks.jumps import may_be_flips, second_look
from twinscale.benchmarks.later import first_uneven, leave_states, leave_step, load_sides
from twinscale.benchmarks.meshes import check_meshes, mesh_sentence
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.operations import (
    collect_places,
    leave_places,
    on_one_device,
    operations_rung,
    places_path,
    read_places,
)
from twinscale.benchmarks.outcome import collect_outcome, outcome_lines, outcome_rung, seeds_of
from twinscale.benchmarks.output import CHECKS, Kind, again, begun, clear, made, nothing_left, same, tell
from twinscale.benchmarks.placing import Looks, first_cause
from twinscale.benchmarks.remaining import pace_of, words_left
from twinscale.benchmarks.report import draw, write_report
from twinscale.benchmarks.report_words import margin
from twinscale.benchmarks.rung_table import is_placed, not_climbed
from twinscale.benchmarks.swap import swap_table, worst_tensor
from twinscale.benchmarks.terminal import show
from twinscale.benchmarks.throughput import side_by_side
from twinscale.benchmarks.verdict import PARTS, Verdict, fenced, is_pending, read_hashes, read_verdict
from twinscale.benchmarks.workers import ROOMS, each, open_workers, room_for_another, together
from twinscale.common.data import open_dataset
from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, BadInput, need
from twinscale.common.files import is_odd, plain, shown, write_json, write_text
from twinscale.common.loop import twin_of
from twinscale.common.need import BOTH
from twinscale.common.optimizers import OPTIMIZERS
from twinscale.common.output import answer, check_within
from twinscale.common.parameters import initial_value, parameters
from twinscale.common.points import POINTS
from twinscale.common.recipe import in_float64, positions
from twinscale.common.recipe_file import dumps, load
from twinscale.common.results import write_result
from twinscale.common.run import FinishedRun, read_metrics, read_run
from twinscale.common.run_files import RunFiles
from twinscale.common.schedules import learning_rates
from twinscale.common.tensors import load_dtypes, load_tensors

SCHEMA_VERSION = 1
KIND = Kind(MARKER, VERDICT, HOLDS)
RUNS = ("keras", "keras-twin", "jax", "jax-twin")
UPDATES = 5  # of the optimizer's rung
HELD_OUT = 4  # batches that a float64 trajectory is evaluated on, where it stands beside the recipe's: the last, padded
# one among them


def compare(recipe, out, *, overwrite=False, plant=None, operations=False, seeds=None, place=False,
            swap=False, meshes=False, asked=(), as_json=False):
    """`compared`, of which it shows the verdict or prints it `as_json`; returns the exit code: 0, 1, or 3 where the
    twins part at once, or the seeds were too few, and the answer stays open. What fails of a part that was asked for
    besides leaves verdict and report, with a line about it, and makes it 1."""
    verdict = compared(recipe, out, overwrite=overwrite, plant=plant, operations=operations, seeds=seeds, place=place,
                       swap=swap, meshes=meshes, asked=asked)
    answer(plain(verdict), show, as_json)
    return verdict.exit_code


def compared(recipe, out, *, overwrite=False, plant=None, operations=False, seeds=None, place=False,
             swap=False, meshes=False, asked=()):
    """Writes verdict.json, report.html, report.md and the runs into `out`; returns the Verdict.

    Args:
      recipe: the validated recipe.
      out: the directory.
      overwrite: remove what an earlier comparison left in `out`.
      plant: "BACKEND:MUTANT" plants a semantic error first, to show that it is caught.
      operations: measure every operation against wide references too (P1).
      seeds: train from so many seeds, and test the final metrics for equivalence (P7).
      place: where they disagree, look for the first operation that does.
      swap: run each program under the other's runtime too, to tell the program's part from the runtime's.
      meshes: train each backend on several devices and hosts too (P6).
      asked: the recipe's file and the overrides that the recipe was read with, for the report.
    Raises: BadInput before anything is compiled or written.
    """
    require()
    if meshes and is_odd(out):
        raise BadInput(f"--out {shown(out)}: --meshes trains on several hosts, which cannot write below a path that "
                       "has one of []*?\\ or is not UTF-8; choose another directory")
    mutant = planted(plant)
    options = {"plant": plant, "operations": operations, "place": place, "swap": swap, "meshes": meshes,
               "outcome": f"SEEDS={seeds}" if seeds else None}
    with ExitStack() as stack:
        aside = {"keras": ROOMS["keras"]} if len(precisions(recipe)) > 1 and room_for_another() else {}
        workers = stack.enter_context(open_workers())  # which import their frameworks meanwhile
        dataset = open_dataset(recipe)

        def draw_ahead():  # most figures show what is known before P1
            draw(told(judge(recipe, dataset, out, placed=False), recipe, dataset, out, asked, options))

        with nothing_left(out), open_workers(rooms=aside) as beside:
            prepare(out, recipe, overwrite)
            for backend, name in mutant:
                for worker in (workers[backend], *(one for of, one in beside.items() if of == backend)):
                    worker.ask("plant", change=name)
            collect_both(workers, beside, recipe, out, draw_ahead)
        verdict = judged(recipe, dataset, out, workers, operations)
        record(verdict, recipe, dataset, out, asked, options, "this comparison has not ended: what was asked for "
               "besides is still to come")  # whatever may fail below takes no verdict with it
        if seeds:
            tell("both", f"{seeds - 1} more trainings, from other seeds")
            with fenced(verdict, "outcome"):
                add_outcome(verdict, recipe, workers, out, seeds)
        if place and not verdict["agrees"]:
            place_cause(recipe, dataset, out, verdict, workers)
        tell("both", "step times side by side")
        with fenced(verdict, "step times"):
            verdict["performance"] = side_by_side(recipe, dataset, workers, verdict["performance"])
        if swap:
            tell("both", "each program under the other's runtime")
            with fenced(verdict, "swap"):  # what is planted here may not be planted there
                verdict["swap"] = swap_table(recipe, dataset, out, workers, mutant)
                tell("both", verdict["swap"]["sentence"])
    if meshes:
        tell("both", "one device against several and against several hosts")
        with fenced(verdict, "meshes"):
            add_meshes(verdict, *check_meshes(recipe, out, mutant))
    return record(verdict, recipe, dataset, out, asked, options)


def bisect(out, as_json=False):
    """Looks for the first cause of the disagreement that a comparison found, adds it to its verdict and reports, and
    returns the exit code: 0 where it was found, or there is none, 3 where nothing was found.

    Raises BadInput where `out` holds no finished comparison.
    """
    if not ComparisonFiles(out).verdict.is_file() or not (out / MARKER).is_file():
        raise BadInput(f"{out}: holds no verdict.json; `twinscale compare RECIPE --out {out}` makes one")
    check_within(out, KIND.holds)
    require()
    recipe, verdict = load(ComparisonFiles(out).recipe, []), dict(read_verdict(out))
    if verdict["agrees"]:
        answer(verdict, lambda _: print("the backends agree: there is nothing to place"), as_json)
        return DID_IT
    if all(rung["agrees"] for rung in verdict["rungs"] if is_placed(rung["name"])):
        answer(verdict, lambda _: print("the backends agree up to P5, and what fails beyond is not placed: its rung in "
                                        "the report says where"), as_json)
        return INCONCLUSIVE
    dataset = open_dataset(recipe)
    verdict["failed"] = {what: said for what, said in verdict.get("failed", {}).items() if what != "placing"}
    with open_workers() as workers:
        for backend, name in planted(verdict.get("plant")):
            workers[backend].ask("plant", change=name)
        place_cause(recipe, dataset, out, verdict, workers, judge(recipe, dataset, out))
    if verdict.get("arguments"):  # which place it now
        verdict |= reproducible(out, **verdict["arguments"] | {"place": True})
    verdict = write_result(ComparisonFiles(out).verdict, Verdict, verdict)
    write_report(verdict, out)
    answer(plain(verdict), show, as_json)
    if "placing" in verdict.get("failed", {}):
        return NO
    return DID_IT if verdict["cause"]["operation"] else INCONCLUSIVE


def judged(recipe, dataset, out, workers, operations):
    """`judge`, of operations by themselves too, and where a flip may be all that failed, of steps from equal states;
    what fails of these is a line of the verdict."""
    rows, failed = (), {}
    with fenced(failed, "operations"):
        rows = alone(recipe, workers, operations)
    verdict = judge(recipe, dataset, out, rows)
    with fenced(failed, "second look"):
        verdict = looked_twice(recipe, verdict, out, workers)
    return verdict | failed


def alone(recipe, workers, asked):
    """The rows of both backends' operations by themselves, in bfloat16 even where nobody asked for them."""
    if not (asked or recipe.train.precision == "bfloat16"):
        return ()
    tell("both", "operations against wide references")
    some = {} if asked else {"dtypes": ["bfloat16"], "jit_compile": recipe.keras.jit_compile}
    if recipe.optimizer.name not in OPTIMIZERS.builtin:
        some["added"] = [recipe.optimizer.name]
    return [row for found in each(workers, lambda worker: worker.ask("operations", **some)).values() for row in found]


def record(verdict, recipe, dataset, out, asked, options, pending=None):
    """Writes a verdict with its circumstances, and the report, into `out`; returns the Verdict. `pending` says what is
    still to come."""
    tell("both", "report")
    whole = told(verdict, recipe, dataset, out, asked, options)
    if pending:
        whole |= {"pending": True, "limits": [*whole["limits"], pending]}
    written = write_result(ComparisonFiles(out).verdict, Verdict, whole)
    write_report(whole, out)
    return written


def told(verdict, recipe, dataset, out, asked, options):
    """A verdict with its circumstances, as it is written and drawn."""
    whole = verdict | circumstances(recipe, dataset, verdict["rungs"], verdict["devices"])
    whole |= reproducible(out, asked, **options)
    whole["rungs"] = [rung | {"checks": rung["checks"][:CHECKS]} for rung in whole["rungs"]]
    lost = {PARTS[part]: f"{part} failed: {said}" for part, said in whole.get("failed", {}).items() if part in PARTS}
    whole["skipped"] = [row | {"why": lost.get(row["name"], row["why"])} for row in whole["skipped"]]
    return whole


def place_cause(recipe, dataset, out, verdict, workers, found=None):
    """Adds the first cause to a verdict, by its rungs or by those `found` anew; what fails is a line of the verdict."""
    tell("both", "looking for the first cause")
    with fenced(verdict, "placing"):
        verdict["cause"] = find_cause(recipe, dataset, out, found or verdict, workers)
        tell("both", verdict["cause"]["sentence"])


def find_cause(recipe, dataset, out, verdict, workers):
    """The first cause of a disagreement, Keras' numbers fed to JAX: see `benchmarks.placing`."""
    semantic = in_float64(recipe)
    failed = [c for rung in verdict["rungs"] if is_placed(rung["name"]) for c in rung["checks"] if not c["agrees"]]
    looked = recipe if failed and all(c["what"].startswith(recipe.train.precision) for c in failed) else semantic

    single = on_one_device(looked)  # where places are read

    def taps(number):
        teacher = leave_taps(workers["keras"], single, out, number)
        return load_sides({"keras": teacher, "jax": leave_taps(workers["jax"], single, out, number, teacher)})

    def optimizer(variant):
        return load_sides(each(workers, lambda worker: leave_optimizer(worker, variant, out)))

    def step(point):
        teacher = leave_step(workers["keras"], single, out, point)
        return load_sides({"keras": teacher, "jax": leave_step(workers["jax"], single, out, point, teacher)})

    def at_places(state):
        led = leave_places(workers["jax"], single, out, state)
        return {"keras": leave_places(workers["keras"], single, out, state, "jax"), "jax": led}

    looks = Looks(taps, optimizer, lambda steps: leave_states(workers["keras"], single, out, steps), at_places, step,
                  lambda: first_uneven(single, dataset))
    found = first_cause(looked, ladder.summed_positions(recipe, dataset), out, verdict, looks)
    return found or {"operation": None, "sentence": "no operation, update or batch was found to differ by itself"}


def add_outcome(verdict, recipe, workers, out, seeds):
    """Trains from more seeds and adds rung P7 to a verdict; the recipe's own seed was trained already."""
    rest = seeds_of(recipe, seeds)[1:]
    more = each(workers, lambda worker: collect_outcome(recipe, worker, out, rest))
    metrics = {b: {recipe.seed: verdict["held_out"][b], **more[b]} for b in ROOMS}
    rung = outcome_rung(metrics, recipe.compare.margin.model_dump())
    for line in outcome_lines(rung):
        tell("both", line)
    verdict["rungs"].append(rung)
    verdict["open"] = not rung["conclusive"]
    verdict["agrees"] = verdict["agrees"] and (rung["agrees"] or not rung["conclusive"])
    verdict["sentence"] += " " + "; ".join(outcome_lines(rung)) + "."


def add_meshes(verdict, rung, meshes):
    """Adds rung P6 to a verdict; where no mesh was trained, its answer is open."""
    verdict["meshes"] = meshes
    verdict["rungs"] = sorted([*verdict["rungs"], rung], key=lambda rung: rung["name"])
    verdict["open"] = verdict["open"] or rung.get("conclusive") is False
    if not rung["agrees"]:
        verdict["agrees"] = False
        verdict["sentence"] = verdict["sentence"].replace("every rung holds", "P0 to P5 hold")
    verdict["sentence"] += " " + mesh_sentence(rung, meshes)
    tell("both", mesh_sentence(rung, meshes))


def planted(plant):
    """[(backend, mutant)] of the hidden option; raises BadInput for anything but BACKEND:MUTANT."""
    if plant is None:
        return []
    backend, _, name = plant.partition(":")
    if backend not in ROOMS or not name:
        raise BadInput(f"--plant {plant}: expected BACKEND:MUTANT with a backend of {', '.join(ROOMS)}")
    return [(backend, name)]


def require():
    """Raises MissingEnvironment where one of the backends is not installed."""
    need(*BOTH, why="a comparison needs both backends")


def prepare(out, recipe, overwrite, of=None):
    """An output directory with nothing of ours but a marker of the recipe, and of what else it is `of`; an unfinished
    comparison of the same starts over.

    Raises BadInput where the directory holds anything that may not be removed.
    """
    identity = {"verb": "compare", "recipe": recipe.hash} | (of or {})
    unfinished = begun(out, KIND, identity) or same(out, KIND, identity) and is_pending(out)
    clear(out, KIND, identity, overwrite or unfinished)
    write_text(ComparisonFiles(out).recipe, dumps(recipe))


def collect_both(workers, beside, recipe, out, trained):
    """Has both backends leave in `out` all that the ladder reads. What is in float64 a backend leaves to the worker
    `beside` its own, where it has one. Once all have trained, `trained()` is done beside what they still look at; what
    fails of it fails again where it counts."""
    count, everybody = itertools.count(1), workers | {f"{backend} beside": one for backend, one in beside.items()}

    def share(worker):
        if worker.backend not in beside:
            return precisions(recipe)
        return [in_float64(recipe)] if worker in beside.values() else [recipe]

    with ThreadPoolExecutor(1 + len(beside)) as pool:

        def before(worker):
            collect(recipe, worker, out, share(worker))
            if next(count) == len(everybody):
                pool.submit(trained)

        tried = together(everybody, before)
        others = [pool.submit(tried, worker) for worker in beside.values()]
        collect_places(workers, recipe, out, tried)
        for other in others:
            other.result()


def collect(recipe, worker, out, variants=None, quiet=False):
    """Has one backend leave in `out` all that the ladder reads: its contract, first steps, optimizer and runs; of the
    recipe in `precisions`, or in those of them that are the `variants`."""
    say, variants = (lambda *_: None) if quiet else tell, variants or precisions(recipe)
    if recipe in variants:
        say(worker.backend, "contract and optimizer")
        write_json(ComparisonFiles(out).contract(worker.backend), worker.ask("contract", recipe))
    for described in variants:
        leave_optimizer(worker, described, out)
    parts = [(described, run, twin) for described in variants for run, twin in pair(worker.backend)]
    pace, ahead = None, [(steps_of(recipe, described), not twin) for described, _, twin in parts]
    for i, (described, run, twin) in enumerate(parts):
        steps, began = ahead[i][0], time.monotonic()
        say(run, f"{described.train.precision}: the first step, then {steps} steps of training"
            + words_left(pace, ahead[i:]))
        apart = twin_of(described) if twin else {}
        for point in POINTS:
            path = first_step_path(out, run, described, point)
            worker.ask("first_step", described, path=path, point=point, **apart)
        probe = {"trace": "full", "log_every": 1, "stop": steps, "saved": not twin, **apart,
                 "often": described is recipe and not twin, "held_out": None if described is recipe else HELD_OUT}
        worker.ask("run_training", described, run_dir=run_path(out, run, described), probe=probe, progress=not quiet)
        if not (twin or quiet):
            pace = pace_of(run_path(out, run, described), time.monotonic() - began, steps, described is recipe)
    if recipe in variants:
        say(worker.backend, "every operation in its place" + words_left(pace, []))


def steps_of(recipe, described):
    """Updates of a recipe's trajectory in the precision that is `described`."""
    return recipe.train.steps if described is recipe else float64_steps(recipe)


def judge(recipe, dataset, out, operations=(), placed=True):
    """The verdict's findings, from the files of both backends: rungs P0 to P5, curves and final metrics; `operations`
    are rows of operations by themselves, if they were measured. P1 is left out where no places are `placed` yet."""
    precision, semantic = recipe.train.precision, in_float64(recipe)
    contracts = {b: read_hashes(ComparisonFiles(out).contract(b)) for b in ROOMS}
    first = {r.train.precision: {point: {run: load_tensors(first_step_path(out, run, r, point)) for run in RUNS}
                                 for point in POINTS} for r in precisions(recipe)}
    gradient, null = ladder.gradient_rung(first, precision, ladder.summed_positions(recipe, dataset))
    states = {r.train.precision: {b: load_tensors(optimizer_path(out, b, r)) for b in ROOMS}
              for r in precisions(recipe)}
    dtypes = {b: {name: dtype for r in precisions(recipe) for name, dtype in read_dtypes(out, b, r).items()}
              for b in ROOMS}
    found = {b: read_places(places_path(out, b)) for b in ROOMS} if placed else {}
    for backend, points in found.items():
        dtypes[backend] |= {f"{precision} {name}": kind for name, kind in points[POINTS[1]].get("dtypes", {}).items()}
    rungs = [ladder.contract_rung(contracts, dtypes=dtypes), gradient, ladder.optimizer_rung(states, recipe.optimizer)]
    if placed:
        rungs.insert(1, operations_rung(operations, found, precision))

    rates, curves = learning_rates(recipe)[:float64_steps(recipe)], {}
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    starts = {name: initial_value(name, tree[name], recipe.seed, np.float64) for name in null}
    semantics, curves["float64"] = ladder.semantics_rung(trainings(semantic, dataset, out), starts, recipe.optimizer,
                                                         rates)
    rungs.append(semantics)
    if precision != "float64":
        numerics, curves[precision] = ladder.numerics_rung(trainings(recipe, dataset, out), precision)
        rungs.append(numerics)
    own = {b: worst_tensor(*(first[p]["first"][b] for p in (precision, "float64")), null)
           for b in ROOMS if precision != "float64"}
    finished = {b: read_run(run_path(out, b, recipe), FinishedRun) for b in ROOMS}
    return {"agrees": all(rung["agrees"] for rung in rungs), "open": False, "rungs": rungs,
            "horizon": curves[precision]["horizon"], "sentence": sentence(rungs, precision, curves),
            "curves": curves, "null_directions": sorted(null),
            "tensors": worst_tensors(gradient, semantics, float64_steps(recipe)),
            "own_float64": {b: {"tensor": name, "worst": worst} for b, (name, worst) in own.items()} or None,
            "held_out": {b: info["final"] for b, info in finished.items()},
            "performance": {b: info["performance"] for b, info in finished.items()},
            "versions": {b: info["versions"] for b, info in finished.items()},
            "devices": {b: info["devices"] for b, info in finished.items()}}


def looked_twice(recipe, verdict, out, workers):
    """A verdict whose P2 and P5 are judged from equal states too, where a flip may be all that failed them."""
    if not may_be_flips(recipe, verdict):
        return verdict
    tell("both", "a unit may have flipped: steps from equal states")
    rungs = second_look(recipe, verdict, out, workers)
    return verdict | {"rungs": rungs, "agrees": all(rung["agrees"] for rung in rungs),
                      "sentence": sentence(rungs, recipe.train.precision, verdict["curves"])}


def worst_tensors(gradient, semantics, steps, most=24):
    """The tensors nearest to their bounds or furthest above: gradients of step 0, and weights after the last step."""
    found = [(0, "gradient", c) for c in gradient["checks"] if "gradients/" in c["where"]]
    found += [(steps, "weights", c) for c in semantics["checks"] if "weights/" in c["where"]]
    rows = [{"step": step, "tensor": ladder.bare(c["where"]), "kind": f"{kind}, {c['what']}", "difference": c["worst"],
             "bound": c["bound"], "ratio": c["worst"] / c["bound"] if c["bound"] else math.inf}
            for step, kind, c in found]
    return sorted(rows, key=lambda row: row["ratio"], reverse=True)[:most]


def trainings(recipe, dataset, out):
    """{run: {"loss", "norm" (of the gradient): float64 (steps,), "weights": {name: array}}} of both backends and their
    twins, "positions": the number that a loss is the mean of, and "metrics": `train.metrics`."""
    runs = {"positions": positions(recipe), "metrics": recipe.train.metrics}
    for run in RUNS:
        path = run_path(out, run, recipe)
        lines = [line for line in read_metrics(path) if "train/loss" in line]
        losses, norms = ([line[f"train/{what}"] for line in lines] for what in ("loss", "gradient_norm"))
        state, info = load_tensors(RunFiles(path).final), read_run(path)
        runs[run] = {"loss": np.array(losses, np.float64), "norm": np.array(norms, np.float64),
                     "held_out": info["final"], "sums": info.get("sums"),
                     "weights": {name: x for name, x in state.items() if name.startswith("weights/")}}
    return runs


def precisions(recipe):
    """The recipe in float64, and as it is where that is another precision."""
    semantic = in_float64(recipe)
    return [recipe] if recipe.train.precision == "float64" else [semantic, recipe]


def read_dtypes(out, backend, recipe):
    """{"float32 gradients/NAME" and the like: dtype} of all that a backend's first step and training left."""
    left = first_step_path(out, backend, recipe), RunFiles(run_path(out, backend, recipe)).final
    return {f"{recipe.train.precision} {name}": dtype for path in left for name, dtype in load_dtypes(path).items()}


def float64_steps(recipe):
    """Updates of the float64 trajectory: all of a recipe in float64, else the first `compare.float64_steps`."""
    steps = recipe.train.steps
    return steps if recipe.train.precision == "float64" else min(steps, recipe.compare.float64_steps)


def run_path(out, run, recipe):
    return ComparisonFiles(out).run(run, recipe.train.precision)


def first_step_path(out, run, recipe, point="first"):
    return ComparisonFiles(out).first_step(run, recipe.train.precision, point)


def optimizer_path(out, backend, recipe):
    return ComparisonFiles(out).optimizer(backend, recipe.hash[:12])


def taps_path(out, backend, recipe, number):
    return ComparisonFiles(out).taps(backend, recipe.train.precision, number)


def leave_optimizer(worker, recipe, out):
    """Has a backend leave its optimizer's first updates in `out`; returns the file."""
    path = optimizer_path(out, worker.backend, recipe)
    worker.ask("optimizer_steps", recipe, path=path, updates=UPDATES)
    return path


def leave_taps(worker, recipe, out, number, teacher=None):
    """Has a backend leave what every place makes of a step, by the numbers in file `teacher` where there is one;
    returns the file."""
    path = taps_path(out, worker.backend, recipe, number)
    worker.ask("step_taps", recipe, path=path, number=number, **({"teacher": teacher} if teacher else {}))
    return path


def pair(backend):
    """A backend's run and its twin: [(name, is it the twin)]."""
    return [(backend, False), (f"{backend}-twin", True)]


def sentence(rungs, precision, curves):
    """The verdict in one sentence."""
    failed = [rung for rung in rungs if not rung["agrees"]]
    if failed:
        rung = failed[0]
        return (f"Keras and JAX do not agree: {rung['name']} ({rung['title']}) parts at {rung['where']}, "
                f"{sig(rung['worst'])} against a bound of {sig(rung['bound'])}, {margin(rung)}.")
    steps, horizon = len(curves[precision]["steps"]), curves[precision]["horizon"]
    reach = f"up to the horizon at step {horizon} of {steps}" if horizon is not None else f"over all {steps} steps"
    exact = float((curves["float64"]["difference"] / np.maximum(curves["float64"]["keras"], 1e-300)).max())
    return (f"Keras and JAX train the same: every rung holds, the losses agree within {precision} noise {reach}, "
            f"and in float64 within {sig(exact)} relative over {len(curves['float64']['steps'])} steps.")


def reproducible(out, asked=(), recipe=None, overrides=(), **options):
    """What a comparison was asked for, and the command that asks for it again, from the resolved recipe in `out`.

    Args:
      out: the directory. asked: the recipe's file and the overrides; or `recipe` and `overrides` say so.
      options: of `twinscale compare`, by name: a text, or whether it was given.
    """
    recipe, overrides = (asked[0], list(asked[1:])) if asked else (recipe, list(overrides))
    words = ["compare", str(ComparisonFiles(out).recipe)]
    for name, value in options.items():
        words += [f"--{name}"] * bool(value) + ([value] if isinstance(value, str) else [])
    return {"plant": options.get("plant"), "arguments": {"recipe": recipe, "overrides": overrides, **options},
            "made": made(), "commands": again(*words, out=out)}


def circumstances(recipe, dataset, rungs, devices):
    """What a verdict says beside its findings."""
    precision, ran = recipe.train.precision, {rung["name"] for rung in rungs}
    count = len(devices["keras"])
    limits = [f"{count} device{'s' * (count > 1)} for each backend{', but for P6' * ('P6' in ran)}",
              "step times of one machine at one time: compare the ratio, not the milliseconds"]
    if "P6" in ran:
        limits.append("meshes are of virtual devices and of processes that share one CPU: what they compute is that of "
                      "real ones, and their step times say nothing")
    if "P7" not in ran:
        limits.append("one seed: nothing is said past the horizon")
    return {"schema_version": SCHEMA_VERSION, "precision": precision, "steps": recipe.train.steps,
            "recipe": {"name": recipe.name, "hash": recipe.hash, "toml": dumps(recipe)},
            "differences": [["program", "Keras functional graph", "Flax NNX modules"],
                            ["how it runs", f"jit_compile = {recipe.keras.jit_compile}",
                             f"scan = {recipe.jax.scan}, remat = {recipe.jax.remat}"]],
            "skipped": not_climbed(rungs), "data": dataset.manifest,
            "assumptions": ["first weights, batches, random bits and schedules are shared, so that any difference left "
                            "is the program's or the runtime's",
                            "a twin permutes the rows within each batch and dithers the first weights by half a unit "
                            "in the last place"],
            "limits": limits}
