"""How fast a recipe trains on this machine's devices: step times, throughput and MFU, measured in alternating rounds.

    twinscale bench recipes/decoder-125m.toml --out build/bench
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import check_files, tell
from twinscale.benchmarks.report.words import interval
from twinscale.benchmarks.results import Bench
from twinscale.benchmarks.rounds import median_interval, ratio_interval
from twinscale.benchmarks.timing import peers as peers_beside
from twinscale.benchmarks.timing.throughput import KINDS, common_peak, take_turns
from twinscale.benchmarks.workers import Trainer, each, open_workers
from twinscale.common.backends import BACKENDS, module_of, on_jax
from twinscale.common.data import Dataset, open_dataset
from twinscale.common.errors import BadInput, need
from twinscale.common.families import traits_of
from twinscale.common.files.access import plain
from twinscale.common.files.output import answer, safe_console, table_of
from twinscale.common.files.results import write_result
from twinscale.common.machine.doctor import versions
from twinscale.common.machine.flops import peak_flops, train_flops
from twinscale.common.recipe.schema import Recipe, positions
from twinscale.common.training.ledger import unit
from twinscale.common.training.run import read_run

SCHEMA_VERSION = 1
FILE, KEYS = "bench.json", ("schema_version", "sides", "machine")
CONVENTIONS = ("causal", "full", "6N")  # of `common/machine/flops.py`; the first is the one that is printed
LIBRARIES = {"cudnn": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),  # by what they are called as packages
             "cuda_runtime": ("nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime")}
ENOUGH = 6  # rounds that a median needs for an interval of 95 %
OVERHEAD = 0.05  # seconds that asking for steps may take besides the steps


def bench(recipe: Recipe, out: Path, *, as_json: bool = False, **asked: Any) -> int:
    """`benched`, of which it prints a table, or what bench.json holds `as_json`; returns the exit code: 0, or 3 where a
    figure is refused."""
    result = benched(recipe, out, **asked)
    answer(plain(result), show, as_json)
    return result.exit_code


def benched(recipe: Recipe, out: Path, *, backends: Sequence[str] = ("jax",), steps: int = 10, rounds: int = 6,
            peers: Sequence[str] = (), overwrite: bool = False) -> Bench:
    """Measures and writes `out`/bench.json; returns the Bench.

    Args:
      recipe: the validated recipe; its optimizer's updates are what is measured.
      out: the directory; nothing else in it is touched.
      backends: of "jax", "keras" and "keras-jax"; several take turns.
      peers: of `benchmarks/timing/peers.py`, which take turns with them.
      steps: of a kind in a round; rounds: after a first one to warm up, which is left out.
    Raises BadInput, MissingEnvironment before anything is compiled or written.
    """
    check_files(out, [FILE], KEYS, overwrite)
    if recipe.devices.hosts != 1:
        raise BadInput(f"devices.hosts={recipe.devices.hosts}: bench measures one host; set it to 1")
    for backend in backends:
        need(*BACKENDS[backend].needs)
    dataset = open_dataset(recipe)
    commands = peers_beside.commands(peers, recipe, dataset)
    given, rooms = environment(recipe, backends, os.environ, bool(peers)), {b: module_of(b) for b in backends}
    with peers_beside.opened(commands) as beside, open_workers(given, rooms, anew=True) as workers:
        compiled = {backend: compile_seconds(recipe, worker) for backend, worker in workers.items()}
        for worker in workers.values():
            worker.ask("measure_start", recipe)
        taken = take_turns(recipe, workers, steps, rounds, lambda turn: tell(
            " and ".join(workers), f"round {turn} of {rounds}" if turn else "warm up"), [peer.train for peer in beside])
        devices = each(workers, lambda worker: worker.ask("measure_device", recipe))
        measured = common_peak(recipe, workers)
        peaks = {backend: peak_flops(device["kind"], recipe.train.precision, len(device["names"]), measured)
                 for backend, device in devices.items()}
    sides = {backend: side(recipe, dataset, backend, devices[backend], peaks[backend], *a_step(steps, taken[backend]))
             | {"compile_seconds": compiled[backend]} for backend in workers}
    result = {"schema_version": SCHEMA_VERSION, "recipe": recipe.model_dump(mode="json"), "hash": recipe.hash,
              "steps": steps, "rounds": rounds, "sides": sides, **ratios(sides),
              "peers": peers_beside.figures(beside, sides, positions(recipe)), "machine": machine()}
    return write_result(out / FILE, Bench, result)


def environment(recipe: Recipe, backends: Sequence[str], given: Mapping[str, str], beside: bool = False
                ) -> dict[str, str]:
    """The processes' environment: one on JAX alone has its memory as the recipe and `given` say; several, or one with
    peers
    `beside`, leave each other room."""
    if len(backends) > 1 or beside or not on_jax(backends[0]):
        return {}
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"  # which a worker else switches off
    return {name: given.get(name, "true")} | recipe.jax.environment(given)


def compile_seconds(recipe: Recipe, worker: Trainer) -> float:
    """Seconds of the first step of a training, which is thrown away; what it compiled stays with the worker."""
    tell(worker.backend, "compiles")
    with tempfile.TemporaryDirectory() as folder:
        probe = {"stop": min(2, recipe.train.steps), "evaluated": False, "saved": False}
        worker.ask("run_training", recipe, run_dir=Path(folder) / "run", probe=probe, progress=False)
        return read_run(Path(folder) / "run")["performance"]["compile_seconds"]


def a_step(steps: int, taken: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(seconds, walls) a step of those that a round takes; of a wall, what asking takes is left out."""
    seconds, walls = taken
    return ({kind: [x / steps for x in rounds] for kind, rounds in seconds.items()},
            {kind: [max(0.0, x - OVERHEAD) / steps for x in rounds] for kind, rounds in walls.items()})


