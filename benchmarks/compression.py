"""Compresses a trained model stage by stage, in one backend or in both, and says what it has cost and whether the
backends agree on it.

Each stage of a comparison starts, in both backends, from what Keras has left of the stage before: one file. So what
differs is this stage's own doing, and masks can be asked for bit by bit.
"""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from twinscale.benchmarks import ladder
from twinscale.benchmarks.compare import KIND, prepare
from twinscale.benchmarks.comparison_files import COMPRESSION, ComparisonFiles
from twinscale.benchmarks.compression_files import add_files
from twinscale.benchmarks.compression_report import write_compression
from twinscale.benchmarks.flips import LOUD, flip_checks, shadowed, until_jump
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.outcome import equivalence
from twinscale.benchmarks.output import again, begun, made, nothing_left, tell
from twinscale.benchmarks.results import Compression
from twinscale.benchmarks.terminal import show
from twinscale.benchmarks.workers import ROOMS, each, open_workers, together
from twinscale.common.canonical import kept_of, model_of
from twinscale.common.compress import (
    active,
    alone_recipe,
    check_stages,
    dense_recipe,
    has_float64,
    mask_updates,
    resolved,
    stage_recipe,
    stripped,
    summary,
)
from twinscale.common.data import open_dataset
from twinscale.common.data.kept import check_same
from twinscale.common.errors import BadInput, need
from twinscale.common.export import EIGHT_BITS
from twinscale.common.families import reads_text
from twinscale.common.files import plain
from twinscale.common.formats import EPS, TINY
from twinscale.common.loop import twin_of
from twinscale.common.need import COMPRESSING
from twinscale.common.output import answer, check_verb, check_within, digest
from twinscale.common.recipe import positions
from twinscale.common.recipe_file import dumps
from twinscale.common.results import write_result
from twinscale.common.run import read_metrics, read_run, what_differs
from twinscale.common.run_files import RunFiles
from twinscale.common.stages import finish_stage
from twinscale.common.tensors import load_tensors, save_tensors

SCHEMA_VERSION = 1
LIMITS = ["one seed",
          "latencies are of LiteRT on this machine's CPU, measured in turns: compare them with each other, not with a "
          "phone's or an accelerator's",
          "a file's own metric is of 256 held-out rows at most, each row of text as one document",
          "in a comparison every stage starts, in both backends, from what Keras has left of the stage before"]


def compress(recipe, run, out, backend, *, overwrite=False, accept_data=False, as_json=False):
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
    rows = [row(backend, "dense", weights, info["final"])]
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


def compare_compression(recipe, out, *, overwrite=False, as_json=False):
    """`compared_stages`, which it shows or prints `as_json`; returns the exit code: 0 the backends agree on every mask,
    quantum and trajectory, 1 they do not, 3 it stays open."""
    return shown(compared_stages(recipe, out, overwrite=overwrite), as_json)


def compared_stages(recipe, out, *, overwrite=False):
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
            rows.append(row(backend, "dense", left, finals[backend]))
        for number, described, label in stages(recipe):
            left = left_path(out, "keras", before(recipe, number))
            make_start(workers["keras"], described, out, label, left)
            finals = each(workers, lambda worker: train(worker, described, out, label, twins=True))  # noqa: B023
            made = {b: finished(described, out, b, label, finals[b]) for b in ROOMS}
            found = judge_stage(described, out, label, workers)
            if has_float64(active(described)) and described.train.precision != "float64":
                found["rungs"].append(semantics(described, out, label, left, workers))
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


def ready(recipe, modules):
    """(the recipe with its teachers' models read, its dataset, its teachers by stage). Raises BadInput where a stage
    cannot do what it says, MissingEnvironment where a package is missing."""
    if not recipe.compress.stages:
        raise BadInput(f"recipe {recipe.name}: compress.stages is empty: there is nothing to do")
    need(*modules, why="this compression needs it")
    recipe, teachers = resolved(recipe, model_of)
    dataset = open_dataset(recipe)
    check_stages(recipe, dataset)
    return recipe, dataset, teachers


