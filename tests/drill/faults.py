"""The fourteen classes of faults: what is done to a training, how it must end, and that the same command then ends
where an undisturbed training does."""

import os
import re
from functools import partial

from tests.drill.oracle import (
    committed,
    demand_steps,
    demand_tidy,
    manifests,
    newest,
)
from tests.drill.plays import (
    BASE,
    DAMAGES,
    KILLED,
    LOST,
    Fault,
    base,
    demand_codes,
    demand_ended,
    demand_refused,
    reference,
    resume,
    said,
    survive,
)
from tests.drill.saves import all_spoilt, at_every_point, at_retention, no_saving, spoilt
from tests.drill.stage import EPOCH, EVERY, STEPS, demand
from tests.drill.workers import asked_to_stop, worker_killed, worker_stuck, workers_differ
from twinscale.common.backends import on_jax


def classes(stage):
    """All faults, by class; those of the first two from what an undisturbed training does to its files."""
    made = (at_every_point, at_retention, no_saving, spoilt, all_spoilt, asked_to_stop, worker_killed, worker_stuck,
            workers_differ, resumed, not_finite, two_writers, exported, cache_and_clock)
    return [fault for make in made for fault in make(stage)]


# ---- 10: going on elsewhere, or as something else


def resumed(stage):
    def in_parts(stage, *parts, close=True):
        """The training in parts, each with its own options and hosts, up to its step."""
        run, start = stage.place(), 0
        for options, hosts, stop in parts[:-1]:
            job = stage.start(run, *options, "--stop", str(stop), hosts=hosts)
            demand_codes(job, [0] * hosts)
            demand_steps(job, start, reference(stage, hosts=hosts), stop=stop)
            start = stop
        options, hosts, _ = parts[-1]
        return resume(stage, run, *options, start=start, hosts=hosts, close=close)

    def other(stage, option, word):
        run = stage.place(base(stage))
        listed = sorted(path.name for path in run.rglob("*"))
        demand_refused(stage.start(run, option), 2, word)
        demand(sorted(path.name for path in run.rglob("*")) == listed, "the refusal changed the run")
        return f"exit 2; {resume(stage, run, start=BASE)}"

    one, two = ("devices.virtual=2",), ("devices.virtual=2", "devices.data=2")
    for stop, words in ((9, "in mid-epoch"), (2 * EPOCH, "at an epoch's edge"), (STEPS - 1, "before the last step")):
        yield Fault(10, f"going on {words}", lambda stage, stop=stop: in_parts(
            stage, ((), 1, stop), ((), 1, None), close=False))
    yield Fault(10, "SIGKILL once the last step is saved", partial(
        survive, done=[(f"saved {STEPS}", "kill", {})], allowed=KILLED))
    yield Fault(10, "one device, two, one", lambda stage: in_parts(stage, (one, 1, 8), (two, 1, 16), (one, 1, None)))
    yield Fault(10, "two workers, one, two", lambda stage: in_parts(stage, ((), 2, 7), ((), 1, 15), ((), 2, None)), 2)
    for option, word in (("model.hidden=[24]", r"model\.hidden"), ("seed=12", "seed"),
                         ('optimizer.name="sgd"', r"optimizer\.name"), ("train.steps=30", r"train\.steps")):
        yield Fault(10, f"with {option}", partial(other, option=option, word=word))


# ---- 11: not finite


def not_finite(stage):
    best = (f"train.eval_every={EVERY}", "train.keep_best=2")

    def poisoned(stage, step, *options):
        told = reference(stage, *options)

        def check(job):
            line = job.first.last_words()
            demand(f"step {step}:" in line and told.digests[0][step] in line and "first bad tensor: " in line,
                   f"it said: {line}")
            losses = [manifest["held_out"] for manifest in manifests(job.run).values()]
            demand(newest(job.run) <= step and not options or all(isinstance(x, float) for x in losses),
                   f"held-out losses of what is kept: {losses}")

        return survive(stage, [(f"batch {step}", "poison", {})], 1, *options, check=check)

    def diverging(stage):
        """What diverges by itself diverges again, at the same step, and no checkpoint is made of it."""
        run, lines = stage.place(), []
        for _ in range(2):
            job = stage.start(run, "optimizer.learning_rate=1e30", *best)
            demand_codes(job, [1])
            lines.append(job.first.last_words())
            demand(re.search(r"step \d+: the loss is (nan|inf); batch sha256 [0-9a-f]{64}; first bad tensor: ",
                             lines[-1]), f"it said: {lines[-1]}")
        demand(lines[0] == lines[1], f"it ended otherwise: {lines}")
        demand(not manifests(run), f"listed are {list(manifests(run))}")
        demand_tidy(run)
        return "exit 1 twice, no checkpoint"

    yield Fault(11, "a batch that is not finite", lambda stage: poisoned(stage, 9))
    yield Fault(11, "a batch that is not finite just after a save", lambda stage: poisoned(stage, 8))
    yield Fault(11, "a last batch that is not finite, the best checkpoints kept", lambda stage: poisoned(
        stage, STEPS - 1, *best))
    yield Fault(11, "a learning rate of 1e30", diverging)


# ---- 12: two at once


