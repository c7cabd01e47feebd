"""P6, sharding: each backend against itself, one device against meshes of several devices and hosts.

All train the same first steps from the same state; a mesh is judged as P5 judges a backend, by the envelope of one
device's twin, and its states as `benchmarks/runs.py` judges those of two runs. The devices are virtual: parts of one
CPU, so that what they compute is that of a real mesh, and how fast says nothing.
"""

import glob
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from twinscale.benchmarks.comparison_files import ComparisonFiles, MeshFiles
from twinscale.benchmarks.meshes_fit import VIRTUAL, Mesh, base_of, bases_of, meshes_of, on_mesh
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import tell
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.runs import full, state_checks
from twinscale.benchmarks.sides import HERE, LABELS, ColumnPair, rooms_of, runtime_of, spoken
from twinscale.benchmarks.verdict import AGAIN, Check, Rung, read_digests
from twinscale.benchmarks.workers import CPU, ROOMS, Worker, each, open_workers
from twinscale.common.data import open_dataset, training_batches
from twinscale.common.errors import MISSING, BadInput, MissingEnvironment, TwinscaleError
from twinscale.common.families import reads_text, traits_of
from twinscale.common.files.access import read_json, write_text
from twinscale.common.files.results import Result, write_result
from twinscale.common.files.run_files import INFO, RunFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.launch.local import free_ports, run_local
from twinscale.common.launch.plan import GRACE, plan
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import AXES, Recipe, in_sharpest, positions
from twinscale.common.training.loop import twin_of
from twinscale.common.training.run import RunInfo, read_run
from twinscale.common.training.run_metrics import read_metrics

STEPS = 20  # of each training, at most
SHARES = ("replica", "data", "fsdp")  # axes whose devices hold rows of their own
# Virtual devices are the CPU's, also where there is an accelerator. They wait for each other, and for their turn on it.
ENVIRONMENT = {**CPU, "XLA_FLAGS": "--xla_cpu_collective_call_terminate_timeout_seconds=600"}
PATIENCE = 600.0  # seconds for a first step, after which hosts that have not met give up


class MeshSide(Result):
    """What was found of a side's meshes: a row of each, as `judge` has them, and all checks."""

    rows: list[dict[str, Any]]
    checks: list[Check]


def check_meshes(recipe: Recipe, out: Path, planted: Sequence[tuple[str, str]] = (), pair: ColumnPair = (),
                 taken: Mapping[str, tuple[Path, str]] = MappingProxyType({})) -> tuple[Rung, dict[str, Any]]:
    """Trains a recipe on meshes, in out/meshes, and returns (rung P6, what a verdict's "meshes" holds).

    Args:
      recipe: the validated recipe; its own section `devices` is not used.
      planted: [(backend, change)] to plant in the processes of several devices.
      pair: the columns, where they are not the usual ones; `labelled` knows of them.
      taken: {key of a side: (directory, key)} of sides whose meshes another comparison has trained already.
    """
    where = ComparisonFiles(out).meshes
    recipe = prepared(recipe, where)
    found = {key: take_meshes(ComparisonFiles(path).meshes, other, where, key) for key, (path, other) in taken.items()}
    found = {key: side for key, side in found.items() if side}
    missing = train_all(recipe, where, {key: room for key, room in rooms_of(recipe.model, pair).items()
                                        if key not in found}, planted)
    for key, why in missing.items():
        found[key] = write_result(MeshFiles(where).found(key), MeshSide, judge_side(recipe, where, key, why))
    rung, meshes = judge(recipe, {key: found[key] for key in ROOMS})
    for path in (where / row["run"] for row in meshes["rows"] if row["agrees"]):
        for states in (RunFiles(path).trace, RunFiles(path).checkpoints):  # nobody has a question to what fills disks
            shutil.rmtree(states, ignore_errors=True)
    return rung, meshes


