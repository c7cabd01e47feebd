"""Faults 6 to 9: asked to stop, and one of two workers that is killed, stuck, or differs."""

import json
import re
import signal
import time
from functools import partial

from tests.drill.oracle import (
    demand_steps,
    manifests,
    newest,
)
from tests.drill.plays import (
    BASE,
    CANNOT_SAVE,
    GRACE,
    HUNG,
    KILLED,
    LOST,
    RESUMABLE,
    Fault,
    base,
    demand_codes,
    demand_ended,
    go_on,
    reached,
    reference,
    said,
    survive,
)
from tests.drill.stage import EPOCH, EVERY, demand

# ---- 6: asked to stop


def asked_to_stop(stage):
    def stopped(stage, done, *options, hosts=1):
        """All that was trained is saved, within the grace period."""

        def check(job):
            asked = min(entry["time"] for process in job.hosts for entry in process.entries("done"))
            demand(time.monotonic() - asked < GRACE, f"it took {time.monotonic() - asked:.0f} s to end")
            demand(newest(job.run) == reached(job), f"trained were {reached(job)} steps, saved {newest(job.run)}")
            state = json.loads((job.run / "run.json").read_text())["state"]
            demand(state == "stopped", f"run.json says {state}")

        return survive(stage, done, [RESUMABLE] * 2 if hosts > 1 else RESUMABLE, *options, hosts=hosts, check=check)

    yield Fault(6, "SIGTERM in a step", partial(stopped, done=[("batch 9", "term", {})]))
    yield Fault(6, "SIGTERM twice in a row", partial(stopped, done=[("batch 9", "term", {"times": 2})]))
    yield Fault(6, "SIGTERM as a save begins", partial(stopped, done=[("save 8", "term", {})]))
    yield Fault(6, "SIGTERM while a save is written", partial(stopped, done=[("wait 8", "term", {})]))
    yield Fault(6, "SIGTERM at a commit", partial(stopped, done=[("commit 8", "term", {})]))
    yield Fault(6, "SIGTERM again while it saves what it was asked for", partial(
        stopped, done=[("batch 9", "term", {}), ("begun 11", "term", {}), ("commit 11", "term", {})]))
    yield Fault(6, "SIGTERM while it compiles", partial(stopped, done=[("compile", "later", {"seconds": 0.05})]))
    yield Fault(6, "SIGTERM in an evaluation", lambda stage: stopped(
        stage, [("evaluate", "term", {})], f"train.eval_every={EPOCH}"))
    for host, moment in ((1, "batch 9"), (0, "begun 8")):
        yield Fault(6, f"SIGTERM to worker {host} alone", partial(
            stopped, done={host: [(moment, "term", {})]}, hosts=2), 2)


# ---- 7, 8, 9: one of two workers


WATCHED = ("devices.watchdog=8.0", "devices.compile_deadline=60.0")


def worker_killed(stage):
    def gone(stage, victim, moment):
        allowed = [(HUNG, LOST), (HUNG, LOST)]
        allowed[victim] = KILLED

        def check(job):
            other = job.hosts[1 - victim]
            died = job.hosts[victim].entries("done")[0]["time"]
            demand(time.monotonic() - died < GRACE, f"the other took {time.monotonic() - died:.0f} s to leave")
            demand(re.search(rf"no sign of life from host {victim}\b", other.said()), f"host {victim} is not named: "
                                                                                   f"{other.last_words()}")

        return survive(stage, {victim: [(moment, "kill", {})]}, allowed, *WATCHED, hosts=2, check=check)

    for victim in (1, 0):
        for moment, words in (("batch 9", "in a step"), ("begun 8", "in a save")):
            yield Fault(7, f"SIGKILL of worker {victim} {words}", partial(gone, victim=victim, moment=moment), 2)


