"""P8, the audit of the gate itself: planted errors are all to be caught and placed, harmless changes never flagged.

Each trial plants one change in one backend, has that backend do all that a comparison asks of it, and judges what it
left against what the other one left untouched. All but what is wrong in bfloat16 alone runs in float64, on models of a
few thousand weights: a semantic error shows at any size.
"""

import glob
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.benchmarks import audit_pair as pairs
from twinscale.benchmarks import compare as comparison
from twinscale.benchmarks import compare_collect, compare_judge
from twinscale.benchmarks.audit_result import lines, summary
from twinscale.benchmarks.comparison_files import HOLDS, RUNS, TENSORS
from twinscale.benchmarks.output import Kind, again, begun, clear, made, nothing_left, tell
from twinscale.benchmarks.report.audit import write_audit
from twinscale.benchmarks.results import Audit, Trial
from twinscale.benchmarks.rungs.ladder import TINY, summed_positions
from twinscale.benchmarks.rungs.later import leave_step, load_sides, step_path
from twinscale.benchmarks.rungs.operations import collect_own_places, leader, on_one_device
from twinscale.benchmarks.rungs.placing import Looks, first_cause, optimizer_variants
from twinscale.benchmarks.rungs.resuming import Resumed, resume_cause
from twinscale.benchmarks.workers import ROOMS, Trainer, Worker, each, one_behind, open_workers
from twinscale.common.data import open_dataset
from twinscale.common.errors import DID_IT, NO, BadInput, TwinscaleError, error_of, known, show_traceback, unexpected
from twinscale.common.files.access import plain, read_json, remove, write_json, write_text
from twinscale.common.files.output import answer, check_within
from twinscale.common.files.results import write_result
from twinscale.common.files.tensors import load_tensors
from twinscale.common.operations.points import POINTS
from twinscale.common.planted.inside import offered
from twinscale.common.planted.planting import HAS
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.progress import counting

SCHEMA_VERSION = 1
TRAIN = {"steps": 6, "global_batch": 4, "precision": "float64"}
TEXT = {"sequence": 16, "held_out": 0.2, "max_documents": 16}  # an epoch is over before the last step
DIGITS = {"source": "digits", "held_out": 0.005}
DECODER = {"family": "decoder", "layers": 1, "width": 16, "heads": 2}
MLP = {"family": "mlp", "hidden": [12, 8], "activation": "gelu"}
ENCODER = {"family": "encoder", "layers": 1, "width": 16, "heads": 2, "vocabulary": 30, "positions": 9,
           "head": "embedding"}
PADDED = {"source": "random", "rows": 24, "held_out": 0.2,
          "inputs": {"ids": {"shape": [8], "below": 30}, "mask": {"shape": [8], "padding": True}}}