def prepare_stages(out, recipe, overwrite, teachers, of=None):
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


def ended(recipe, dataset, out, found):
    """Measures the files that ship, writes compression.json and the report, and returns the Compression."""
    add_files(recipe, out, found["rows"], lambda row: model_of_row(recipe, out, row))
    name = "loss" if reads_text(recipe.model) else "accuracy"
    for row in found["rows"]:
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


def shown(found, as_json):
    """Shows a Compression, or prints it `as_json`, and returns its exit code."""
    answer(plain(found), show, as_json)
    return found.exit_code


def backends(found):
    return list(dict.fromkeys(row["backend"] for row in found["rows"]))


def run_of(out, backend, found):
    """The run of a backend's last stage."""
    return run_path(out, backend, found["stages"][-1])


def model_of_row(recipe, out, row):
    """(the recipe of a row's model, the file of its tensors): of a stage that quantises its whole state."""
    for _, described, label in stages(recipe):
        if label == row["stage"] and active(described).kind in EIGHT_BITS:
            return described, RunFiles(run_path(out, row["backend"], label)).final
        if row["stage"] in (label, f"{label}-alone"):
            return dense_recipe(described), left_path(out, row["backend"], label)
    return dense_recipe(recipe), left_path(out, row["backend"], "dense")


# ---- stages

def stages(recipe):
    """(number, recipe, label) of each stage."""
    return [(n, stage_recipe(recipe, n), label_of(recipe, n)) for n in range(len(recipe.compress.stages))]


def label_of(recipe, number):
    """The name of a stage in paths and tables, "dense" before the first."""
    return f"{number + 1}-{recipe.compress.stages[number].kind}" if number >= 0 else "dense"


def before(recipe, number):
    return label_of(recipe, number - 1)


def make_start(worker, recipe, out, label, left):
    """Has a backend write what a stage starts from; its teacher is what the stage before has left, or a run."""
    teacher = getattr(active(recipe), "teacher", "")
    path = start_path(out, label)
    worker.ask("make_start", recipe, path=path, left=teacher_path(out, label) if teacher else left)


def train_dense(worker, recipe, out):
    """Has a backend train the dense model; returns its final metrics."""
    path = run_path(out, worker.backend, "dense")
    if is_finished(path):
        return read_run(path)["final"]
    return worker.ask("run_training", dense_recipe(recipe), run_dir=path, probe={"trace": "full", "log_every": 1},
                      progress=True)


def student_alone(worker, recipe, out, label):
    """Has a backend train a stage's student without its teacher too, from the same weights on the same batches;
    returns its row."""
    variant, alone = alone_recipe(recipe), f"{label}-alone"
    return finished(variant, out, worker.backend, alone, train(worker, variant, out, alone))


def train(worker, recipe, out, label, twins=False):
    """Has a backend train a stage, and its twin too; returns the final metrics. What is finished stays."""
    tell(worker.backend, f"{label}: {recipe.train.steps} steps")
    stage = active(recipe)
    traced = [update - 1 for update in mask_updates(stage)] if stage.kind == "prune" else []
    if stage.kind == "quantize" and twins and worker.backend == "keras":
        traced = sorted({n for step in shadowed(recipe.train.steps) for n in (step, step + 1)} - {recipe.train.steps})
    for twin in (False, True) if twins else (False,):
        path = run_path(out, worker.backend, label, twin)
        apart = twin_of(recipe) if twin else {}
        if not is_finished(path):
            worker.ask("train_stage", recipe, run_dir=path, start=start_path(out, label), progress=True, probe={
                "trace": "full", "traced": traced, "log_every": 1, "saved": not twin, "evaluated": not twin, **apart})
    return read_run(run_path(out, worker.backend, label))["final"]


def is_finished(path):
    """Whether a run is there and done."""
    return RunFiles(path).info.exists() and read_run(path)["state"] == "finished"