def take_meshes(where: Path, other: str, out: Path, key: str) -> MeshSide | None:
    """What the same trainer has left of the same recipe's meshes in `where` under the key `other`, copied to `out` as
    a side's; None where it has left nothing that was judged."""
    if not MeshFiles(where).found(other).is_file():
        return None
    tell(spoken(key), f"the meshes that it has trained in {where.parent.name}")
    out.mkdir(parents=True, exist_ok=True)
    for path in where.glob(f"{other}[-.]*"):
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, out / f"{key}{path.name.removeprefix(other)}")
    side = read_json(MeshFiles(where).found(other), MeshSide, AGAIN)
    rows = [row | {"backend": key, "run": f"{key}{row['run'].removeprefix(other)}"} for row in side.rows]
    return write_result(MeshFiles(out).found(key), MeshSide, {"rows": rows, "checks": side.checks})


# ---- what is trained

def prepared(recipe: Recipe, out: Path, virtual: int = VIRTUAL) -> Recipe:
    """The recipe whose first steps every mesh trains. Text is that of short documents, left in `out`: their ends mask
    a row here and another there, so that rows differ in weight, as they would not in long ones. What jumps is trained
    in the sharpest precision."""
    if reads_text(recipe.model):
        path = MeshFiles(out).documents
        write_text(path, "".join(json.dumps({"text": text}) + "\n" for text in short_documents(recipe)))
        recipe = recipe.with_values(data={"source": f"jsonl:{glob.escape(str(path.resolve()))}", "field": "text",
                                          "held_out": 0.2, "max_documents": 0})
    if jumps(recipe):
        recipe = recipe.with_values(train={"precision": in_sharpest(recipe).train.precision})
    quiet = {"eval_every": 0, "stop_after": 0, "save_every": 0, "save_minutes": 0.0, "keep_best": 0}
    alone = dict.fromkeys(AXES, 1) | {"strategy": "auto", "hosts": 1, "virtual": virtual, "compile_deadline": PATIENCE}
    return recipe.with_values(train=quiet, devices=alone)


def short_documents(recipe: Recipe) -> list[str]:
    """Texts of a letter up to some rows, as many as the steps need, half of them shorter than 8 letters."""
    rng, longest = np.random.default_rng(recipe.seed), 8 * recipe.data.sequence
    wanted, letters, texts = 2 * steps_of(recipe) * positions(recipe), 0, []
    while letters < wanted or len(texts) < 256:
        length = int(np.exp(rng.uniform(0, np.log(8 if rng.random() < 0.5 else longest))))
        texts.append("".join(rng.choice(list("etaoinsr \n"), length)))
        letters += length + 1
    return ["".join(rng.choice(list("etaoinsr \n"), longest)) for _ in range(8)] + texts


def steps_of(recipe: Recipe) -> int:
    """Updates that every mesh trains."""
    return min(STEPS, recipe.train.steps)


def jumps(recipe: Recipe) -> bool:
    """Whether rounding can turn a unit on or off, and a gradient with it: no twin measures by how much, as it may turn
    others. In float64 hardly any input of a ReLU is that close to zero. Of a foreign program nobody knows."""
    traits = traits_of(recipe.model)
    return traits.activation == "relu" or traits.foreign


def run_path(out: Path, backend: str, mesh: Mesh, twin: bool = False) -> Path:
    """The directory of the run on a mesh."""
    return MeshFiles(out).run(backend, mesh.name, twin)


def train_all(recipe: Recipe, out: Path, rooms: Mapping[str, str], planted: Sequence[tuple[str, str]]
              ) -> dict[str, dict[str, str]]:
    """Has each side, {key: the module that runs it}, train on all meshes; returns {key: {name of a mesh: why it was not
    trained}}."""
    if not rooms:
        return {}
    with open_workers(ENVIRONMENT, rooms) as workers:
        for backend, change in planted:
            if backend in workers:
                workers[backend].ask("plant", change=change)
        missing = each(workers, lambda worker: train_devices(recipe, worker, out))
    for backend in missing:
        missing[backend] |= train_hosts(recipe, backend, out, dict(planted).get(backend))
    return missing