def ratios(sides: Mapping[str, Any]) -> dict[str, Any]:
    """{"ratio": of two backends, None of one alone or of several, of which "ratios" has each pair's}."""
    found = [between(dict(pair)) for pair in combinations(sides.items(), 2)]
    return {"ratio": found[0]} if len(found) == 1 else {"ratio": None, **({"ratios": found} if found else {})}


def between(sides: Mapping[str, Any]) -> dict[str, Any]:
    """{kind: how many times as long a step of the first backend takes as one of the second}, of two."""
    first, second = sides.values()
    return {"of": list(sides)} | {kind: spread(first[f"{kind}_ms"]["rounds"], second[f"{kind}_ms"]["rounds"])
                                  for kind in KINDS}


def side(recipe: Recipe, dataset: Dataset, backend: str, device: Mapping[str, Any], peak: Any,
         seconds: Mapping[str, Any], walls: Mapping[str, Any]) -> dict[str, Any]:
    """A backend's figures. Throughput and MFU follow the median round of the trainer's loop; what cannot be is refused,
    which leaves None and, in "refused", the reason.

    Args:
      peak: (operations a second, where that is from).
      seconds: {kind: seconds a step in each round}; walls: the same as it looked from here.
    """
    measured = {f"{kind}_ms": in_milliseconds(rounds) for kind, rounds in seconds.items()}
    step = measured["loop_ms"]["median"] / 1e3
    peak, peak_from = peak
    mfu = {convention: recipe.train.global_batch / step / peak * train_flops(
        recipe.model, dataset.classes, dataset.example_shape, convention) for convention in CONVENTIONS}
    unwaited, impossible = not_waited(seconds, walls), mfu_refusal(mfu[CONVENTIONS[0]], device["kind"], peak_from)
    refused = [reason for reason in (unwaited, impossible) if reason]
    return {"backend": backend, "device": device["kind"], "devices": device["names"],
            "precision": recipe.train.precision, "attention": attention(recipe, backend, device), **measured,
            "loop_over_bare": spread(seconds["loop"], seconds["bare"]),
            "throughput": None if unwaited else positions(recipe) / step, "unit": unit(dataset),
            "mfu": dict.fromkeys(CONVENTIONS) if refused else mfu,
            "mfu_convention": f"{CONVENTIONS[0]} FLOPs / {peak_from}", "peak_flops": peak,
            "peak_from": f"{peak_from}{maker(peak_from)}", "refused": refused, "peak_bytes": device["peak_bytes"],
            "limit_bytes": device["limit_bytes"]}