PIECES = {"tokenizer": "wordpiece", "vocabulary": 300, "sequence": 8, "held_out": 0.2}
BERT = {"family": "encoder", "layers": 1, "width": 16, "heads": 2, "hidden": 16, "vocabulary": 300, "positions": 8}
ADAM = {"learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 0.5, "ema": 0.9}
WARM = {"kind": "cosine", "warmup": 3}
# Between them they use every operation, every slot of an optimizer and every way to scale a loss. A change is planted
# in the cheapest that shows it: nearly all of an audit's time goes into compiling, and attention and shared bits are
# what takes longest.
RECIPES: dict[str, dict[str, Any]] = {
    "layer": {"data": TEXT, "model": DECODER, "optimizer": ADAM, "schedule": WARM,
              "train": {**TRAIN, "accumulate": 2, "label_smoothing": 0.1, "z_loss": 1e-3}},
    "rotary": {"data": TEXT, "model": {**DECODER, "layers": 2, "heads": 4, "kv_heads": 2, "norm": "rms",
                                       "positions": "rotary", "activation": "swiglu", "tied": False, "bias": False},
               "optimizer": {"name": "lamb", "learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 0.5},
               "train": TRAIN},
    "narrow": {"data": TEXT, "model": {**DECODER, "heads": 4, "norm": "rms", "positions": "rotary",
                                       "activation": "swiglu"},
               "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1},
               "train": {**TRAIN, "precision": "bfloat16"}},
    "image": {"data": {**DIGITS, "augment": ["shift"]}, "model": {"family": "convnet", "channels": [4, 8]},
              "optimizer": {"name": "sgd", "nesterov": True, "learning_rate": 0.1, "weight_decay": 1e-3},
              "schedule": {"kind": "linear", "warmup": 2}, "train": TRAIN},
    "dense": {"data": DIGITS, "model": {**MLP, "dropout": 0.1}, "optimizer": ADAM, "schedule": WARM,
              "train": {**TRAIN, "accumulate": 2, "label_smoothing": 0.1, "z_loss": 1e-3}},
    "lion": {"data": DIGITS, "model": MLP, "train": TRAIN, "schedule": WARM,
             "optimizer": {"name": "lion", "learning_rate": 1e-3, "weight_decay": 0.1, "beta2": 0.99}},
    "lamb": {"data": DIGITS, "model": MLP, "train": TRAIN,
             "optimizer": {"name": "lamb", "learning_rate": 1e-2, "weight_decay": 0.1}},
    "single": {"data": DIGITS, "model": MLP, "optimizer": ADAM, "train": {**TRAIN, "precision": "float32",
                                                                          "accumulate": 2}},
    "half": {"data": DIGITS, "model": MLP, "optimizer": ADAM, "train": {**TRAIN, "precision": "bfloat16",
                                                                        "accumulate": 2}},
    "padded": {"data": PADDED, "model": ENCODER, "objective": {"name": "probe"}, "optimizer": ADAM, "train": TRAIN},
    "residual": {"data": {**DIGITS, "augment": ["resized-crop", "rand-augment", "mixup"], "augmenting": {"mixup": 2.0}},
                 "model": {"family": "resnet", "layers": [1, 1], "block": "bottleneck", "widths": [4, 4],
                           "stem_width": 4}, "optimizer": {"name": "sgd", "learning_rate": 0.05}, "train": TRAIN},
    "patches": {"data": DIGITS, "model": {"family": "vit", "layers": 2, "width": 16, "heads": 2, "hidden": 16,
                                          "pooler": True},
                "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 0.5, "layer_decay": 0.7,
                              "freeze": ["patch.*"]}, "train": TRAIN},
    "hidden": {"data": {**PIECES, "masked": 0.3, "augment": ["word-dropout"]}, "model": {**BERT, "head": "masked"},
               "optimizer": ADAM, "train": TRAIN},
    "follows": {"data": {**PIECES, "next_sentence": True}, "model": {**BERT, "types": 2, "head": "next-sentence"},
                "optimizer": ADAM, "train": TRAIN},
    "adapted": {"data": DIGITS, "model": MLP, "optimizer": ADAM, "train": {**TRAIN, "class_weights": "balanced"},
                "adapt": {"kind": "lora", "rank": 2, "alpha": 4.0, "targets": ["layer_*.kernel"]}},
    "resumed": {"data": DIGITS, "model": MLP, "optimizer": ADAM, "schedule": WARM, "train": TRAIN},
    "spread": {"data": TEXT, "model": DECODER, "optimizer": ADAM, "train": TRAIN, "devices": {"data": 2}},
    "spread-bits": {"data": DIGITS, "model": {**MLP, "dropout": 0.1}, "optimizer": ADAM, "train": TRAIN,
                    "devices": {"data": 2}},
    "spread-norm": {"data": DIGITS, "model": {"family": "convnet", "channels": [4]}, "train": TRAIN,
                    "optimizer": {"name": "sgd", "learning_rate": 0.1}, "devices": {"data": 2}}}
RESUMED = {"resumed": 3}  # recipes whose trainings are stopped after so many updates, and go on from a checkpoint
OWN = "own"  # a user's recipe; where it is stopped and goes on, "own-resumed"
DEVICES = 2  # of every process: parts of its CPU
KIND = Kind(".audit", "audit.json", {
    r"audit\.(json|html|md)": None, "corpus": {r"\d\d\.txt": None}, "compiled": {r".*-(cache|atime)": None},
    "rows": {r"(keras|jax)-.*\.json": None},
    "trials": {"|".join([*RECIPES, f"{OWN}(-resumed)?", "(keras|jax)-.*"]): {
        n: HOLDS[n] for n in (RUNS, TENSORS)}}})


def audit(out: Path, **options: Any) -> int:
    """`run_audit`, of which bad input and what is missing leave nothing in a directory that was empty before."""
    with nothing_left(out):
        return run_audit(out, **options)


def run_audit(out: Path, *, overwrite: bool = False, only: Sequence[str] | None = None, own: Recipe | None = None,
              asked: Sequence[str] = (), as_json: bool = False) -> int:
    """Writes audit.json into `out` and returns the exit code: 0 where every mutant was caught and placed and no
    harmless change flagged, else 1.

    Args:
      out: the directory.
      overwrite: remove what an earlier audit left in `out`.
      only: patterns of names: the changes to plant; None plants all.
      own: a recipe to plant in, all that shows in it, in place of those of the audit.
      asked: the file and the overrides that `own` was read with.
      as_json: print what audit.json holds in place of the words.
    Raises: BadInput before anything runs; TwinscaleError where the backends disagree with nothing planted.
    """
    comparison.require()
    own = pairs.shortened(own) if own and pairs.is_pair(own) else own
    begin(out, {"verb": "audit", "only": list(only or ()), "recipe": own and own.hash}, overwrite)
    recipes = {name: own for name in (OWN, f"{OWN}-resumed")} if own else make_recipes(out)
    began = time.perf_counter()
    with open_workers({"JAX_COMPILATION_CACHE_DIR": str(out / "compiled"),
                       "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}, anew=True) as workers:
        each(workers, lambda worker: worker.ask("hasten"))
        planned, left = everything(each(workers, lambda worker: worker.ask("changes")), workers, only, own, out)
        used = {name: recipe for name, recipe in recipes.items() if any(t["recipe"] == name for t in planned)}
        tell("both", f"{len(used)} recipe{'s' * (len(used) > 1)} with nothing planted")

        def before(worker):
            for name, recipe in used.items():
                untouched(recipe, trainer(worker, name, out / "trials" / name), out / "trials" / name)

        one_behind(
            workers, used,
            lambda worker, name: collect_own_places(worker, used[name], out / "trials" / name, leader(worker)), before)
        for name, recipe in used.items():
            verdict = compare_judge.judge(recipe, open_dataset(recipe), out / "trials" / name)
            if not verdict["agrees"]:
                raise TwinscaleError(f"with nothing planted, recipe {name!r} does not agree: {verdict['sentence']}")
            planned, null = pairs.without_null(planned, recipe, verdict)
            left += null
        with counting(len(planned), "audit") as advance:
            rows = each(workers, lambda worker: [
                trial(t, recipes[t["recipe"]], worker, out, advance)
                for t in planned if t["backend"] == worker.backend])
    found = summary([row for backend in rows.values() for row in backend])
    words = [*(word for name in only or () for word in ("--only", name)),
             *(["--recipe", *map(str, asked)] if own else [])]
    found |= {"schema_version": SCHEMA_VERSION, "seconds": time.perf_counter() - began, "made": made(),
              "inapplicable": left, "recipe": str(asked[0]) if asked else None,
              "commands": again("audit", *words, out=out)}
    write_result(out / "audit.json", Audit, found)
    write_audit(plain(found), out)
    answer(found, lambda found: print("\n".join(lines(found))), as_json)
    return DID_IT if sound(found) else NO


def begin(out: Path, asked: dict[str, Any], overwrite: bool) -> None:
    """Makes a directory ready: of the same that was asked of the same code and cut short, the rows stay."""
    identity = asked | {key: made()[key] for key in ("version", "commit")}
    if overwrite or not begun(out, KIND, identity):
        clear(out, KIND, identity, overwrite)
    check_within(out, {name: inside for name, inside in KIND.holds.items() if name != "trials"})
    if (out / "trials").is_dir():  # there are links of ours in it
        remove(out / "trials")


def sound(found: Mapping[str, Any]) -> bool:
    """Whether every mutant was caught and placed, no harmless change flagged, and every trial came to its end."""
    return found["caught"] == found["placed"] == found["mutants"] and not found["flagged"] and not found["failed"]


def trainer(worker: Trainer, name: str, out: Path) -> Trainer:
    """The worker as a recipe of that name wants it: one whose trainings are stopped goes on from a checkpoint."""
    after = resumed_after(name)
    return Resumed(worker, out, after) if after else worker


def resumed_after(name: str) -> int:
    """Updates after which trainings of the recipe of a name are stopped and gone on with; 0: they are not."""
    return RESUMED.get(name.replace(OWN + "-", ""), 0)


def make_recipes(out: Path) -> dict[str, Recipe]:
    """{name: recipe}; those of text read documents that are written to `out`: short, so that they share rows."""
    source, made = corpus(out), {}
    for name, sections in RECIPES.items():
        values = {"name": f"audit-{name}", "keras": {"jit_compile": False}, **sections,
                  "data": {"source": source, **sections["data"]},
                  "devices": {"virtual": DEVICES, **sections.get("devices", {})}}
        made[name] = Recipe.model_validate(values)
    return made


def corpus(out: Path) -> str:
    """The source of short documents, which it writes to out/corpus."""
    rng = np.random.default_rng(7)
    for i in range(26):
        write_text(out / "corpus" / f"{i:02}.txt", "".join(rng.choice(list("abcdefgh "), rng.integers(5, 40))))
    return f"text:{glob.escape(str(out.absolute()))}/corpus/*.txt"


def everything(listed: Any, workers: Mapping[str, Worker], only: Sequence[str] | None, own: Recipe | None, out: Path
               ) -> tuple[list[Any], list[dict[str, Any]]]:
    """`plan` of what rooms list; of a pair of one's own, of its places, which both rooms are asked for."""
    if own is None or not pairs.is_pair(own):
        return plan(offered(listed, ()), only, own)
    tell("both", f"the places of two programs; trainings of {own.train.steps} updates")
    found, left = pairs.plan_inside(own, listed, workers, out / "trials" / OWN, bool(only))
    planned, lacking = plan(found, only, own)
    return planned, left + lacking


def plan(listed: Any, only: Sequence[str] | None, own: Recipe | None = None) -> tuple[list[Any], list[dict[str, Any]]]:
    """([the trials], [what does not apply to a recipe of one's own, {"name", "backend", "lacks"}]): what both backends
    share is planted in either by turns, what a backend has of its own in that one.

    Raises BadInput where no name matches `only`, or nothing that does applies.
    """
    trials, left, turn = [], [], 0
    for name in dict.fromkeys([*listed["keras"], *listed["jax"]]):
        able = [backend for backend in ROOMS if name in listed[backend]]
        if all(listed[backend][name].get("shared") for backend in able):
            able = [able[turn % len(able)]]
            turn += 1
        for backend in able if not only or any(fnmatch(name, pattern) for pattern in only) else ():
            planned = {"name": name, "backend": backend, **listed[backend][name]}
            lacks = [word for word in planned.get("needs", ()) if own and not HAS[word](own)]
            if lacks:
                left.append({"name": name, "backend": backend, "lacks": lacks})
                continue
            if own:
                planned["recipe"] = f"{OWN}-resumed" if planned["recipe"] in RESUMED else OWN
            trials.append(planned)
    if not trials and not left:
        names = ", ".join(sorted(listed["keras"].keys() | listed["jax"].keys()))
        raise BadInput(f"--only {' '.join(only or ())}: no change has such a name; known here: {names}")
    if not trials:
        said = "; ".join(f"{row['name']}: it has no {', no '.join(row['lacks'])}" for row in left[:3])
        raise BadInput(f"--recipe: nothing applies to this recipe ({said}); change --only or the recipe")
    return trials, left


def untouched(recipe: Recipe, worker: Trainer, out: Path) -> None:
    """All that one backend leaves with nothing planted, for trials of the other to be judged and placed against."""
    compare_collect.collect(recipe, worker, out, quiet=True)
    for number in range(recipe.train.steps):
        compare_collect.leave_taps(worker, on_one_device(recipe), out, number)
    for variant in optimizer_variants(recipe).values():
        compare_collect.leave_optimizer(worker, variant, out)
    for point in POINTS:
        leave_step(worker, on_one_device(recipe), out, point)


def trial(planned: Any, recipe: Recipe, worker: Worker, out: Path, advance: Callable[[], Any]) -> dict[str, Any]:
    """One row of the audit: what planting one change did to the verdict, which stays in `out`: an audit that was cut
    short goes on by it. What fails is said in the row, for what has been found in other trials is not to be lost; but
    for a worker that has died, with which all else fails. That is tried again by the next."""
    kept = out / "rows" / f"{worker.backend}-{plain_name(planned['name'])}.json"
    if kept.exists():
        advance()
        row = dict(read_json(kept, Trial, "take it away: its trial is made again"))
        failed = {name: np.inf if signal is None else signal for name, signal in row["failed"].items()}
        return row | {"failed": failed, "signal": max(failed.values(), default=None)}
    began, row = time.perf_counter(), {**planned, "precision": recipe.train.precision, "caught": False, "placed": False,
                                       "failed": {}, "signal": None, "found": None, "error": None}
    try:
        worker.ask("plant", change=planned["name"])
        row |= judged(planned, recipe, worker, out)
        worker.ask("plant", change=None)
    except Exception as error:
        if worker.process.poll() is not None:
            raise error_of(getattr(error, "exit_code", NO), f"with {planned['name']} planted: {error}") from None
        show_traceback(error)
        row["error"] = str(known(error) or unexpected(error))
        tell(worker.backend, f"with {planned['name']} planted: {row['error']}")
        worker.ask("plant", change=None)
    advance()
    row["seconds"] = time.perf_counter() - began
    if not row["error"]:
        write_json(kept, plain(row))
    return row


def judged(planned: Any, recipe: Recipe, worker: Trainer, out: Path) -> dict[str, Any]:
    """What a comparison says of a change that is planted in a worker."""
    backend = worker.backend
    base, path = out / "trials" / planned["recipe"], out / "trials" / f"{backend}-{plain_name(planned['name'])}"
    other = next(b for b in ROOMS if b != backend)
    for folder in (RUNS, TENSORS):
        (path / folder).mkdir(parents=True)
        for entry in (base / folder).iterdir():
            if left_by(entry.name) != backend:
                (path / folder / entry.name).symlink_to(entry.absolute())

    def taps(number):
        teacher = compare_collect.taps_path(base, other, recipe, number)
        student = compare_collect.leave_taps(worker, on_one_device(recipe), path, number, teacher)
        return {other: load_tensors(teacher), backend: load_tensors(student)}

    def optimizer(variant):
        compare_collect.leave_optimizer(worker, variant, path)
        return {b: load_tensors(compare_collect.optimizer_path(path, b, variant)) for b in ROOMS}

    def step(point):
        teacher = step_path(base, other, recipe, point)
        return load_sides({other: teacher, backend: leave_step(worker, on_one_device(recipe), path, point, teacher)})

    # No states are left here: steps are looked at under the first weights.
    looks = Looks(taps, optimizer, lambda steps: {}, None, step, lambda: None)
    compare_collect.collect(recipe, trainer(worker, planned["recipe"], path), path, quiet=True)
    collect_own_places(worker, recipe, path, other)
    dataset, after = open_dataset(recipe), resumed_after(planned["recipe"])
    verdict, found = compare_judge.judge(recipe, dataset, path), None
    if not verdict["agrees"]:
        found = after and resume_cause(recipe, path, after) or pairs.placed_inside(
            recipe, verdict, worker, out / "trials" / OWN, path) or first_cause(
                recipe, summed_positions(recipe, dataset), path, verdict, looks)
    failed = {rung["name"]: rung["worst"] / max(rung["bound"], TINY) for rung in verdict["rungs"] if not rung["agrees"]}
    return {"caught": not verdict["agrees"], "failed": failed, "signal": max(failed.values(), default=None),
            "found": found, "placed": found is not None and is_right(planned, found)}


def is_right(planned: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a cause is what was planted, and where."""
    if found["operation"] != planned["operation"]:
        return False
    if "place" in found:
        return pairs.is_at(found["place"], planned["where"])
    return fnmatch(found["where"], planned["where"].replace("/", "."))  # a module's path as canonical names have it


def plain_name(name: str) -> str:
    """A change's name as that of a directory: a module's path may have what no file's name has."""
    if re.fullmatch(r"[\w.@-]{1,100}", name):
        return name
    return re.sub(r"[^\w.@-]+", "-", name)[:80] + "-" + hashlib.sha256(name.encode()).hexdigest()[:8]


def left_by(name: str) -> str | None:
    """The backend that has left a file or a run of a trial: a word of its name. None of what neither has."""
    return next((backend for backend in ROOMS if backend in re.split("[-.]", name)), None)