def finished(recipe, out, backend, label, metrics):
    """Writes the model that a stage has left, and returns its row."""
    left = left_path(out, backend, label)
    found = finish_stage(recipe, start_path(out, label), RunFiles(run_path(out, backend, label)).final, left)
    return row(backend, label, load_tensors(left), metrics) | {"verified": found["verified"]}


def row(backend, stage, left, metrics):
    """A line of the table, before its files are known."""
    return {"backend": backend, "stage": stage, "metrics": metrics, **summary(left), "verified": [], "files": [],
            "mask_agreement": None, "quanta_differing": None, "quanta": None, "paired": None}


# ---- parity

def judge_stage(recipe, out, label, workers):
    """{"rungs", "columns"} of a stage that both backends have trained."""
    stage = active(recipe)
    states = {b: load_tensors(RunFiles(run_path(out, b, label)).final) for b in ROOMS}
    rungs = [contract_rung(label, states)]
    columns = {}
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


def contract_rung(label, states):
    """Equal names and shapes of everything that both states hold."""
    one, other = ({name: x.shape for name, x in states[b].items()} for b in ROOMS)
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    check = ladder.check(f"{len(one)} names and shapes", len(differing), 0,
                         ", ".join(differing[:3]) or "nothing differs", "the number that differ")
    return ladder.rung(f"{label} contract", "contract", "the same is pruned, quantised, clustered and trained", [check])


def masks_rung(recipe, out, label, states, workers):
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
            worst = max(wrong, key=wrong.get)
            total = sum(mask.size for mask in made.values())
            checks.append(ladder.check(f"{len(made)} masks of {owner}'s run, made by {other} from its weights",
                                       sum(wrong.values()), 0, f"{worst} at update {update}, {total:,} entries",
                                       "bitwise: the number of entries that differ"))
    names = [name for name in states["keras"] if name.endswith("_mask")]
    equal = sum(int((states["keras"][name] == states["jax"][name]).sum()) for name in names)
    return (ladder.rung(f"{label} masks", "masks", "equal weights are masked alike at every update", checks),
            equal / sum(states["keras"][name].size for name in names))


def quanta_rung(recipe, out, label, workers):
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


def trajectory_rung(recipe, out, label, workers):
    """The stage's losses, step by step, against the twins' envelope: as P5 of the ladder. Of a quantised model, every
    step is judged from Keras' state too, and the free runs up to where they jump apart: see `benchmarks.flips`."""
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


def shadows(recipe, out, label, workers):
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


def semantics(recipe, out, label, left, workers):
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


def losses_of(recipe, out, label):
    """{run: {"loss": float64 (steps,)}} of both backends and their twins, and "positions", which a loss is the mean
    of."""
    runs = {"positions": positions(recipe)}
    for backend in ROOMS:
        for twin in (False, True):
            lines = read_metrics(run_path(out, backend, label, twin))
            losses = [line["train/loss"] for line in lines if "train/loss" in line]
            runs[f"{backend}-twin" if twin else backend] = {"loss": np.array(losses, np.float64)}
    return runs


def paired_rung(recipe, out, label, workers):
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


def sentence(found):
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


def students(found):
    """What a teacher was worth to each student, in words."""
    at, told = {(row["backend"], row["stage"]): row for row in found["rows"]}, []
    for (backend, stage), row in at.items():
        if alone := at.get((backend, f"{stage}-alone")):
            told.append(f"with its teacher the student of {stage} ends at a held-out loss of "
                        f"{row['metrics']['loss']:.4g} in {backend}, alone at {alone['metrics']['loss']:.4g}")
    return told


# ---- paths

def run_path(out, backend, label, twin=False):
    return ComparisonFiles(out).stage(backend, label, twin)


def start_path(out, label):
    return ComparisonFiles(out).start(label.removesuffix("-alone"))


def left_path(out, backend, label):
    return ComparisonFiles(out).left(backend, label)


def teacher_path(out, label):
    return ComparisonFiles(out).teacher(label)
