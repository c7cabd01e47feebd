"""Trains a recipe with both backends and their twins, climbs the parity ladder, writes the verdict and the report."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twinscale.benchmarks.columns_asked import check_columns, columns_in, of_columns
from twinscale.benchmarks.columns_result import parted_in
from twinscale.benchmarks.compare_collect import (
    collect_both,
    forget_optimizers,
    leave_optimizer,
    leave_taps,
    precisions,
    take_runs,
)
from twinscale.benchmarks.compare_judge import judge, sentence
from twinscale.benchmarks.compare_record import record, reproducible, told
from twinscale.benchmarks.comparison_files import HOLDS, MARKER, VERDICT, ComparisonFiles
from twinscale.benchmarks.jumps import may_be_flips, second_look
from twinscale.benchmarks.meshes import check_meshes, mesh_sentence
from twinscale.benchmarks.meshes_fit import attending
from twinscale.benchmarks.output import Kind, begun, clear, nothing_left, same, tell
from twinscale.benchmarks.report.page import draw, write_report
from twinscale.benchmarks.report.terminal import show
from twinscale.benchmarks.rung_table import is_placed
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.rungs.inside import cause_inside, looked_inside
from twinscale.benchmarks.rungs.later import first_uneven, leave_states, leave_step, load_sides
from twinscale.benchmarks.rungs.operations import leave_places, on_one_device
from twinscale.benchmarks.rungs.outcome import collect_outcome, margins_of, outcome_lines, outcome_rung, seeds_of
from twinscale.benchmarks.rungs.placing import Looks, first_cause, looked_at
from twinscale.benchmarks.rungs.swap import swap_table
from twinscale.benchmarks.sides import (
    COLUMNS,
    HERE,
    LABELS,
    USUAL,
    ColumnPair,
    framework_of,
    ids_of,
    labelled,
    rooms_of,
    spoken,
    who,
)
from twinscale.benchmarks.timing.throughput import side_by_side
from twinscale.benchmarks.verdict import Rung, Verdict, fenced, is_pending, read_verdict
from twinscale.benchmarks.workers import ROOMS, Worker, copies, each, open_workers, room_for_another
from twinscale.common.data import Dataset, open_dataset
from twinscale.common.data.arrays import unread
from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, BadInput, need
from twinscale.common.families import traits_of
from twinscale.common.families.pair import refuse_of_one
from twinscale.common.files.access import is_odd, plain, shown, write_text
from twinscale.common.files.output import answer, check_within
from twinscale.common.files.results import write_result
from twinscale.common.need import BACKENDS
from twinscale.common.optimizers import OPTIMIZERS
from twinscale.common.recipe.file import dumps, load
from twinscale.common.recipe.schema import Recipe
from twinscale.common.trackers import check_trackers

KIND = Kind(MARKER, VERDICT, HOLDS)
Taken = Mapping[str, tuple[Path, str]]  # {key of a side: (directory of a comparison, key of the same trainer there)}


def compare(recipe: Recipe, out: Path, *, overwrite: bool = False, plant: str | None = None, operations: bool = False,
            seeds: int | None = None, place: bool = False, swap: bool = False, meshes: bool = False,
            columns: ColumnPair = (), asked: Sequence[Any] = (), as_json: bool = False) -> int:
    """`compared`, of which it shows the verdict or prints it `as_json`; returns the exit code: 0, 1, or 3 where the
    twins part at once, or the seeds were too few, and the answer stays open. What fails of a part that was asked for
    besides leaves verdict and report, with a line about it, and makes it 1."""
    verdict = compared(recipe, out, overwrite=overwrite, plant=plant, operations=operations, seeds=seeds, place=place,
                       swap=swap, meshes=meshes, columns=columns, asked=asked)
    answer(plain(verdict), show, as_json)
    return verdict.exit_code


def compared(recipe: Recipe, out: Path, *, overwrite: bool = False, plant: str | None = None, operations: bool = False,
             seeds: int | None = None, place: bool = False, swap: bool = False, meshes: bool = False,
             columns: ColumnPair = (), asked: Sequence[Any] = (), taken: Taken = MappingProxyType({})) -> Verdict:
    """Writes verdict.json, report.html, report.md and the runs into `out`; returns the Verdict.

    Args:
      recipe: the validated recipe. out: the directory.
      overwrite: remove what an earlier comparison left in `out`.
      plant: "BACKEND:MUTANT" plants a semantic error first, to show that it is caught.
      operations: measure every operation against wide references too (P1).
      seeds: train from so many seeds, and test the final metrics for equivalence (P7).
      place: where they disagree, look for the first operation that does.
      swap: run each program under the other's runtime too, to tell the program's part from the runtime's.
      meshes: train each backend on several devices and hosts too (P6).
      columns: the two columns that are compared, () of Keras and JAX.
      asked: the recipe's file and the overrides that the recipe was read with, for the report.
      taken: {key of a side: (directory, key)} of sides whose runs are those of another comparison of this recipe.
    Raises: BadInput before anything is compiled or written.
    """
    require(recipe.model, {"--swap": swap, "--meshes": meshes}, columns)
    check_asked(recipe, out, swap, meshes, columns)
    mutant, shared, recipe = planted(plant, columns), recipe, attending(recipe) if meshes else recipe  # rings: P6
    options = {"plant": plant, "operations": operations, "place": place, "swap": swap, "meshes": meshes,
               "outcome": f"SEEDS={seeds}" if seeds else None} | of_columns(columns)
    with labelled(recipe.model, columns), ExitStack() as stack:
        workers = stack.enter_context(open_workers(rooms=rooms_of(recipe.model, columns), model=recipe.model))
        aside = {"keras": workers["keras"]} if may_split(recipe, columns, taken) else {}
        dataset = open_dataset(recipe)
        if said := unread(dataset.manifest):
            tell("both", said)

        def draw_ahead():  # most figures show what is known before P1
            draw(told(judge(recipe, dataset, out, placed=False), recipe, dataset, out, asked, options))

        with nothing_left(out):
            prepare(out, recipe, overwrite, of_columns(columns))
            take_all(recipe, out, taken)
            with copies(aside) as beside:
                plant_in([*workers.values(), *beside.values()], mutant)
                collect_both(workers, beside, recipe, out, draw_ahead, taken)
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
            add_swap(verdict, recipe, dataset, out, workers, mutant)
    if meshes:
        train_meshes(verdict, shared, out, mutant, columns, taken)
    with labelled(recipe.model, columns):
        return record(verdict, recipe, dataset, out, asked, options)


def check_asked(recipe: Recipe, out: Path, swap: bool, meshes: bool, columns: ColumnPair = ()) -> None:
    """Raises BadInput where what is asked for besides cannot be done of a recipe, or into a directory."""
    check_columns(recipe, columns, swap)
    check_trackers(recipe, out)
    if recipe.train.products != "full":
        raise BadInput(f'train.products="{recipe.train.products}": Keras has no such products to compare with; set '
                       '"full", or let `twinscale compare` judge those of JAX alone')
    if swap and traits_of(recipe.model).foreign:
        raise BadInput(f'--swap: model.family = "{recipe.model.family}": programs of your own run under their own '
                       "runtime alone: leave it out")
    if meshes and is_odd(out):
        raise BadInput(f"--out {shown(out)}: --meshes trains on several hosts, which cannot write below a path that "
                       "has one of []*?\\ or is not UTF-8; choose another directory")


def may_split(recipe: Recipe, columns: ColumnPair, taken: Taken) -> bool:
    """Whether the first side may have a second process for float64: where it trains, and not on a column's JAX, whose
    processes are not copied."""
    on_jax = COLUMNS[ids_of(columns)["keras"]].runtime == "jax"
    return len(precisions(recipe)) > 1 and not on_jax and "keras" not in taken and room_for_another()


def take_all(recipe: Recipe, out: Path, taken: Taken) -> None:
    """Copies the runs of all sides that are `taken` from other comparisons."""
    for key, (where, other) in taken.items():
        tell(spoken(key), f"what it has trained in {where.name}")
        take_runs(recipe, out, key, where, other)


def plant_in(workers: Iterable[Any], mutants: Iterable[tuple[str, str]]) -> None:
    """Plants each of [(backend, change)] in all workers of its backend."""
    for backend, name in mutants:
        for worker in workers:
            if worker.backend == backend:
                worker.ask("plant", change=name)


def bisect(out: Path, as_json: bool = False) -> int:
    """Looks for the first cause of the disagreement that a comparison found, adds it to its verdict and reports, and
    returns the exit code: 0 where it was found, or there is none, 3 where nothing was found.

    Raises BadInput where `out` holds no finished comparison.
    """
    if ComparisonFiles(out).pairs.is_dir():
        raise BadInput(f"{out}: holds several columns: name the directory of a pair, such as {out / parted_in(out)}")
    if not ComparisonFiles(out).verdict.is_file() or not (out / MARKER).is_file():
        raise BadInput(f"{out}: holds no verdict.json; `twinscale compare RECIPE --out {out}` makes one")
    check_within(out, KIND.holds)
    recipe, verdict = load(ComparisonFiles(out).recipe, []), dict(read_verdict(out))
    columns = columns_in(verdict.get("arguments"))
    require(recipe.model, {}, columns)
    if verdict["agrees"]:
        answer(verdict, lambda _: print("the backends agree: there is nothing to place"), as_json)
        return DID_IT
    if all(rung["agrees"] for rung in verdict["rungs"] if is_placed(rung["name"])):
        answer(verdict, lambda _: print("the backends agree up to P5, and what fails beyond is not placed: its rung in "
                                        "the report says where"), as_json)
        return INCONCLUSIVE
    dataset = open_dataset(recipe)
    verdict["failed"] = {what: said for what, said in verdict.get("failed", {}).items() if what != "placing"}
    rooms = rooms_of(recipe.model, columns)
    with labelled(recipe.model, columns), open_workers(rooms=rooms, model=recipe.model) as workers:
        plant_in(workers.values(), planted(verdict.get("plant"), columns))
        place_cause(recipe, dataset, out, verdict, workers, judge(recipe, dataset, out))
    if verdict.get("arguments"):  # which place it now
        verdict |= reproducible(out, **verdict["arguments"] | {"place": True})
    verdict = write_result(ComparisonFiles(out).verdict, Verdict, verdict)
    write_report(verdict, out)
    answer(plain(verdict), show, as_json)
    if "placing" in verdict.get("failed", {}):
        return NO
    return DID_IT if verdict["cause"]["operation"] else INCONCLUSIVE


def judged(recipe: Recipe, dataset: Dataset, out: Path, workers: Mapping[str, Worker], operations: bool
           ) -> dict[str, Any]:
    """`judge`, of operations by themselves too, and where a flip may be all that failed, of steps from equal states;
    what fails of these is a line of the verdict. Where it agrees, what optimizers left is removed."""
    rows: Sequence[dict[str, Any]] = ()
    failed: dict[str, Any] = {}
    with fenced(failed, "operations"):
        rows = alone(recipe, workers, operations)
    verdict = judge(recipe, dataset, out, rows)
    with fenced(failed, "second look"):
        verdict = looked_twice(recipe, verdict, out, workers)
    with fenced(failed, "inside"):
        verdict = looked_inside(recipe, verdict, out, workers)
    if verdict["agrees"]:
        forget_optimizers(recipe, out)
    return verdict | failed


def alone(recipe: Recipe, workers: Mapping[str, Worker], asked: bool) -> Sequence[dict[str, Any]]:
    """The rows of both backends' operations by themselves, each with the "backend" that it is of and that one's
    "title" here, in bfloat16 even where nobody asked for them."""
    if not (asked or recipe.train.precision == "bfloat16"):
        return ()
    tell("both", "operations against wide references")
    some = {} if asked else {"dtypes": ["bfloat16"], "jit_compile": recipe.keras.jit_compile}
    if recipe.optimizer.name not in OPTIMIZERS.builtin:
        some["added"] = [recipe.optimizer.name]
    own = framework_of(recipe.model)  # of one framework they are the same on both sides
    found = each({"keras": workers["keras"]} if own else workers, lambda worker: worker.ask("operations", **some))
    return [row | {"backend": own or HERE[key], "title": USUAL[own] if own else LABELS[key]}
            for key, rows in found.items() for row in rows]


def place_cause(recipe: Recipe, dataset: Dataset, out: Path, verdict: dict[str, Any], workers: Mapping[str, Worker],
                found: dict[str, Any] | None = None) -> None:
    """Adds the first cause to a verdict, by its rungs or by those `found` anew; what fails is a line of the verdict."""
    tell("both", "looking for the first cause")
    with fenced(verdict, "placing"):
        verdict["cause"] = cause_inside(verdict, who(recipe.model)) or find_cause(
            recipe, dataset, out, found or verdict, workers)
        tell("both", verdict["cause"]["sentence"])


def find_cause(recipe: Recipe, dataset: Dataset, out: Path, verdict: dict[str, Any], workers: Mapping[str, Worker]
               ) -> dict[str, Any]:
    """The first cause of a disagreement, Keras' numbers fed to JAX: see `benchmarks.rungs.placing`."""
    looked = looked_at(recipe, verdict["rungs"])
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


