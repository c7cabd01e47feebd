"""The other half of the audit: comparisons with nothing planted, of recipes drawn over all that a recipe can say. None
is to be flagged, and how near each rung comes to its bound says how much room there is.

A comparison's number is all that its recipe depends on. Three in a row are of one recipe in the three precisions, so
that its float64 trajectory is trained once; optimizers and families are counted through, so that any sixty in a row,
from number 300 on any 72, hold each of these together; the rest is drawn. Models are of a few thousand weights, in the
audit's workers. What is done is kept, number by number, and added up: a run goes on where it ended, and one directory
may be filled in parts.
"""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np

from twinscale.benchmarks import compare as comparison
from twinscale.benchmarks import compare_collect, compare_judge
from twinscale.benchmarks.audit import corpus
from twinscale.benchmarks.comparison_files import HOLDS, RUNS, TENSORS
from twinscale.benchmarks.jumps import may_be_flips
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import Kind, again, clear, made, tell
from twinscale.benchmarks.results import Clean, Compared
from twinscale.benchmarks.rungs.ladder import TINY
from twinscale.benchmarks.rungs.operations import collect_own_places, leader
from twinscale.benchmarks.workers import Trainer, Worker, each, open_workers
from twinscale.common.data import open_dataset
from twinscale.common.errors import DID_IT, NO, TwinscaleError
from twinscale.common.families import FAMILIES
from twinscale.common.families.parameters import stream
from twinscale.common.files.access import plain, read_json, remove, write_json, write_text
from twinscale.common.files.output import answer, check_within, same
from twinscale.common.files.results import write_result
from twinscale.common.optimizers import OPTIMIZERS as registered
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import load
from twinscale.common.schedules import SCHEDULES

SCHEMA_VERSION = 1
KIND = Kind(".clean", "clean.json", {
    r"clean\.json": None, "corpus": {r"\d\d\.txt": None}, "rows": {r"\d+\.json": None},
    "flagged": {r"\d+\.toml": None},
    "trials": {r"\d+": {name: HOLDS[name] for name in (RUNS, TENSORS)}}})
IDENTITY = {"verb": "audit --clean"}
BETWEEN = 120  # comparisons that a pair of processes makes before the next takes over
SPOKEN = 20.0  # seconds between words on how far it is

PRECISIONS = ("float64", "float32", "bfloat16")
OPTIMIZERS = ("adamw", "lion", "lamb", "sgd")
DRAWN = ("decoder", "convnet", "decoder", "mlp", "decoder")  # families, by turns
LATER, MORE = 300, (*DRAWN, "encoder")  # those from a number on: what an earlier one is of has been told, and stays
ROWS = 96  # of drawn arrays


def clean(out: Path, count: int, first: int = 0, *, overwrite: bool = False, as_json: bool = False) -> int:
    """Makes `count` clean comparisons from number `first` on, those that `out` has already left out, writes clean.json
    of all that are there, prints it in words or `as_json`, and returns the exit code: 0 where none is flagged, else 1.

    Raises BadInput before anything runs.
    """
    comparison.require()
    if overwrite or not same(out, KIND, IDENTITY):
        clear(out, KIND, IDENTITY, overwrite)
    if (out / "trials").is_dir():  # of a run that was cut short; there are links of ours in it
        remove(out / "trials")
    check_within(out, KIND.holds)
    source = corpus(out)
    left = [number for number in range(first, first + count) if not row_path(out, number).exists()]
    trials = Trials(out, {key: made()[key] for key in ("version", "commit")}, len(left))
    for start in range(0, len(left), BETWEEN):
        recipes = {number: drawn(number, source) for number in left[start:start + BETWEEN]}
        with open_workers() as workers:
            each(workers, lambda worker: worker.ask("hasten"))
            each({b: Once(worker) for b, worker in workers.items()},
                 lambda once, recipes=recipes: trials.run(once, recipes))
            trials.look_again(workers)
        remove(out / "trials")
    rows = [dict(read_json(path, Compared, "take it away: its comparison is made again"))
            for path in sorted((out / "rows").glob("*.json"))]
    found = summary(rows) | {"schema_version": SCHEMA_VERSION, "made": made(), "commands": again(
        "audit", "--clean", str(count), "--from", str(first), out=out)}
    write_result(out / "clean.json", Clean, found)
    answer(found, lambda found: print("\n".join(lines(found, out))), as_json)
    return NO if found["flagged"] else DID_IT