def in_milliseconds(rounds: Sequence[float]) -> dict[str, Any]:
    """Milliseconds a step in each round, of seconds, their median, and its interval."""
    low, median, high = (1e3 * x for x in median_interval(rounds))
    return {"median": median, "interval": [low, high], "rounds": [1e3 * x for x in rounds]}


def spread(first: Sequence[float], second: Sequence[float]) -> dict[str, Any] | None:
    """{"ratio", "interval"} of paired rounds: their geometric mean; of one round alone there is no interval."""
    low, ratio, high = ratio_interval(first, second)
    return {"ratio": ratio, "interval": [low, high] if len(first) > 1 else None}


def not_waited(seconds: Mapping[str, Any], walls: Mapping[str, Any]) -> str | None:
    """Why step times are no time that a device took, or None.

    A call that has ended has waited for its steps. So rounds of bare steps take about the time of their calls, and a
    step of the loop takes half a bare one or more: below a quarter it was not waited for.
    """
    total, wall = (float(np.sum(each["bare"])) for each in (seconds, walls))
    if total < wall / 2:
        return f"steps of {total:.3g} s took {wall:.3g} s: they did not wait for the device"
    bare, loop = (float(np.median(seconds[kind])) for kind in KINDS)
    if loop < bare / 4:
        return (f"a step of the loop takes {1e3 * loop:.3g} ms, a bare one {1e3 * bare:.3g} ms: the loop's did not "
                "wait for the device")
    return None


def mfu_refusal(mfu: float, kind: str, peak_from: str) -> str | None:
    """Why an MFU is none, or None."""
    measured = "matrix product" in peak_from
    if measured and kind.lower() != "cpu":
        return f"no MFU: the peak of {kind} is not known here; add it to common/machine/flops.py"
    if mfu <= 1:
        return None
    why = ("something else kept this machine busy while matrix products were measured: run again" if measured else
           f"the steps did not wait, or {kind} is not what the peak is of")
    return f"an MFU of {100 * mfu:.3g} % is above 100 %: {why}"


def maker(peak_from: str) -> str:
    """Where a peak was printed."""
    if "matrix product" in peak_from:
        return ""
    if "TPU" in peak_from:
        return ", Google Cloud's documentation"
    return ", NVIDIA's white paper" if "RTX" in peak_from else ", NVIDIA's data sheet"


def attention(recipe: Recipe, backend: str, device: Mapping[str, Any]) -> str | None:
    """What computed attention: "einsum" or a fused kernel; None where there is none."""
    attention = traits_of(recipe.model).attention
    if not attention:
        return None
    return "einsum" if not on_jax(backend) else recipe.jax.kernel(
        recipe.train.precision, attention.width, recipe.data.sequence, not recipe.data.cross_documents,
        device["platform"], device["capability"], recipe.devices.sequence)


def machine() -> dict[str, Any]:
    """Versions, and of NVIDIA's GPUs and libraries what they say of themselves."""
    return {"versions": versions(), "libraries": {name: first_version(names) for name, names in LIBRARIES.items()},
            "gpus": gpus()}