def two_writers(stage):
    def second(stage, hosts=1):
        told, run = reference(stage, hosts=hosts), stage.place()
        opened = run.parent / "go"
        first = stage.start(run, done=[("batch 6", "hold", {"path": opened})], hosts=hosts)
        first.first.until("done")
        intruder = stage.start(run, hosts=hosts)
        codes = demand_codes(intruder, [2, LOST][:hosts])
        demand(f"process {first.first.process.pid} is writing it" in intruder.first.said(),
               f"it said: {intruder.last_words()}")
        opened.touch()
        demand_codes(first, [0] * hosts)
        demand_steps(first, 0, told)
        demand_ended(run, told)
        return f"the second: exit {said(codes)}; the first: the same end"

    def at_once(stage):
        told, run = reference(stage), stage.place()
        jobs = [stage.start(run) for _ in range(2)]
        codes = sorted(job.wait()[0] for job in jobs)
        demand(codes == [0, 2], f"they ended with {codes}: {jobs[0].last_words()} | {jobs[1].last_words()}")
        demand_ended(run, told)
        return "one refused, the other: the same end"

    def stale(stage, owner):
        run = stage.place(base(stage))
        (run / ".lock").write_text(f"{owner}\n")
        return resume(stage, run, start=BASE)

    yield Fault(12, "a second process on the run", second)
    yield Fault(12, "a second pair of workers on the run", partial(second, hosts=2), 2)
    yield Fault(12, "two processes at the same time", at_once)
    yield Fault(12, "the lock of a dead process", partial(stale, owner=2**22 + 1))
    yield Fault(12, "the lock of a dead process whose number lives again", partial(stale, owner=os.getpid()))


# ---- 13: a kill during a conversion


def exported(stage):
    def convert(stage, run, target, code=0, done=()):
        job = stage.start(run, "--to", str(target), verb="convert", watched=target, done=done)
        demand_codes(job, [code])
        return [entry["moment"] for entry in job.first.entries("file")]

    def demand_refused_or_whole(stage, target):
        run = stage.place()
        job = stage.start(run, "--from", str(target), "--stop", str(BASE + 1))
        code = job.wait()[0]
        if code == 0:
            demand(job.first.steps() == [BASE], f"it went on with the steps {job.first.steps()}")
            return "whole"
        demand_refused(job, 2, "no whole state|no state could be read|not what index.json says")
        return "refused"

    def killed(stage, moment, earlier=False):
        run, target = stage.place(base(stage, step=BASE - EVERY if earlier else BASE)), stage.place() / "state"
        if earlier:  # of the same run, which has come further since
            convert(stage, run, target)
            demand_codes(stage.start(run, "--stop", str(BASE)), [0])
        convert(stage, run, target, KILLED, [(moment, "kill", {})])
        found = demand_refused_or_whole(stage, target)
        convert(stage, run, target)
        next_run, told = stage.place(), reference(stage)
        job = stage.start(next_run, "--from", str(target))
        demand_codes(job, [0])
        demand_steps(job, BASE, told)
        demand_ended(next_run, told)
        demand_tidy(target)
        return f"{found}; converted again, the same end"

    moments = stage.once("converted", lambda: convert(stage, stage.place(base(stage)), stage.place() / "state"))
    chosen = stage.random("convert").sample(moments, 4)
    for moment in dict.fromkeys([*chosen, *(moment for moment in moments if moment.startswith("os.rename"))]):
        yield Fault(13, f"SIGKILL of a conversion at {moment}", partial(killed, moment=moment))
    last = [moment for moment in moments if moment.startswith("os.rename") and "index.json" in moment][-1]
    yield Fault(13, f"SIGKILL of a conversion over an earlier one at {last}", partial(
        killed, moment=last, earlier=True))


# ---- 14: what was compiled, and the clock


def cache_and_clock(stage):
    def corrupt(stage, how):
        told = reference(stage)
        cache = stage.place()  # XLA's keys hold its path
        demand_codes(stage.start(stage.place(), "--stop", "1", cache=cache), [0])
        chance, count = stage.random("cache", how), 0
        for file in cache.rglob("*"):
            if file.is_file() and file.stat().st_size > 100:
                DAMAGES[how](file, chance)
                count += 1
        demand(count, "nothing was in the cache")
        run = stage.place()
        job = stage.start(run, cache=cache)
        demand_codes(job, [0])
        demand(re.search("persistent compilation cache", job.first.said()), "no warning")
        demand_steps(job, 0, told)
        demand_ended(run, told)
        return f"{count} entries, a warning, the same end"

    def back(stage):
        return survive(stage, [("batch 6", "clock", {"seconds": -3600}), ("saved 16", "kill", {})], KILLED)

    def started_back(stage):
        run, told = stage.place(base(stage)), reference(stage)
        job = stage.start(run, done=[("begin", "clock", {"seconds": -3600})])
        demand_codes(job, [0])
        demand_steps(job, BASE, told)
        demand_ended(run, told)
        return f"from step {BASE} on to the same end"

    def older(stage):
        """The newest checkpoint has the oldest files."""
        run = stage.place(base(stage))
        for age, step in enumerate(reversed(committed(run))):
            for name in [*manifests(run)[step]["files"], f"manifests/step_{step}.json"]:
                os.utime(run / "checkpoints" / name, (1e9 + age, 1e9 + age))
        return resume(stage, run, start=BASE)

    if on_jax(stage.backend):
        for how in ("a bit flipped", "a file cut in half", "a file emptied"):
            yield Fault(14, f"{how}, in everything that was compiled", partial(corrupt, how=how))
    yield Fault(14, "the clock set back an hour, then SIGKILL", back)
    yield Fault(14, "the clock set back an hour before it goes on", started_back)
    yield Fault(14, "the newest checkpoint's files are the oldest", older)