def add_outcome(verdict: dict[str, Any], recipe: Recipe, workers: Mapping[str, Worker], out: Path, seeds: int) -> None:
    """Trains from more seeds and adds rung P7 to a verdict; the recipe's own seed was trained already."""
    rest = seeds_of(recipe, seeds)[1:]
    more = each(workers, lambda worker: collect_outcome(recipe, worker, out, rest))
    metrics = {b: {recipe.seed: verdict["held_out"][b], **more[b]} for b in ROOMS}
    rung = outcome_rung(metrics, margins_of(recipe))
    for line in outcome_lines(rung):
        tell("both", line)
    verdict["rungs"].append(rung)
    verdict["open"] = not rung["conclusive"]
    verdict["agrees"] = verdict["agrees"] and (rung["agrees"] or not rung["conclusive"])
    verdict["sentence"] += " " + "; ".join(outcome_lines(rung)) + "."


def add_swap(verdict: dict[str, Any], recipe: Recipe, dataset: Dataset, out: Path, workers: dict[str, Worker],
             mutants: Sequence[tuple[str, str]]) -> None:
    """Adds to a verdict what each program makes under the other's runtime; what fails is a line of it."""
    tell("both", "each program under the other's runtime")
    with fenced(verdict, "swap"):  # what is planted here may not be planted there
        verdict["swap"] = swap_table(recipe, dataset, out, workers, mutants)
        tell("both", verdict["swap"]["sentence"])


