"""P8, the audit of the gate itself: planted errors are all to be caught and placed, harmless changes never flagged.

Each trial plants one change in one backend, has that backend do all that a comparison asks of it, and judges what it
left against what the other one left untouched. All but what is wrong in bfloat16 alone runs in float64, on models of a
few thousand weights: a semantic error shows at any size.
"""

import glob
import time
from fnmatch import fnmatch

import numpy as np

from benchmarks import compare as comparison
from benchmarks.ladder import TINY, summed_positions
from benchmarks.later import leave_step, load_sides, step_path
from benchmarks.operations import collect_own_places, leader
from benchmarks.output import Kind, again, clear, made, nothing_left, tell
from benchmarks.placing import Looks, first_cause, optimizer_variants
from benchmarks.plots import sig
from benchmarks.report import write_audit
from benchmarks.workers import ROOMS, each, one_behind, open_workers
from common.data import open_dataset
from common.errors import DID_IT, NO, BadInput, TwinscaleError
from common.files import plain, write_json, write_text
from common.points import POINTS
from common.progress import counting
from common.recipe import Recipe
from common.tensors import load_tensors

SCHEMA_VERSION = 1
TRAIN = {"steps": 8, "global_batch": 4, "precision": "float64"}
TEXT = {"sequence": 16, "held_out": 0.2}
# Between them they use every operation, every slot of an optimizer and every way to scale a loss.
RECIPES = {
    "layer": {"data": TEXT, "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 2, "dropout": 0.1},
              "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 0.5, "ema": 0.9},
              "schedule": {"kind": "cosine", "warmup": 3},
              "train": {**TRAIN, "accumulate": 2, "label_smoothing": 0.1, "z_loss": 1e-3}},
    "rotary": {"data": TEXT, "model": {"family": "decoder", "layers": 2, "width": 16, "heads": 4, "kv_heads": 2,
                                       "norm": "rms", "positions": "rotary", "activation": "swiglu", "tied": False,
                                       "bias": False},
               "optimizer": {"name": "lamb", "learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 0.5},
               "train": TRAIN},
    "narrow": {"data": TEXT, "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 4, "norm": "rms",
                                       "positions": "rotary", "activation": "swiglu"},
               "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1},
               "train": {**TRAIN, "precision": "bfloat16"}},
    "image": {"data": {"source": "digits", "held_out": 0.02, "augment": ["shift"]},
              "model": {"family": "convnet", "channels": [4, 8]},
              "optimizer": {"name": "sgd", "nesterov": True, "learning_rate": 0.1, "weight_decay": 1e-3},
              "schedule": {"kind": "linear", "warmup": 2}, "train": TRAIN}}
KIND = Kind(".audit", "audit.json", {
    r"audit\.(json|html|md)": None, "corpus": {r"\d\d\.txt": None}, "compiled": {r".*-(cache|atime)": None},
    "trials": {"|".join([*RECIPES, "(keras|jax)-.*"]): {n: comparison.KIND.holds[n] for n in ("runs", "tensors")}}})


def audit(out, *, overwrite=False, only=None):
    """`run_audit`, of which bad input and what is missing leave nothing in a directory that was empty before."""
    with nothing_left(out):
        return run_audit(out, overwrite=overwrite, only=only)