def first_version(names: Sequence[str]) -> str | None:
    """The version of the first of these packages that is there."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def gpus() -> list[dict[str, str]]:
    """[{"name", "driver", "memory", "power_limit", "clock"}] as nvidia-smi has them."""
    fields = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")
    try:
        said = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"], text=True,
                              capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    keys = ("name", "driver", "memory", "power_limit", "clock")
    return [dict(zip(keys, map(str.strip, line.split(",")), strict=True)) for line in said.splitlines() if line.strip()]


def show(result: Mapping[str, Any]) -> None:
    """Prints the figures as a table on stdout, and what was refused below it."""
    sides, found = result["sides"].values(), result["machine"]
    table = table_of(("", *result["sides"]), title=result["recipe"]["name"])
    names = {"device": "device", "precision": "precision", "attention": "attention",
             "loop_ms": "step of the trainer's loop, ms", "bare_ms": "bare step, ms",
             "loop_over_bare": "the loop costs", "throughput": "throughput",
             "mfu": f"MFU ({CONVENTIONS[0]} FLOPs)", "peak_from": "of peak", "compile_seconds": "compile, s",
             "peak_bytes": "most memory held, GiB"}
    for key, name in names.items():
        table.add_row(name, *(cell(measured, key) for measured in sides))
    library = {name: number for name, number in found["libraries"].items() if number}
    if found["gpus"]:
        library["driver"] = found["gpus"][0]["driver"]
    for name, number in library.items():
        table.add_row(name, *[number] * len(sides))
    console = safe_console()
    console.print(table)
    console.print(legend(result))
    for line in peers_beside.lines(result["peers"], next(iter(sides))["unit"]):
        console.print(line)
    for measured in sides:
        for reason in measured["refused"]:
            console.print(f"{measured['backend']}: refused: {reason}")


def legend(result: Mapping[str, Any]) -> str:
    """What the brackets are, and, of several backends, how each pair compares in the same rounds."""
    rounds = f"[ ]: 95 % intervals over {result['rounds']} rounds of {result['steps']} steps, each timed as a whole"
    if result["rounds"] < ENOUGH:
        rounds += f"; below {ENOUGH} rounds a median's is the least and the greatest round"
    pairs = result.get("ratios") or [pair for pair in [result["ratio"]] if pair]
    if any(not pair["loop"]["interval"] for pair in pairs):
        return f"{rounds}. One round compares nothing."
    return " ".join([f"{rounds}.", *map(pair_words, pairs)])


def pair_words(pair: Mapping[str, Any]) -> str:
    """How two backends compare, in a sentence."""
    first, second = (BACKENDS[backend].title for backend in pair["of"])
    low, high = span = pair["loop"]["interval"]
    same = ": this tells neither as the faster" if low <= 1 <= high else ""
    return f"A step of {first} takes {sig(pair['loop']['ratio'], 3)} [{interval(span)}] times one of {second}{same}."


def cell(measured: Mapping[str, Any], key: str) -> str:
    """A figure as text."""
    value = measured[key]
    if key == "loop_over_bare":
        if not value["interval"]:
            return "–"
        low, middle, high = (100 * (x - 1) for x in (value["interval"][0], value["ratio"], value["interval"][1]))
        return f"{f'{sig(middle)} %' if low > 0 else 'nothing measurable'}  [{interval((low, high))}] %"
    if key.endswith("_ms"):
        return f"{sig(value['median'], 3)}  [{interval(value['interval'])}]"
    if key == "mfu":
        return "refused" if value[CONVENTIONS[0]] is None else f"{sig(100 * value[CONVENTIONS[0]], 3)} %"
    if value is None:
        return "refused" if key == "throughput" else "–"
    if key == "device":
        return f"{len(measured['devices'])} x {value}"
    if key == "throughput":
        return f"{value:,.0f} {measured['unit']}"
    if key == "peak_from":
        return f"{sig(measured['peak_flops'] / 1e12, 3)} TFLOP/s, {value}"
    if key == "peak_bytes":
        return sig(value / 2**30, 3) + (f" of {sig(limit / 2**30, 3)}" if (limit := measured["limit_bytes"]) else "")
    return sig(value, 3) if isinstance(value, float) else str(value)