def train_meshes(verdict: dict[str, Any], recipe: Recipe, out: Path, mutants: Sequence[tuple[str, str]],
                 columns: ColumnPair, taken: Taken) -> None:
    """Trains each backend on meshes, but for what is `taken`, and adds rung P6 to a verdict; what fails is a line of
    it."""
    tell("both", "one device against several and against several hosts")
    with labelled(recipe.model, columns), fenced(verdict, "meshes"):
        add_meshes(verdict, *check_meshes(recipe, out, mutants, columns, taken))


def add_meshes(verdict: dict[str, Any], rung: Rung, meshes: dict[str, Any]) -> None:
    """Adds rung P6 to a verdict; where no mesh was trained, its answer is open."""
    verdict["meshes"] = meshes
    verdict["rungs"] = sorted([*verdict["rungs"], rung], key=lambda rung: rung["name"])
    verdict["open"] = verdict["open"] or rung.get("conclusive") is False
    if not rung["agrees"]:
        verdict["agrees"] = False
        verdict["sentence"] = verdict["sentence"].replace("every rung holds", "P0 to P5 hold")
    verdict["sentence"] += " " + mesh_sentence(rung, meshes)
    tell("both", mesh_sentence(rung, meshes))


def planted(plant: str | None, columns: ColumnPair = ()) -> list[tuple[str, str]]:
    """[(the key of a side, mutant)] of the hidden option, which means all columns of a program, with @RUNTIME the one
    on that runtime, and of @RUNTIME alone all that run on it. Raises BadInput for anything else than these, and where
    no side is such a column.
    """
    if plant is None:
        return []
    who, _, name = plant.partition(":")
    program, at, runtime = who.partition("@")
    found = [(key, name) for key, column in ids_of(columns).items()
             if program == COLUMNS[column].program or at and not program
             if not at or runtime == COLUMNS[column].runtime]
    if not found or not name:
        raise BadInput(f"--plant {plant}: expected BACKEND:MUTANT with a backend of {', '.join(ROOMS)}, or "
                       "BACKEND@RUNTIME:MUTANT of one of the columns that are compared, or @RUNTIME:MUTANT")
    return found


