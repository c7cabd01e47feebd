"""Compresses a trained model stage by stage, in one backend or in both, and says what it has cost and whether the
backends agree on it.

Each stage of a comparison starts, in both backends, from what Keras has left of the stage before: one file. So what
differs is this stage's own doing, and masks can be asked for bit by bit.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.compare import KIND, prepare
from twinscale.benchmarks.comparison_files import COMPRESSION, ComparisonFiles
from twinscale.benchmarks.compression.files import add_files
from twinscale.benchmarks.compression.parity import judge_stage, semantics
from twinscale.benchmarks.compression.report import write_compression
from twinscale.benchmarks.compression.stages import (
    before,
    finished,
    label_of,
    left_path,
    make_start,
    row_of,
    run_path,
    stages,
    student_alone,
    teacher_path,
    train,
    train_dense,
)
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import again, begun, made, nothing_left, tell
from twinscale.benchmarks.report.terminal import show
from twinscale.benchmarks.results import Compression
from twinscale.benchmarks.workers import ROOMS, each, open_workers, together
from twinscale.common.compress.check import check_stages, has_float64
from twinscale.common.compress.recipes import active, dense_recipe, resolved
from twinscale.common.compress.rules import stripped
from twinscale.common.data import Dataset, open_dataset
from twinscale.common.data.kept import check_same
from twinscale.common.errors import BadInput, need
from twinscale.common.export.write import EIGHT_BITS
from twinscale.common.families import reads_text
from twinscale.common.files.access import plain
from twinscale.common.files.output import answer, check_verb, check_within, digest
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.need import COMPRESSING
from twinscale.common.recipe.file import dumps
from twinscale.common.training.canonical import kept_of, model_of
from twinscale.common.training.run import read_run, what_differs

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

SCHEMA_VERSION = 1
LIMITS = ["one seed",
          "latencies are of LiteRT on this machine's CPU, measured in turns: compare them with each other, not with a "
          "phone's or an accelerator's",
          "a file's own metric is of 256 held-out rows at most, each row of text as one document",
          "in a comparison every stage starts, in both backends, from what Keras has left of the stage before"]


def compress(recipe: "Recipe", run: Path, out: Path, backend: str, *, overwrite: bool = False,
             accept_data: bool = False, as_json: bool = False) -> int:
    """Compresses the model of a run stage by stage with one backend; writes compression.json and a report into `out`
    and returns the exit code. A compression of the same recipe that was cut short goes on.

    Args:
      recipe: the recipe with stages.
      run: the directory of the trained run, of either backend.
      out: the directory.
      backend: "keras" or "jax".
      overwrite: remove what an earlier compression left in `out`.
      accept_data: compress on documents that are no longer what the run was trained on.
      as_json: print what compression.json holds in place of the table.
    Raises: BadInput before anything is compiled or written.
    """
    info = read_run(run)
    if info["state"] != "finished":
        raise BadInput(f"run {run}: is {info['state']}, and only a finished one is compressed; train it to its end")
    check_verb(out, KIND, "compress")  # before seconds go into reading the run
    recipe, dataset, teachers = ready(recipe, COMPRESSING[backend])
    if kept := kept_of(run):
        check_same(kept, dataset, accept_data)
    trained, weights = model_of(run)
    if (trained.model, trained.data) != (recipe.model, recipe.data):
        raise BadInput(f"run {run}: of another model or data than the recipe to compress it by "
                       f"({what_differs(run, recipe)}); take its own recipe with [compress]")
    rows = [row_of(backend, "dense", weights, info["final"])]
    with ExitStack() as stack:
        with nothing_left(out):
            prepare_stages(out, recipe, overwrite, teachers,
                           {"verb": "compress", "backend": backend, "model": digest(weights),
                            **({"data": dataset.manifest["sha256"]} if accept_data else {})})
            save_tensors(left_path(out, backend, "dense"), weights)
            workers = stack.enter_context(open_workers(rooms={backend: ROOMS[backend]}))
        worker = workers[backend]
        for number, described, label in stages(recipe):
            make_start(worker, described, out, label, left_path(out, backend, before(recipe, number)))
            final = train(worker, described, out, label)
            rows.append(finished(described, out, backend, label, final))
            if active(described).kind == "distil":
                rows.append(student_alone(worker, described, out, label))
    return shown(ended(recipe, dataset, out, {"rows": rows, "rungs": [], "agrees": None, "commands": again(
        "compress", str(run), "--recipe", str(ComparisonFiles(out).recipe), "--backend", backend,
        *(["--accept-data"] if accept_data else []), out=out)}), as_json)


def compare_compression(recipe: "Recipe", out: Path, *, overwrite: bool = False, as_json: bool = False) -> int:
    """`compared_stages`, which it shows or prints `as_json`; returns the exit code: 0 the backends agree on every mask,
    quantum and trajectory, 1 they do not, 3 it stays open."""
    return shown(compared_stages(recipe, out, overwrite=overwrite), as_json)


def compared_stages(recipe: "Recipe", out: Path, *, overwrite: bool = False) -> Compression:
    """Trains a recipe and its stages with both backends; writes compression.json and a report into `out` and returns
    the Compression.

    Raises: BadInput before anything is compiled or written.
    """
    recipe, dataset, teachers = ready(recipe, (*COMPRESSING["keras"], *COMPRESSING["jax"]))
    rows, rungs = [], []
    with ExitStack() as stack:
        with nothing_left(out):
            prepare_stages(out, recipe, overwrite, teachers)
            workers = stack.enter_context(open_workers())
            tell("both", f"dense: {recipe.train.steps} steps of training")
            finals = each(workers, together(workers, lambda worker: train_dense(worker, recipe, out)))
        for backend in ROOMS:
            left = stripped(dense_recipe(recipe), load_tensors(RunFiles(run_path(out, backend, "dense")).final))
            save_tensors(left_path(out, backend, "dense"), left)
            rows.append(row_of(backend, "dense", left, finals[backend]))
        for number, described, label in stages(recipe):
            begun = left_path(out, "keras", before(recipe, number))
            make_start(workers["keras"], described, out, label, begun)
            finals = each(workers, lambda worker: train(worker, described, out, label, twins=True))  # noqa: B023
            made = {b: finished(described, out, b, label, finals[b]) for b in ROOMS}
            found = judge_stage(described, out, label, workers)
            if has_float64(active(described)) and described.train.precision != "float64":
                found["rungs"].append(semantics(described, out, label, begun, workers))
            rows += [made[backend] | found["columns"] for backend in ROOMS]
            if active(described).kind == "distil":
                alone = each(workers, lambda worker: student_alone(worker, described, out, label))  # noqa: B023
                rows += alone.values()
            rungs += found["rungs"]
            for rung in found["rungs"]:
                tell("both", f"{rung['name']} {'holds' if rung['agrees'] else 'FAILS'}: {rung['where']}, "
                             f"{sig(rung['worst'])} of {sig(rung['bound'])}")
    return ended(recipe, dataset, out, {"rows": rows, "rungs": rungs, "agrees": all(r["agrees"] for r in rungs),
                                        "commands": again("compare", str(ComparisonFiles(out).recipe), out=out)})


def ready(recipe: "Recipe", modules: Sequence[str]) -> "tuple[Recipe, Dataset, dict[int, Any]]":
    """(the recipe with its teachers' models read, its dataset, its teachers by stage). Raises BadInput where a stage
    cannot do what it says, MissingEnvironment where a package is missing."""
    if not recipe.compress.stages:
        raise BadInput(f"recipe {recipe.name}: compress.stages is empty: there is nothing to do")
    need(*modules, why="this compression needs it")
    recipe, teachers = resolved(recipe, model_of)
    dataset = open_dataset(recipe)
    check_stages(recipe, dataset)
    return recipe, dataset, teachers


def prepare_stages(out: Path, recipe: "Recipe", overwrite: bool, teachers: Mapping[int, Any],
                   of: Mapping[str, Any] | None = None) -> None:
    """An output directory of this recipe and what else it is `of`, where what an earlier start has finished stays; with
    the teachers in it. Raises BadInput where it is of something else."""
    of = {"verb": "compare-stages", "recipe": recipe.hash, **(of or {}),
          "teachers": {str(number): digest(tensors) for number, tensors in teachers.items()}}
    if begun(out, replace(KIND, finished=COMPRESSION), of) and not overwrite:
        check_within(out, KIND.holds)
    else:
        prepare(out, recipe, overwrite, of)
    for number, tensors in teachers.items():
        save_tensors(teacher_path(out, label_of(recipe, number)), tensors)


def ended(recipe: "Recipe", dataset: Dataset, out: Path, found: dict[str, Any]) -> Compression:
    """Measures the files that ship, writes compression.json and the report, and returns the Compression."""
    add_files(recipe, out, found["rows"], lambda row: model_of_row(recipe, out, row))
    for row in found["rows"]:
        name = "accuracy" if "accuracy" in row["metrics"] and not reads_text(recipe.model) else "loss"
        row |= {"metric": row["metrics"][name], "metric_name": name}
    found |= {"schema_version": SCHEMA_VERSION, "recipe": {"name": recipe.name, "hash": recipe.hash,
                                                           "toml": dumps(recipe)},
              "stages": [label for _, _, label in stages(recipe)], "data": dataset.manifest}
    found |= {"limits": LIMITS, "versions": {b: read_run(run_of(out, b, found))["versions"] for b in backends(found)},
              "devices": {b: read_run(run_of(out, b, found))["devices"] for b in backends(found)}}
    found |= {"sentence": sentence(found), "made": made()}
    written = write_result(ComparisonFiles(out).compression, Compression, found)
    write_compression(found, out)
    return written


def shown(found: Compression, as_json: bool) -> int:
    """Shows a Compression, or prints it `as_json`, and returns its exit code."""
    answer(plain(found), show, as_json)
    return found.exit_code


def backends(found: Mapping[str, Any]) -> list[str]:
    """The backends of the rows, in order."""
    return list(dict.fromkeys(row["backend"] for row in found["rows"]))


def run_of(out: Path, backend: str, found: Mapping[str, Any]) -> Path:
    """The run of a backend's last stage."""
    return run_path(out, backend, found["stages"][-1])


def model_of_row(recipe: "Recipe", out: Path, row: Mapping[str, Any]) -> "tuple[Recipe, Path]":
    """(the recipe of a row's model, the file of its tensors): of a stage that quantises its whole state."""
    for _, described, label in stages(recipe):
        if label == row["stage"] and active(described).kind in EIGHT_BITS:
            return described, RunFiles(run_path(out, row["backend"], label)).final
        if row["stage"] in (label, f"{label}-alone"):
            return dense_recipe(described), left_path(out, row["backend"], label)
    return dense_recipe(recipe), left_path(out, row["backend"], "dense")


def sentence(found: Mapping[str, Any]) -> str:
    """The result in words."""
    if found["agrees"] is None:
        first, last = found["rows"][0], found["rows"][-1]
        ships = (f", in a file of {last['bytes']:,} bytes against {first['bytes']:,}" if last.get("bytes") else "")
        return (f"{', '.join(found['stages'])}: {last['metric_name']} {last['metric']:.4g} against "
                f"{first['metric']:.4g} of the dense model, {100 * last['kept']:.3g} % of its weights "
                f"kept{ships}{''.join(f'; {told}' for told in students(found))}.")
    failed = [rung for rung in found["rungs"] if not rung["agrees"]]
    if failed:
        return (f"Keras and JAX do not compress alike: {failed[0]['name']} parts at {failed[0]['where']}, "
                f"{sig(failed[0]['worst'])} against a bound of {sig(failed[0]['bound'])}.")
    said = []
    masks = [rung for rung in found["rungs"] if rung["title"] == "masks"]
    if masks:
        said.append(f"{sum(len(rung['checks']) for rung in masks)} sets of masks are bitwise equal from equal weights")
    quanta = [r["quanta"] for r in found["rows"] if r["quanta"] and r["backend"] == "jax"]
    said += [f"{q['differing']:,} of {q['total']:,} quantised values differ, none by more than one quantum"
             for q in quanta]
    told = "; ".join([*said, *students(found), "every rung holds"])
    return f"Keras and JAX compress alike in {len(found['stages'])} stages: {told}."


def students(found: Mapping[str, Any]) -> list[str]:
    """What a teacher was worth to each student, in words."""
    at, told = {(row["backend"], row["stage"]): row for row in found["rows"]}, []
    for (backend, stage), row in at.items():
        if alone := at.get((backend, f"{stage}-alone")):
            told.append(f"with its teacher the student of {stage} ends at a held-out loss of "
                        f"{row['metrics']['loss']:.4g} in {backend}, alone at {alone['metrics']['loss']:.4g}")
    return told