def worker_stuck(stage):
    def demand_stacks(job, host, word):
        stacks = job.run / "hosts" / f"{host}.stacks"
        demand(stacks.exists() and word in stacks.read_text(), f"the stacks of host {host} do not show {word}")

    def stopped(stage, victim):
        job = stage.start(stage.place(), *WATCHED, done={victim: [("batch 9", "kill", {"number": signal.SIGSTOP})]},
                          hosts=2)
        other = job.hosts[1 - victim]
        code = other.wait()
        demand(code in (HUNG, LOST), f"the other ended with {code}: {other.last_words()}")
        demand(f"no sign of life from host {victim}" in other.said(), f"host {victim} is not named: "
                                                                      f"{other.last_words()}")
        if code == HUNG:
            demand_stacks(job, 1 - victim, "Thread")
        job.hosts[victim].send(signal.SIGCONT)
        codes = demand_codes(job, [(HUNG, LOST)] * 2)
        return f"exit {said(codes)}; " + go_on(stage, job, *WATCHED)

    def stopped_for_a_while(stage, hosts):
        told = reference(stage, hosts=hosts)
        job = stage.start(stage.place(), *WATCHED, hosts=hosts,
                          done={hosts - 1: [("batch 9", "kill", {"number": signal.SIGSTOP})]})
        job.hosts[-1].until("done")
        time.sleep(3.0)
        job.hosts[-1].send(signal.SIGCONT)
        demand_codes(job, [0] * hosts)
        demand_steps(job, 0, told)
        demand_ended(job.run, told)
        return "no abort, the same end"

    def stuck(stage, moment, *options):
        def check(job):
            demand_stacks(job, 0, "stick")
            demand("stacks in" in job.first.said(), f"it said: {job.first.last_words()}")

        return survive(stage, [(moment, "stick", {})], HUNG, *options, check=check)

    def slow_compiler(stage):
        told = reference(stage)
        job = stage.start(stage.place(), "devices.watchdog=3.0", done=[("compile", "stick", {"seconds": 5.0})])
        demand_codes(job, [0])
        demand_steps(job, 0, told)
        demand_ended(job.run, told)
        return "no abort, the same end"

    for victim in (1, 0):
        yield Fault(8, f"SIGSTOP of worker {victim}", partial(stopped, victim=victim), 2)
    for hosts in (1, 2):
        yield Fault(8, "SIGSTOP, and SIGCONT before the deadline", partial(stopped_for_a_while, hosts=hosts), hosts)
    yield Fault(8, "a step that never ends", lambda stage: stuck(stage, "batch 9", "devices.watchdog=4.0"))
    yield Fault(8, "a disk that never answers", lambda stage: stuck(
        stage, "wait 8", "devices.watchdog=4.0", "devices.compile_deadline=10.0"))
    yield Fault(8, "a compilation that never ends", lambda stage: stuck(
        stage, "compile", "devices.compile_deadline=10.0"))
    yield Fault(8, "a compilation longer than a step may be", slow_compiler)


def workers_differ(stage):
    def hidden(stage, host):
        """The greatest step that both see is taken."""
        run, told = stage.place(base(stage, 2)), reference(stage, hosts=2)
        job = stage.start(run, *WATCHED, done={host: [("begin", "hide", {"step": BASE})]}, hosts=2)
        demand_codes(job, [0, 0])
        demand_steps(job, BASE - EVERY, told)
        demand_ended(run, told)
        demand(f"not every host has the checkpoint of step {BASE}" in job.first.said(), "it was not said")
        return f"from step {BASE - EVERY} on to the same end"

    def missing(stage, host):
        """No commit anywhere."""
        allowed = [(HUNG, LOST, CANNOT_SAVE)] * 2
        allowed[host] = CANNOT_SAVE

        def check(job):
            demand(max(manifests(job.run)) < BASE, f"step {BASE} is listed")

        return survive(stage, {host: [(f"wait {BASE}", "fail", {"code": "EIO"})]}, allowed, *WATCHED, hosts=2,
                       check=check)

    for host in (1, 0):
        yield Fault(9, f"worker {host} does not see the newest checkpoint", partial(hidden, host=host), 2)
        yield Fault(9, f"worker {host}'s part is not written", partial(missing, host=host), 2)