def require(model: Any = None, options: Mapping[str, bool] = MappingProxyType({}), columns: ColumnPair = ()) -> None:
    """Raises MissingEnvironment where one of the backends that a comparison of a model needs is not installed, BadInput
    for two programs of one framework where one of the `options` is given, which are about two."""
    for option in (option for option, given in options.items() if given):
        refuse_of_one(model, option, "it is about two frameworks")
    own = framework_of(model)
    needed = BACKENDS[own] if own else [module for column in ids_of(columns).values() for module in BACKENDS[column]]
    need(*needed, why="a comparison needs both backends")


def prepare(out: Path, recipe: Recipe, overwrite: bool, of: dict[str, Any] | None = None) -> None:
    """An output directory with nothing of ours but a marker of the recipe, and of what else it is `of`; an unfinished
    comparison of the same starts over.

    Raises BadInput where the directory holds anything that may not be removed.
    """
    identity = {"verb": "compare", "recipe": recipe.hash} | (of or {})
    unfinished = begun(out, KIND, identity) or same(out, KIND, identity) and is_pending(out)
    clear(out, KIND, identity, overwrite or unfinished)
    write_text(ComparisonFiles(out).recipe, dumps(recipe))


def looked_twice(recipe: Recipe, verdict: dict[str, Any], out: Path, workers: Mapping[str, Worker]) -> dict[str, Any]:
    """A verdict whose P2 and P5 are judged from equal states too, where a flip may be all that failed them."""
    if not may_be_flips(recipe, verdict):
        return verdict
    tell("both", "a unit may have flipped: steps from equal states")
    rungs = second_look(recipe, verdict, out, workers)
    return verdict | {"rungs": rungs, "agrees": all(rung["agrees"] for rung in rungs),
                      "sentence": sentence(rungs, recipe.train.precision, verdict["curves"])}