class Once:
    """A worker that does nothing twice: what it has left of the same recipe in a file or run of that name is linked."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.backend, self.values = worker, worker.backend, {}

    def ask(self, call: str, recipe: Recipe, **arguments: Any) -> Any:
        """The value of a call, which is kept for as long as this stands."""
        path = arguments.get("path", arguments.get("run_dir"))
        key = call, recipe.hash, path and path.name
        if key in self.values:
            value, made = self.values[key]
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(made.absolute())
            return value
        self.values[key] = self.worker.ask(call, recipe, **arguments), path
        return self.values[key][0]


class Trials:
    """Comparisons that both backends go through, each at its own pace: whichever comes second has both judged."""

    def __init__(self, out: Path, version: dict[str, Any], total: int) -> None:
        self.out, self.version, self.total, self.done = out, version, total, 0
        self.lock, self.half, self.later = Lock(), {}, []
        self.led = defaultdict(Event)  # by number: JAX has made up what places are fed with, or never will
        self.began = self.spoken = time.monotonic()

    def run(self, once: Once, recipes: Mapping[int, Recipe]) -> None:
        """One backend's part of {number: recipe}, and the verdict wherever the other has done its own."""
        for number, recipe in recipes.items():
            began, error = time.monotonic(), None
            try:
                compare_collect.collect(recipe, once, trial_path(self.out, number), quiet=True)
                self.collect_places(recipe, once.worker, number)
            except TwinscaleError as raised:
                if once.worker.process.poll() is not None:  # and with it all that follow
                    for later in recipes:
                        self.led[later].set()
                    raise
                error = f"{type(raised).__name__}: {raised}"
            finally:
                if once.backend == "jax":
                    self.led[number].set()
            mine = {once.backend: time.monotonic() - began}, error
            with self.lock:
                other = self.half.pop(number, None)
                if other is None:
                    self.half[number] = mine
                else:
                    self.judge(number, recipe, mine[0] | other[0], mine[1] or other[1])

    def collect_places(self, recipe: Recipe, worker: Trainer, number: int) -> None:
        """What the backend makes in every place: JAX leads, and Keras waits for it."""
        if worker.backend == "keras":
            self.led[number].wait()
        collect_own_places(worker, recipe, trial_path(self.out, number), leader(worker))

    def judge(self, number: int, recipe: Recipe, spent: dict[str, float], error: str | None) -> None:
        """Has a comparison judged, or kept for a second look, which needs both backends at once."""
        verdict = None if error else compare_judge.judge(recipe, open_dataset(recipe), trial_path(self.out, number))
        if verdict and may_be_flips(recipe, verdict):
            self.later.append((number, recipe, spent, verdict))
        else:
            self.keep(number, recipe, spent, error, verdict)

    def look_again(self, workers: Mapping[str, Worker]) -> None:
        """Judges from equal states what was kept for it."""
        for number, recipe, spent, verdict in self.later:
            looked = comparison.looked_twice(recipe, verdict, trial_path(self.out, number), workers)
            self.keep(number, recipe, spent, None, looked, twice=True)
        self.later = []

    def keep(self, number: int, recipe: Recipe, spent: dict[str, float], error: str | None, verdict: Any,
             twice: bool = False) -> None:
        """Keeps what a comparison said."""
        row = row_of(number, recipe, error, verdict) | {"twice": twice, "seconds": spent, **self.version}
        if not row["agrees"]:
            write_text(self.out / "flagged" / f"{number:04}.toml", dumps(recipe))
            tell("both", f"number {number} is flagged: {row['said']}")
        write_json(row_path(self.out, number), plain(row))
        self.done += 1
        if time.monotonic() - self.spoken > SPOKEN or self.done == self.total:
            self.spoken = time.monotonic()
            seconds = (self.spoken - self.began) / self.done * (self.total - self.done)
            tell("both", f"{self.done} of {self.total} comparisons, {math.ceil(seconds / 60)} min left")


def trial_path(out: Path, number: int) -> Path:
    """The directory of a comparison, which is removed once it is judged."""
    return out / "trials" / f"{number:04}"


def row_path(out: Path, number: int) -> Path:
    """The file of what a comparison said."""
    return out / "rows" / f"{number:04}.json"


def row_of(number: int, recipe: Recipe, error: str | None, verdict: Any) -> dict[str, Any]:
    """What a comparison said: {"number", "optimizer", "precision", "family", "agrees", "said", "horizon", "ratios":
    {rung: {"ratio", "where", "worst", "bound", "bound_from"}}}."""
    about = recipe.optimizer.name, recipe.train.precision, recipe.model.family
    row: dict[str, Any] = {"number": number, "optimizer": about[0], "precision": about[1], "family": about[2],
                           "agrees": False, "said": error, "horizon": None, "ratios": {}}
    if error:
        return row
    for rung in verdict["rungs"]:
        check = max(rung["checks"], key=lambda c: c["worst"] / max(c["bound"], TINY))
        row["ratios"][rung["name"]] = {
            "ratio": check["worst"] / max(check["bound"], TINY), "where": f"{check['what']}: {check['where']}",
            **{key: check[key] for key in ("worst", "bound", "bound_from")}}
    return row | {"agrees": verdict["agrees"], "horizon": verdict["horizon"], "said": verdict["sentence"]}