def train_devices(recipe: Recipe, worker: Worker, out: Path) -> dict[str, str]:
    """Has a backend's process train on one device, its twin, and on every mesh of one host; returns {name of a mesh:
    what the environment lacks for it}."""
    own = runtime_of(worker.backend)

    def train(mesh, twin=False):
        tell(spoken(worker.backend), f"{mesh.name}{', the twin' * twin}: {steps_of(recipe)} steps")
        probe = {"trace": "full", "traced": [1], "log_every": 1, "stop": steps_of(recipe), "evaluated": False,
                 "saved": False, **(twin_of(recipe) if twin else {})}
        worker.ask("run_training", on_mesh(recipe, own, mesh),
                   run_dir=run_path(out, worker.backend, mesh, twin), probe=probe, progress=False)

    for mesh in bases_of(recipe, own):
        train(mesh)
        train(mesh, twin=True)
    missing = {}
    for mesh, why in meshes_of(recipe, own):
        if why or mesh.hosts > 1:
            continue
        try:
            train(mesh)
        except MissingEnvironment as error:
            missing[mesh.name] = str(error)
        except TwinscaleError as error:  # what the run has left says so too, unless its process has died
            tell(spoken(worker.backend), f"{mesh.name}: {error}")
            if getattr(worker, "process", None) and worker.process.poll() is not None:
                raise
    return missing


def train_hosts(recipe: Recipe, backend: str, out: Path, planted: str | None = None) -> dict[str, str]:
    """Trains on every mesh of several hosts, each a process of its own that talks to the others over loopback; returns
    {name of a mesh: why it was not trained}. Call it from the main thread, which hears signals."""
    missing, own = {}, runtime_of(backend)
    for mesh, why in meshes_of(recipe, own):
        if why or mesh.hosts == 1:
            continue
        if planted:
            missing[mesh.name] = f"`{planted}` is planted in the processes of one host alone"
            continue
        tell(spoken(backend), f"{mesh.name}: {steps_of(recipe)} steps")
        path = run_path(out, backend, mesh)
        file = MeshFiles(out).recipe(backend, mesh.name)
        write_text(file, dumps(on_mesh(recipe, own, mesh)))
        lines = []
        made = plan(str(file.resolve()), backend=HERE[backend], run=str(path.resolve()), target="local",
                    hosts=mesh.hosts, ports=free_ports(mesh.hosts))
        words = ["--trace", "full", "--trace-every", str(recipe.train.steps), "--twin-steps", "1", "--stop",
                 str(steps_of(recipe))]
        code = run_local([[*command, *words] for command in made.commands],
                         [ENVIRONMENT | environment for environment in made.environments], GRACE["local"], lines.append)
        write_text(MeshFiles(out).log(backend, mesh.name), "\n".join(lines) + "\n")
        if any("passed on to" in line for line in lines):
            raise KeyboardInterrupt
        if code:
            said = next((line for line in reversed(lines) if "] twinscale: " in line), f"exit code {code}")
            tell(spoken(backend), f"{mesh.name}: {said}; all that was said is in {file.with_suffix('.log')}")
        if code == MISSING:
            missing[mesh.name] = said.partition("] twinscale: ")[2] or said
    return missing


# ---- how it is judged

