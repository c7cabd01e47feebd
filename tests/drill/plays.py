"""How most faults are played: a training to which something is done, and the same command again."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass

from tests.drill.oracle import (
    committed,
    demand_equal,
    demand_no_mix,
    demand_ports_free,
    demand_steps,
    demand_tidy,
    manifests,
    newest,
    undisturbed,
)
from tests.drill.stage import EVERY, STEPS, demand

KILLED, HUNG, LOST, CANNOT_SAVE, RESUMABLE = -signal.SIGKILL, 70, 71, 74, 75
GRACE = 30.0  # seconds from a wish or a death to the end of the processes that it concerns
BASE = 12  # the step whose checkpoint is the newest of the run that is spoilt


@dataclass(frozen=True)
class Fault:
    """One fault of a class; `play(stage)` returns the outcome in words, or raises Disagreement."""

    number: int
    name: str
    play: Callable
    hosts: int = 1


# ---- the play of most


def reference(stage, *options, hosts=1):
    """What the undisturbed training leaves; options of devices do not change it."""
    options = tuple(option for option in options if not option.startswith("devices."))
    return stage.once(("reference", options, hosts), lambda: undisturbed(
        stage.start(stage.place(), *options, hosts=hosts)))


def demand_codes(job, allowed):
    """Waits for all hosts; `allowed` holds an exit code, or several, for each."""
    found = job.wait()
    for host, code in enumerate(found):
        wanted = allowed[host] if isinstance(allowed[host], tuple) else (allowed[host],)
        demand(code in wanted, f"host {host} ended with {code}, not {' or '.join(map(str, wanted))}: "
                               f"{job.hosts[host].last_words()}")
    return found


def survive(stage, done, allowed, *options, hosts=1, check=None):
    """A training to which something is done, and then the same command again."""
    job = stage.start(stage.place(), *options, done=done, hosts=hosts)
    codes = demand_codes(job, allowed if hosts > 1 else [allowed])
    if check:
        check(job)
    return f"exit {said(codes)}; " + go_on(stage, job, *options)


def said(codes):
    return ", ".join(str(code) if code >= 0 else signal.Signals(-code).name for code in codes)


def reached(job):
    """Steps that a job has begun."""
    return max((step + 1 for step in job.first.steps()), default=0)


def go_on(stage, job, *options):
    """After whatever ended the job, the same command ends as an undisturbed one."""
    demand_no_mix(job.run)
    demand_ports_free(job)
    start, lost = newest(job.run), reached(job) - newest(job.run)
    # A save goes on while the next steps are trained, until the next one begins.
    demand(lost <= 2 * EVERY, f"{lost} steps were lost: the newest checkpoint is of step {start}")
    stage.redone += max(0, lost)
    return resume(stage, job.run, *options, start=start, hosts=len(job.hosts))


def resume(stage, run, *options, start, hosts=1, close=False):
    """The command on a run that something happened to: it begins after the given step, and ends as it should."""
    told = reference(stage, *options, hosts=hosts)
    info = run / "run.json"
    if info.exists() and json.loads(info.read_text())["state"] == "finished":
        demand_ended(run, told, close)
        return "it had finished"
    saves = sorted({*committed(run), *range(EVERY, STEPS + 1, EVERY)})[-2:]  # also those that were asked for between
    job = stage.start(run, *options, hosts=hosts)
    demand_codes(job, [0] * hosts)
    first = min(job.first.steps(), default=STEPS)
    stage.lost += max(0, start - first)
    demand_steps(job, start, told)
    demand_ended(run, told, close, saves if told.listed == [STEPS - EVERY, STEPS] else told.listed)
    demand_ports_free(job)
    return f"from step {start} on to the same end"


def demand_ended(run, told, close=False, listed=None):
    """The run is finished, tidy, and as the undisturbed one."""
    demand_equal(run, told, close)
    demand_tidy(run, listed or told.listed)
    info = json.loads((run / "run.json").read_text())
    demand((info["state"], info.get("saved")) == ("finished", STEPS), f"run.json says {info['state']}, saved "
                                                                     f"{info.get('saved')}")


def base(stage, hosts=1, step=BASE):
    """A run that a kill ended once the checkpoint of a step was there; copies of it are spoilt."""

    def make():
        job = stage.start(stage.place(), done={0: [(f"saved {step}", "kill", {})]}, hosts=hosts)
        demand(job.wait()[0] == KILLED, f"the base was not killed: {job.last_words()}")
        demand(committed(job.run) == [step - EVERY, step], f"the base holds {committed(job.run)}")
        return job.run

    return stage.once(("base", hosts, step), make)


# ---- what is spoilt, and refused


def largest(run, step, part=""):
    """The largest file of a checkpoint whose path holds `part`, and its name in the manifest."""
    files = manifests(run)[step]["files"]
    name = max((name for name in files if part in name), key=lambda name: (files[name]["bytes"], name))
    return run / "checkpoints" / name, name


def flip(file, chance):
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def link(file, chance):
    copy = file.parents[3] / "elsewhere"
    shutil.move(file, copy)
    file.symlink_to(copy)


LINKED = "a file linked away"
DAMAGES = {"a bit flipped": flip, "a file cut in half": lambda f, _: os.truncate(f, f.stat().st_size // 2),
           "a file emptied": lambda f, _: os.truncate(f, 0), "a file zeroed": lambda f, _: f.write_bytes(
               bytes(f.stat().st_size)), "a file deleted": lambda f, _: f.unlink(), LINKED: link}
JSON = {"torn": lambda text: text[:len(text) // 2], "empty": lambda _: "", "of another kind": lambda _: "[]\n"}


def demand_refused(job, code, *words):
    """It ended with the code, having said the words, without a step."""
    demand_codes(job, [code] * len(job.hosts))
    for word in words:
        demand(re.search(word, job.first.said()), f"it did not say {word}: {job.last_words()}")
    trained = [process.steps() for process in job.hosts if process.steps()]
    demand(not trained, f"it trained the steps {trained}")
