"""Any two runs, from what they left in their directories: the ladder as far as their traces allow.

Nothing is trained and no framework is loaded, so that the runs may come from other machines, versions and devices.
"""

import json
import shlex
import tomllib

import numpy as np

from benchmarks import ladder
from benchmarks.output import CHECKS, clear, tell
from benchmarks.report import write_report
from common.errors import DID_IT, INCONCLUSIVE, NO, BadInput
from common.recipe import Recipe, positions
from common.recipe_file import dotted, dumps, flat
from common.run import read_metrics, read_run, write_json, write_text
from common.sketch import distance, sketch
from common.tensors import load_tensors

SCHEMA_VERSION = 1
MARKER = ".runs"
SIDES = ("a", "b")
BACKENDS = {"keras": "Keras", "jax": "JAX"}
NOTHING = "train it with `twinscale train ... --trace sketch`"


def compare_runs(a, b, out, *, overwrite=False):
    """Writes verdict.json, report.html and report.md of two run directories into `out`; returns the exit code: 0 they
    agree, 1 they do not, 3 where the twins part at once.

    Raises: BadInput where a directory holds no finished run with a trace, or neither has a twin.
    """
    runs = {"a": read_side(a), "b": read_side(b)}
    if not any(run["twin"] for run in runs.values()):
        raise BadInput(f"neither {a} nor {b} has a twin, by which differences are judged: {NOTHING}")
    clear(out, MARKER, "verdict.json", overwrite)
    write_text(out / MARKER, "")
    verdict = judge(runs, out)
    write_json(out / "verdict.json", verdict)
    write_report(verdict, out)
    for rung in verdict["rungs"]:
        tell("rung", f"{rung['name']} {rung['title']}: {'holds' if rung['agrees'] else 'fails'}, {rung['worst']:.2g} "
                     f"against a bound of {rung['bound']:.2g} ({rung['bound_from']})")
    print(verdict["sentence"])
    if not verdict["agrees"]:
        return NO
    return INCONCLUSIVE if verdict["horizon"] in (0, 1) else DID_IT


# ---- what a run left


def read_side(path):
    """A run and its twin, if it has one: {"path", "info", "recipe", "loss": {step: loss}, "states": {updates done:
    file}, "form", "contract", "twin"}."""
    run = read_trace(path)
    contract = path / "trace" / "contract.json"
    if not contract.exists():
        raise BadInput(f"run {path}: has no trace/contract.json; {NOTHING}")
    twin = path / "trace" / "twin"
    return run | {"contract": json.loads(contract.read_text()),
                  "twin": read_trace(twin) if (twin / "run.json").exists() else None}


def read_trace(path):
    """A finished run and where its states lie; raises BadInput where there are none."""
    info = read_run(path)
    if info["state"] != "finished":
        raise BadInput(f"run {path}: is {info['state']}, not finished; the same command goes on with it")
    if not info.get("trace"):
        raise BadInput(f"run {path}: has no trace; {NOTHING}")
    loss = {line["step"]: line["train/loss"] for line in read_metrics(path) if "train/loss" in line}
    states = {int(file.name.split("_")[1].split(".")[0]): file for file in (path / "trace").glob("step_*.safetensors")}
    states[max(loss) + 1] = path / "trace" / "final.safetensors"
    recipe = Recipe.model_validate(tomllib.loads((path / "recipe.toml").read_text()))
    return {"path": path, "info": info, "recipe": recipe, "loss": loss, "states": states, "form": info["trace"]}


def label(run):
    """A run in a few words, for headings."""
    count = len(run["info"]["devices"])
    return f"{run['path'].name} ({BACKENDS[run['info']['backend']]}, {count} device{'s' * (count != 1)})"


# ---- the verdict