# ---- what is compared


def drawn(number: int, source: str) -> Recipe:
    """The recipe of a comparison; `source` is that of a corpus of short documents."""
    rng = stream("clean", number // 3)
    turns = MORE if number >= LATER else DRAWN
    precision, optimizer, family = (names[number // every % len(names)] for names, every in (
        (PRECISIONS, 1), (OPTIMIZERS, 3), (turns, 12)))
    moved = load(registered, optimizer)

    def one(*values):
        return values[int(rng.integers(len(values)))]

    data = {"source": source, "sequence": one(8, 16), "held_out": 0.1, "cross_documents": one(False, False, True)}
    described = load(FAMILIES, family)
    if described.reads == "images":
        data = {"source": "digits", "held_out": 0.01, "augment": one([], ["shift"], ["flip", "cutout"])}
    steps, warmup, model = 5, one(0, 2, 3), {}
    if described.reads == "arrays":
        model = described.drawn(one)
        inputs = described.rows(described.options.model_validate({"family": family, **model}))
        data = {"source": "random", "held_out": 0.1, "rows": ROWS, "inputs": inputs}
    kind = one("constant", "cosine", "linear", "wsd")
    return Recipe.model_validate({
        "name": f"clean-{number // 3}", "seed": int(rng.integers(1 << 31)), "data": data,
        "model": {"family": family, **(model or described.drawn(one))},
        "optimizer": {"name": optimizer, "learning_rate": moved.peak * 10.0 ** -rng.uniform(0, 2),
                      "weight_decay": one(0.0, 0.1), "clip_norm": one(0.0, 0.3, 5.0), "ema": one(0.0, 0.9),
                      "beta1": one(0.9, 0.8), "beta2": one(0.999, 0.95), "epsilon": one(1e-8, 1e-6),
                      **{key: one(*values) for key, values in moved.choices.items()}},
        "schedule": {"kind": kind, "warmup": warmup, "final": one(0.0, 0.1), **load(SCHEDULES, kind).tried},
        "train": {"steps": steps, "global_batch": one(4, 8), "accumulate": one(1, 1, 2), "precision": precision,
                  "label_smoothing": one(0.0, 0.1), "z_loss": one(0.0, 1e-3)},
        "keras": {"jit_compile": False},
        "jax": {"scan": one(False, True), "remat": one("none", "none", "none", "full")},
        "compare": {"float64_steps": steps}})


# ---- what is said of them


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of all rows, by precision, optimizer and family too, and the worst of each rung."""
    worst = {}
    for row in rows:
        for rung, found in row["ratios"].items():
            mine = found | {"number": row["number"], "precision": row["precision"], "optimizer": row["optimizer"],
                            "family": row["family"]}
            if rung not in worst or ratio_of(mine) > ratio_of(worst[rung]):
                worst[rung] = mine
    counted = {kind: {name: sum(row[kind] == name for row in rows) for name in sorted({row[kind] for row in rows})}
               for kind in ("precision", "optimizer", "family")}
    return {"comparisons": len(rows), "flagged": sum(not row["agrees"] for row in rows),
            "open": sum(row["horizon"] in (0, 1) for row in rows), "twice": sum(row["twice"] for row in rows),
            "counted": counted, "worst": dict(sorted(worst.items())),
            "seconds": float(np.sum([max(row["seconds"].values()) for row in rows])),
            "commits": sorted({str(row["commit"]) for row in rows}), "rows": rows}


def ratio_of(found: Mapping[str, Any]) -> float:
    """A ratio as JSON has it; null, which was not finite, is the worst."""
    return math.inf if found["ratio"] is None else found["ratio"]


def lines(found: Mapping[str, Any], out: Path) -> list[str]:
    """The worst of each rung as a table, what is flagged with the command that repeats it, and the counts."""
    table = [f"{'rung':<6}{'observed/bound':>15}  where, and in which comparison"]
    for rung, worst in found["worst"].items():
        table.append(f"{rung:<6}{sig(ratio_of(worst)):>15}  {worst['where']}, number {worst['number']} "
                     f"({worst['family']}, {worst['optimizer']}, {worst['precision']})")
    for row in (row for row in found["rows"] if not row["agrees"]):
        table += [f"number {row['number']} ({row['family']}, {row['optimizer']}, {row['precision']}) is flagged: "
                  f"{row['said']}", "  " + again("audit", "--clean", "1", "--from", str(row["number"]), out=out)[0]]
    counts = "; ".join(", ".join(f"{count} {name}" for name, count in of.items()) for of in found["counted"].values())
    return [*table, f"{found['comparisons']} clean comparisons, {found['flagged']} flagged, {found['open']} open "
            f"{found['twice']} judged from equal states ({counts})"]