def judge(recipe: Recipe, sides: Mapping[str, MeshSide]) -> tuple[Rung, dict[str, Any]]:
    """(rung P6, {"steps", "precision", "jumps", "made", "uneven_steps", "rows"}) from what was found of each side:
    whether the precision is float64 since the model `jumps`, whether the text was made for this, and in how many steps
    rows differ in weight.

    A row has backend, mesh, hosts, devices, accumulate, "run" (its directory in `out`), "agrees" (None: not trained,
    "why"), and of what was trained "steps" that were judged, the loss and the state nearest to their bounds as
    loss_worst, loss_bound, loss_bound_from, state_worst, state_bound, state_bound_from, where, "weights_apart" (the
    largest relative difference in weight between the shares of an update), step_ms and, of several hosts, hosts_agree.
    """
    weights = row_weights(recipe)
    rows, checks = ([one for side in sides.values() for one in side[kind]] for kind in ("rows", "checks"))
    checks = [check | {key: math.inf for key in ("worst", "bound") if check[key] is None} for check in checks]
    nothing = [ladder.check("meshes", 0, 0, "none was trained", "none")]
    rung = ladder.rung("P6", "sharding", f"one device against several and against several hosts, each backend: no more "
                       f"than {recipe.train.precision} rounding over {steps_of(recipe)} steps", checks or nothing)
    if not checks:
        rung |= {"conclusive": False}
    uneven = sum(len(set(np.round(step, 6))) > 1 for step in weights)
    return rung, {"steps": steps_of(recipe), "precision": recipe.train.precision, "jumps": jumps(recipe),
                  "uneven_steps": uneven, "made": reads_text(recipe.model), "rows": rows}


def judge_side(recipe: Recipe, out: Path, backend: str, missing: Mapping[str, str]) -> MeshSide:
    """What is found of what a side's trainings left in `out`, or why a mesh was not trained: {name of a mesh: why}."""
    rows, checks, weights = [], [], row_weights(recipe)
    bases = {base.name: [read(recipe, run_path(out, backend, base, twin)) for twin in (False, True)]
             for base in bases_of(recipe, runtime_of(backend))}
    for mesh, why in meshes_of(recipe, runtime_of(backend)):
        row: dict[str, Any] = {"backend": backend, "mesh": mesh.name, "hosts": mesh.hosts, "devices": mesh.size,
               "accumulate": mesh.accumulate or recipe.train.accumulate, "agrees": None,
               "run": run_path(out, backend, mesh).name}
        why = why or missing.get(mesh.name)
        if why:
            rows.append(row | {"why": why})
            continue
        found, more = judge_mesh(recipe, bases[base_of(recipe, mesh).name], run_path(out, backend, mesh), mesh)
        rows.append(row | more | {"agrees": all(check["agrees"] for check in found),
                                  "weights_apart": weights_apart(weights, mesh, row["accumulate"])})
        checks += [check | {"what": f"{LABELS[backend]}, {mesh.name}: {check['what']}"} for check in found]
    return MeshSide(rows=rows, checks=checks)


def judge_mesh(recipe: Recipe, pair: Sequence[Mapping[str, Any]], path: Path, mesh: Mesh
               ) -> tuple[list[Check], dict[str, Any]]:
    """(checks of a mesh's run against a pair of a run and its twin on one device, what a row says of them)."""
    base, twin = pair
    try:
        run = read(recipe, path)
    except (OSError, BadInput, KeyError) as error:
        why = str(error)
        with suppress(BadInput, KeyError):
            why = read_run(path, RunInfo)["error"]
        return [ladder.check("ended", 1, 0, why, "every mesh is to train to its last step")], {"why": why}
    steps, precision = steps_of(recipe), recipe.train.precision
    losses = {"a": base, "a-twin": twin, "b": run, "positions": positions(recipe)}
    curve = ladder.loss_curve(losses, precision, 4, ("a", "b"))
    loss = ladder.loss_check(precision, curve)
    end = steps if curve["horizon"] is None else max(1, curve["horizon"])
    # Past the horizon rounding alone drives states apart.
    step, states = (steps if end == steps else 1), []
    if step < end or end == steps:
        three = {side: load_tensors(run["states"][step]) for side, run in (("a", base), ("a-twin", twin), ("b", run))}
        states, _ = state_checks(step, precision, three, full)
    exact = [ladder.check("devices", abs(len(run["info"]["devices"]) - mesh.size), 0, INFO,
                          "the mesh's own size")]
    if mesh.hosts == 1:  # else each host hashes its own rows
        differ = sum(one != other for one, other in zip(base["batches"], run["batches"], strict=True))
        exact.append(ladder.check("batches that differ", differ, 0, "their hashes", "bitwise"))
    elif run["info"].get("hosts_agree") is not None:
        differ = float(not run["info"]["hosts_agree"])
        exact.append(ladder.check("hosts that saw other losses", differ, 0, INFO, "bitwise"))
    row = {"steps": end, "loss_worst": loss["worst"], "loss_bound": loss["bound"],
           "loss_bound_from": loss["bound_from"], "step_ms": run["info"]["performance"]["step_ms_median"],
           "hosts_agree": run["info"].get("hosts_agree")}
    if states:
        worst = max(states, key=lambda check: check["worst"] / max(check["bound"], ladder.TINY))
        row |= {"state_worst": worst["worst"], "state_bound": worst["bound"], "state_bound_from": worst["bound_from"],
                "where": f"{worst['where']}, {worst['what']}"}
    wrong = ", ".join(f"{check['what']}: {check['worst']:g}" for check in exact if not check["agrees"])
    return [loss, *states, *exact], row | ({"why": wrong} if wrong else {})