def judge(runs, out):
    """The verdict of two runs, with the keys of a comparison's."""
    a, b = (runs[side] for side in SIDES)
    recipe, labels = a["recipe"], {side: label(run) for side, run in runs.items()}
    trained = {f"{side}{ending}": run for side in SIDES for ending, run in (("", runs[side]), ("-twin",
               runs[side]["twin"])) if run}
    span = min(1 + max(run["loss"]) for run in trained.values())
    losses = {name: {"loss": np.array([run["loss"][step] for step in range(span)])} for name, run in trained.items()}
    precision = recipe.train.precision
    curve = ladder.loss_curve(losses | {"positions": positions(recipe)}, precision, 4, SIDES)
    judged = span if curve["horizon"] is None else max(1, curve["horizon"])
    steps = sorted(set.intersection(*(set(run["states"]) for run in trained.values())) & set(range(judged + 1)))

    known = a["contract"].keys() & b["contract"].keys()  # a sketching run leaves no hashes of its weights
    contracts = {side: {name: runs[side]["contract"][name] for name in known} for side in SIDES}
    rungs, states = [ladder.contract_rung(contracts, SIDES)], {}
    for step in steps:
        states[step] = state_checks(step, precision, 4 if step < 2 else 8, *read_states(trained, step))
    first = next((step for step in steps if step), None)
    if first is not None:
        rungs.append(ladder.rung("P2", "gradient", f"equal weights and optimizer slots after {first} update"
                                 + "s" * (first > 1), [*states.get(0, []), *states[first]]))
    later = [check for step in steps if step > (first or 0) for check in states[step]]
    rungs.append(ladder.rung(*kind(a, b, precision), [ladder.loss_check(precision, curve), *later]))
    for rung in rungs:
        rung["checks"] = rung["checks"][:CHECKS]
    agrees = all(rung["agrees"] for rung in rungs)
    return {"schema_version": SCHEMA_VERSION, "sides": labels, "agrees": agrees, "open": False, "rungs": rungs,
            "precision": precision, "steps": recipe.train.steps, "horizon": curve["horizon"],
            "sentence": sentence(labels, rungs, curve, span), "curves": {precision: curve},
            "cause": first_parting(states), "tensors": [],
            "held_out": {side: run["info"]["final"] for side, run in runs.items()},
            "performance": {side: run["info"]["performance"] for side, run in runs.items()},
            "versions": {side: run["info"]["versions"] for side, run in runs.items()},
            "devices": {side: run["info"]["devices"] for side, run in runs.items()},
            "recipe": {"name": recipe.name, "hash": recipe.hash, "toml": dumps(recipe)},
            "data": a["info"]["data"], "differences": what_differs(a, b), "skipped": skipped(rungs),
            "assumptions": ["each run was made as its directory says",
                            "a twin permutes the rows within each batch and dithers the first weights by half a unit "
                            "in the last place; it was trained where its run was"],
            "limits": limits(runs, span),
            "commands": [shlex.join(["twinscale", "compare-runs", str(a["path"]), str(b["path"]), "--out", str(out)])]}


def kind(a, b, precision):
    """(name, title, what it proves) of the rung that the trajectories are judged on."""
    counts = [len(run["info"]["devices"]) for run in (a, b)]
    if a["info"]["backend"] == b["info"]["backend"] and counts[0] != counts[1]:
        return "P6", "sharding", f"{counts[0]} against {counts[1]} devices: no more than {precision} rounding"
    if precision == "float64":
        return "P4", "semantics", "one training: equal losses and states step by step in float64"
    return "P5", "numerics", f"no more rounding than {precision} costs each run itself"


def read_states(trained, step):
    """({run: {"GROUP/NAME": tensor or sketch}} after `step` updates, how two of them differ): sketches, where one of
    the runs left no more."""
    found = {name: load_tensors(run["states"][step]) for name, run in trained.items()}
    if {run["form"] for run in trained.values()} == {"full"}:
        return found, ladder.difference
    for name, run in trained.items():
        if run["form"] == "full":
            found[name] = {tensor: sketch(np, x) for tensor, x in found[name].items()}
    return found, lambda x, y: distance(x, y) / max(float(y[0]), ladder.TINY)


def state_checks(step, precision, factor, states, differ):
    """Checks of the states after `step` updates: each tensor against a few twins' noise, that of the noisiest tensor of
    its group; 4 of it as P2 has it for one step, 8 as P4 has it for what many steps have grown. Null directions, whose first moment is rounding alone, are judged in it against the largest."""
    null = null_directions(states, differ)
    twins = [side for side in SIDES if f"{side}-twin" in states]
    names = [name for name in states["a"] if name in states["b"] and ladder.bare(name) not in null]
    noise = {}
    for name in names:
        apart = max(differ(states[f"{side}-twin"][name], states[side][name]) for side in twins)
        noise[group(name)] = max(apart, noise.get(group(name), 0.0))
    after = f"after {step} update" + "s" * (step != 1)
    source = f"{factor} x the {precision} twin's noise in this group {after}"
    checks = [ladder.check(f"{precision}, {after}", differ(states["b"][name], states["a"][name]),
                           factor * noise[group(name)], name, source) for name in names]
    largest = max((size(x) for name, x in states["a"].items() if group(name) == "m"), default=0.0)
    for name in (f"m/{name}" for name in sorted(null)):
        apart = differ(states["b"][name], states["a"][name]) * size(states["a"][name]) / largest
        checks.append(ladder.check(f"{precision}, null direction", apart, factor * noise["m"], name,
                                   f"{source}, of the largest"))
    return checks