def run_audit(out, *, overwrite=False, only=None):
    """Writes audit.json into `out` and returns the exit code: 0 where every mutant was caught and placed and no
    harmless change flagged, else 1.

    Args:
      out: the directory.
      overwrite: remove what an earlier audit left in `out`.
      only: patterns of names: the changes to plant; None plants all.
    Raises: BadInput before anything runs; TwinscaleError where the backends disagree with nothing planted.
    """
    comparison.require({"tensorflow": "cpu", "keras": "cpu", "jax": "jax", "flax": "jax"})
    clear(out, KIND, {"verb": "audit"}, overwrite)
    recipes = make_recipes(out)
    began = time.perf_counter()
    with open_workers({"JAX_COMPILATION_CACHE_DIR": str(out / "compiled"),
                       "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}) as workers:
        each(workers, lambda worker: worker.ask("hasten"))
        planned = plan(each(workers, lambda worker: worker.ask("changes")), only)
        used = {name: recipe for name, recipe in recipes.items() if any(t["recipe"] == name for t in planned)}
        tell("both", f"{len(used)} recipes with nothing planted")
        one_behind(
            workers, used,
            lambda worker, name: collect_own_places(worker, used[name], out / "trials" / name, leader(worker)),
            lambda worker: [untouched(recipe, worker, out / "trials" / name) for name, recipe in used.items()])
        for name, recipe in used.items():
            verdict = comparison.judge(recipe, open_dataset(recipe), out / "trials" / name)
            if not verdict["agrees"]:
                raise TwinscaleError(f"with nothing planted, recipe {name!r} does not agree: {verdict['sentence']}")
        with counting(len(planned), "audit") as advance:
            rows = each(workers, lambda worker: [
                trial(t, recipes[t["recipe"]], worker, out, advance)
                for t in planned if t["backend"] == worker.backend])
    found = summary([row for backend in rows.values() for row in backend])
    found |= {"schema_version": SCHEMA_VERSION, "seconds": time.perf_counter() - began, "made": made(),
              "commands": again("audit", *(word for name in only or () for word in ("--only", name)), out=out)}
    write_json(out / "audit.json", plain(found))
    write_audit(plain(found), out)
    print("\n".join(lines(found)))
    return DID_IT if found["caught"] == found["placed"] == found["mutants"] and not found["flagged"] else NO


def make_recipes(out):
    """{name: recipe}; those of text read documents that are written to `out`: short, so that they share rows."""
    source, made = corpus(out), {}
    for name, sections in RECIPES.items():
        data = {"source": source, **sections["data"]}
        made[name] = Recipe.model_validate({"name": f"audit-{name}", "keras": {"jit_compile": False}, **sections,
                                            "data": data})
    return made


def corpus(out):
    """The source of short documents, which it writes to out/corpus."""
    rng = np.random.default_rng(7)
    for i in range(26):
        write_text(out / "corpus" / f"{i:02}.txt", "".join(rng.choice(list("abcdefgh "), rng.integers(5, 40))))
    return f"text:{glob.escape(str(out.absolute()))}/corpus/*.txt"


def plan(listed, only):
    """The trials: what one backend alone can plant there, what both can in one after the other by turns.

    Raises BadInput where no name matches `only`.
    """
    trials, turn = [], 0
    for name in dict.fromkeys([*listed["keras"], *listed["jax"]]):
        able = [backend for backend in ROOMS if name in listed[backend]]
        backend = able[turn % len(able)]
        turn += len(able) > 1
        if not only or any(fnmatch(name, pattern) for pattern in only):
            trials.append({"name": name, "backend": backend, **listed[backend][name]})
    if not trials:
        names = ", ".join(sorted(listed["keras"].keys() | listed["jax"].keys()))
        raise BadInput(f"--only {' '.join(only)}: no change has such a name; known here: {names}")
    return trials


def untouched(recipe, worker, out):
    """All that one backend leaves with nothing planted, for trials of the other to be judged and placed against."""
    comparison.collect(recipe, worker, out, quiet=True)
    for number in range(recipe.train.steps):
        comparison.leave_taps(worker, recipe, out, number)
    for variant in optimizer_variants(recipe).values():
        comparison.leave_optimizer(worker, variant, out)
    for point in POINTS:
        leave_step(worker, recipe, out, point)


def trial(planned, recipe, worker, out, advance):
    """One row of the audit: what planting one change did to the verdict."""
    began, backend = time.perf_counter(), worker.backend
    base, path = out / "trials" / planned["recipe"], out / "trials" / f"{backend}-{planned['name']}"
    other = next(b for b in ROOMS if b != backend)
    for folder in ("runs", "tensors"):
        (path / folder).mkdir(parents=True)
        for entry in (base / folder).iterdir():
            if backend not in entry.name:
                (path / folder / entry.name).symlink_to(entry.absolute())

    def taps(number):
        teacher = comparison.taps_path(base, other, recipe, number)
        student = comparison.leave_taps(worker, recipe, path, number, teacher)
        return {other: load_tensors(teacher), backend: load_tensors(student)}

    def optimizer(variant):
        comparison.leave_optimizer(worker, variant, path)
        return {b: load_tensors(comparison.optimizer_path(path, b, variant)) for b in ROOMS}

    def step(point):
        teacher = step_path(base, other, recipe, point)
        return load_sides({other: teacher, backend: leave_step(worker, recipe, path, point, teacher)})

    # No states are left here: steps are looked at under the first weights.
    looks = Looks(taps, optimizer, lambda steps: {}, None, step, lambda: None)
    try:
        worker.ask("plant", change=planned["name"])
        comparison.collect(recipe, worker, path, quiet=True)
        collect_own_places(worker, recipe, path, other)
    except TwinscaleError as error:
        raise TwinscaleError(f"with {planned['name']} planted: {error}") from None
    dataset = open_dataset(recipe)
    verdict, found = comparison.judge(recipe, dataset, path), None
    if not verdict["agrees"]:
        found = first_cause(recipe, summed_positions(recipe, dataset), path, verdict, looks)
    worker.ask("plant", change=None)
    advance()
    failed = {rung["name"]: rung["worst"] / max(rung["bound"], TINY) for rung in verdict["rungs"] if not rung["agrees"]}
    placed = found is not None and found["operation"] == planned["operation"] and fnmatch(
        found["where"], planned["where"])
    return {**planned, "caught": not verdict["agrees"], "failed": failed, "signal": max(failed.values(), default=None),
            "found": found, "placed": placed, "seconds": time.perf_counter() - began}


def summary(rows):
    """The counts, and the rows of mutants and of harmless changes."""
    mutants = [row for row in rows if row["operation"]]
    neutral = [row for row in rows if not row["operation"]]
    signals = [row["signal"] for row in mutants if row["caught"]]
    return {"mutants": len(mutants), "caught": sum(row["caught"] for row in mutants),
            "placed": sum(row["placed"] for row in mutants), "neutral": len(neutral),
            "flagged": sum(row["caught"] for row in neutral), "smallest_signal": min(signals, default=None),
            "median_signal": float(np.median(signals)) if signals else None, "rows": [*mutants, *neutral]}


def lines(found):
    """The audit as a table, and its counts in a sentence."""
    table = [f"{'planted':<28}{'in':<7}{'fails':<12}{'signal':>9}  found"]
    for row in found["rows"]:
        verdict = ",".join(row["failed"]) or "agrees"
        signal = sig(row["signal"]) if row["signal"] else ""
        said = f"{row['found']['operation']} at {row['found']['where']}" if row["found"] else ""
        wanted = "" if row["placed"] or not row["operation"] else f"  (it is {row['operation']} at {row['where']})"
        table.append(f"{row['name']:<28}{row['backend']:<7}{verdict:<12}{signal:>9}  {said}{wanted}")
    return [*table, f"{found['mutants']} mutants, {found['caught']} caught, {found['placed']} placed; "
            f"{found['neutral']} harmless changes, {found['flagged']} flagged; {found['seconds']:.0f} s"]