def read(recipe: Recipe, path: Path) -> dict[str, Any]:
    """What a training left: {"info", "loss": float64 (steps,), "states": {updates done: file}, "batches"}.

    Raises: BadInput, KeyError or OSError where it has not come to its end.
    """
    info, steps = read_run(path, RunInfo), steps_of(recipe)
    if info["state"] not in ("finished", "stopped"):
        raise BadInput(f"run {path}: is {info['state']}, not finished")
    losses = {line["step"]: line["train/loss"] for line in read_metrics(path) if "train/loss" in line}
    states = {1: RunFiles(path).step(1), steps: RunFiles(path).final}
    return {"info": info, "loss": np.array([losses[step] for step in range(steps)], np.float64), "states": states,
            "batches": read_digests(path)}


def mesh_sentence(rung: Rung, meshes: Mapping[str, Any]) -> str:
    """What a verdict says of its meshes in a sentence."""
    trained = [row for row in meshes["rows"] if row["agrees"] is not None]
    skipped = len(meshes["rows"]) - len(trained)
    failed = [f"{LABELS[row['backend']]} on {row['mesh']}" for row in trained if not row["agrees"]]
    if failed:
        named = ", ".join(failed[:3]) + f" and {len(failed) - 3} more" * (len(failed) > 3)
        return (f"{len(failed)} of {len(trained)} meshes do not train as one device does ({named}): {rung['where']}, "
                f"{sig(rung['worst'])} against a bound of {sig(rung['bound'])}.")
    if not trained:
        return "No mesh was trained."
    devices, hosts = (max(row[key] for row in trained) for key in ("devices", "hosts"))
    more = f"; {skipped} more were not trained" * bool(skipped)
    return (f"Each backend trains as on one device over {len(trained)} meshes, of {devices} devices and {hosts} hosts "
            f"at most{more}.")


# ---- masks

def row_weights(recipe: Recipe) -> np.ndarray:
    """The weight of each row of the steps' batches: float64 (steps, rows)."""
    batches = training_batches(open_dataset(recipe), recipe, 0, steps_of(recipe))
    return np.stack([batch["weights"].reshape(len(batch["row"]), -1).sum(1, np.float64) for _, batch, _ in batches])


def weights_apart(weights: np.ndarray, mesh: Mesh, accumulate: int) -> float | None:
    """The largest relative difference in weight between two shares of an update, a share being what one device, or
    those that share rows, holds of one micro-batch. None where there is one share."""
    shares = math.prod(mesh.axes.get(axis, 1) for axis in SHARES)
    if shares * accumulate == 1:
        return None
    local = max(1, shares // mesh.hosts)
    hosts = [weights[:, host::mesh.hosts] for host in range(mesh.hosts)] if shares > 1 else [weights]
    sums = np.concatenate([own.reshape(len(own), accumulate * local, -1).sum(-1) for own in hosts], 1)
    return float(((sums.max(1) - sums.min(1)) / sums.mean(1)).max())