def null_directions(states, differ):
    """Names whose first moment is rounding alone: it shares no two digits with a twin's, and is far below the
    largest."""
    moments = [name for name in states["a"] if group(name) == "m"]
    largest = max((size(states["a"][name]) for name in moments), default=0.0)
    side = next(side for side in SIDES if f"{side}-twin" in states)
    return {ladder.bare(name) for name in moments if size(states[side][name]) < 1e-3 * largest
            and differ(states[f"{side}-twin"][name], states[side][name]) > 1e-2}


def size(x):
    """The largest element of a tensor; of a sketch it is among the numbers that it holds, or the norm is."""
    return float(np.abs(x).max())


def group(name):
    return name.split("/", 1)[0]


def first_parting(states):
    """Where the runs part: the first traced step at which a tensor is off, and the one furthest off then."""
    for step, checks in states.items():
        failed = [check for check in checks if not check["agrees"]]
        if failed:
            worst = max(failed, key=lambda c: c["worst"] / max(c["bound"], ladder.TINY))
            return {"step": step, "where": worst["where"], "operation": None,
                    "sentence": f"after {step} updates: {len(failed)} of {len(checks)} tensors are apart, furthest "
                                f"{worst['where']}: {worst['worst']:.2g} against {worst['bound']:.2g}"}
    return None


# ---- in words


def sentence(labels, rungs, curve, span):
    one, other = labels.values()
    failed = next((rung for rung in rungs if not rung["agrees"]), None)
    if failed:
        return (f"{one} and {other} do not agree: {failed['name']} ({failed['title']}) parts at {failed['where']}, "
                f"{failed['worst']:.2g} against a bound of {failed['bound']:.2g}.")
    reach = f"all {span} steps that the twins have" if curve["horizon"] is None else (
        f"the {max(1, curve['horizon'])} steps before the horizon")
    return f"{one} and {other} train the same: {rungs[-1]['name']} ({rungs[-1]['title']}) holds over {reach}."


def what_differs(a, b):
    """Rows of what is not the same in both runs: recipe, backend, devices and versions."""
    old, new = (flat(run["recipe"].model_dump(mode="json")) for run in (a, b))
    rows = [[dotted(key), str(old.get(key, "–")), str(new.get(key, "–"))] for key in old | new
            if old.get(key) != new.get(key)]
    for name, of in (("backend", lambda run: BACKENDS[run["info"]["backend"]]),
                     ("devices", lambda run: f"{len(run['info']['devices'])}, first {run['info']['devices'][0]}")):
        if of(a) != of(b):
            rows.append([name, of(a), of(b)])
    names = sorted(a["info"]["versions"].keys() | b["info"]["versions"].keys())
    versions = [[name, *(str(run["info"]["versions"].get(name, "–")) for run in (a, b))] for name in names]
    return rows + [row for row in versions if row[1] != row[2]]


def skipped(rungs):
    whys = {"P1": "operations are measured by `twinscale compare --operations`",
            "P3": "needs both optimizers at hand: `twinscale compare`",
            "P4": "the runs are not in float64", "P5": "judged as P4 or P6", "P6": "the same number of devices",
            "P7": "one run each", "P8": "`twinscale audit` plants errors"}
    return [{"name": name, "why": why} for name, why in whys.items() if name not in {rung["name"] for rung in rungs}]


def limits(runs, span):
    found = [f"judged over the first {span} steps, as far as the twins go; later ones show in the held-out metrics"]
    found += [f"{label(run)} has no twin of its own" for run in runs.values() if not run["twin"]]
    if "sketch" in {run["form"] for run in runs.values()}:
        found.append("states are compared by sketches: a difference is known within a factor of 2 as a rule")
    return found
