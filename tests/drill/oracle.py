"""What must be true after a fault, and after the same command has run again. Everything is read from files, and by code
of its own where the training's code could be wrong in the same way."""

import hashlib
import json
import re
import socket
from dataclasses import dataclass

from safetensors import numpy as safetensors

from tests.drill.stage import STEPS, demand

TEMPORARY = re.compile(r"\.tmp$|orbax-checkpoint-tmp|_temp|\.partial$")
TIMED = re.compile(r"_per_second$")


def manifests(run):
    """{step: manifest, or None where it cannot be read} of what is listed as a checkpoint."""
    found = {}
    for file in (run / "checkpoints" / "manifests").glob("step_*.json"):
        try:
            found[int(file.stem[5:])] = json.loads(file.read_text())
        except ValueError:
            found[int(file.stem[5:])] = None
    return dict(sorted(found.items()))


def whole(run, manifest):
    """Whether all files of a manifest are there as it says."""
    def is_as_said(name, said):
        file = run / "checkpoints" / name
        return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == said["sha256"]

    return bool(manifest and manifest["files"]) and all(is_as_said(*item) for item in manifest["files"].items())


def committed(run):
    """The steps of whole checkpoints, in order."""
    return [step for step, manifest in manifests(run).items() if whole(run, manifest)]


def newest(run):
    """The step to go on from: that of the newest whole checkpoint, or 0."""
    return max(committed(run), default=0)


def demand_no_mix(run):
    """Every listed checkpoint is whole: old or new, never a mix."""
    torn = sorted(set(manifests(run)) - set(committed(run)))
    demand(not torn, f"listed, but not whole: the checkpoints of steps {torn}")


def losses(run):
    """The lines of a run's metrics without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not TIMED.search(name)} for line in lines]


def tensors(run):
    return safetensors.load((run / "trace" / "final.safetensors").read_bytes())


@dataclass(frozen=True)
class Undisturbed:
    """What a training leaves that nothing happened to."""

    lines: list
    final: dict  # {"weights/NAME", "m/NAME", ...: array}
    digests: dict  # of the batches of each step, by host
    listed: list
    moments: list  # those of its files, in order


def undisturbed(job):
    """What a job left that nothing happened to."""
    demand(job.wait() == [0] * len(job.hosts), f"undisturbed, it failed: {job.last_words()}")
    digests = [{entry["step"]: entry["digest"] for entry in process.entries("batch")} for process in job.hosts]
    found = Undisturbed(losses(job.run), tensors(job.run), digests, list(manifests(job.run)),
                        [entry["moment"] for entry in job.first.entries("file")])
    demand({name.split("/")[0] for name in found.final} == {"weights", "m", "v", "ema"}, "not a whole final state")
    demand(all(len(each) == STEPS for each in digests), "the undisturbed run is not as planned")
    return found


def demand_equal(run, reference, close=False):
    """The run ended as the undisturbed one: the same lines once each, and the same state bit for bit; with `close`,
    from other devices, up to rounding."""
    mine, theirs = losses(run), reference.lines
    demand([line["step"] for line in mine] == [line["step"] for line in theirs],
           f"the metrics hold the steps {[line['step'] for line in mine]}")
    for here, there in zip(mine, theirs, strict=True):
        apart = [name for name in there if not (is_close(here.get(name), there[name]) if close else
                                                here.get(name) == there[name])]
        demand(here.keys() == there.keys() and not apart, f"step {there['step']}: the metrics differ: {here} {there}")
    final = tensors(run)
    demand(final.keys() == reference.final.keys(), "the final state has other tensors")
    for name, x in reference.final.items():
        demand(final[name].shape == x.shape and final[name].dtype == x.dtype, f"{name} has another shape")
        demand(close or final[name].tobytes() == x.tobytes(), f"the final {name} differs")


def is_close(a, b):
    """float32's rounding over a few dozen steps; a wrong batch or mask moves losses by 1e-3 and more."""
    return a is not None and abs(a - b) <= 1e-5 * max(1.0, abs(b))


def demand_tidy(run, listed=None):
    """Nothing of a fault is left in the run's directory, and the checkpoints' directory holds what is listed."""
    left = [str(path.relative_to(run)) for path in run.rglob("*") if TEMPORARY.search(path.name)]
    demand(not left, f"left behind: {', '.join(sorted(left)[:3])}")
    if listed is not None:
        demand(list(manifests(run)) == listed and committed(run) == listed,
               f"listed are {list(manifests(run))}, whole {committed(run)}, not {listed}")
        held = {int(found[1]) for path in (run / "checkpoints").iterdir()
                if (found := re.match(r"step[-_](\d+)", path.name))}
        demand(held == set(listed), f"checkpoints/ holds files of the steps {sorted(held)}, listed are {listed}")


def demand_steps(job, start, reference=None, stop=STEPS):
    """The job trained each step from `start` on once, on the undisturbed run's batches."""
    for host, process in enumerate(job.hosts):
        seen = [(entry["step"], entry["digest"]) for entry in process.entries("batch")]
        steps = [step for step, _ in seen]
        demand(steps == list(range(start, stop)),
               f"host {host} trained {f'the steps {steps[0]} to {steps[-1]}' if steps else 'no step'}, not {start} to "
               f"{stop - 1}")
        wrong = [step for step, digest in seen if reference and reference.digests[host][step] != digest]
        demand(not wrong, f"host {host} read other batches at the steps {wrong[:3]}")


def demand_ports_free(job):
    """Nobody holds the ports of a job that has ended."""
    address = job.first.start.environment.get("JAX_COORDINATOR_ADDRESS")
    if address:
        with socket.socket() as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            host, _, port = address.rpartition(":")
            try:
                ours.bind((host, int(port)))
            except OSError:
                demand(False, f"port {port} is still held")
