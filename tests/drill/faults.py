"""The fourteen classes of faults: what is done to a training, how it must end, and that the same command then ends
where an undisturbed training does."""

import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
from tests.drill.stage import EPOCH, EVERY, STEPS, demand

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


def classes(stage):
    """All faults, by class; those of the first two from what an undisturbed training does to its files."""
    made = (at_every_point, at_retention, no_saving, spoilt, all_spoilt, asked_to_stop, worker_killed, worker_stuck,
            workers_differ, resumed, not_finite, two_writers, exported, cache_and_clock)
    return [fault for make in made for fault in make(stage)]


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


# ---- 1, 2: at every point of a save


RETENTION = re.compile(r"(os.remove|os.rmdir) checkpoints/(step[-_]N(?!\.orbax|_temp)|manifests/step_N\.json)")


def points(stage):
    """{what Python does to a file, in words: how often} in an undisturbed training."""
    return Counter(moment.rpartition(" ")[0] for moment in reference(stage).moments)


def killed_at(stage, what):
    count = points(stage)[what]
    # Files named by their content may be fewer another time.
    last = count if "HASH" not in what else max(1, count // 2)
    moment = f"{what} {stage.random(what).randint(1, last)}"
    return survive(stage, [(moment, "kill", {})], KILLED)


def killed_after(stage, number, hosts=1):
    """From outside, at a random time after a save began: also within what C++ writes."""
    chance = stage.random("after", number, hosts)
    step, pause = chance.randrange(EVERY, STEPS, EVERY), chance.uniform(0, 0.12)
    job = stage.start(stage.place(), hosts=hosts)
    job.first.until("save", step=step)
    time.sleep(pause)
    for process in job.hosts:
        process.send(signal.SIGKILL)
    demand_codes(job, [KILLED] * hosts)
    return f"{1e3 * pause:.0f} ms after save {step}: " + go_on(stage, job)


def at_every_point(stage):
    yield from [Fault(1, f"SIGKILL at {what}", partial(killed_at, what=what)) for what in points(stage)
                if not RETENTION.match(what)]
    yield from [Fault(1, f"SIGKILL at a random moment of a save ({n})", partial(killed_after, number=n))
                for n in range(1, 7)]
    yield from [Fault(1, f"SIGKILL of all workers at a random moment of a save ({n})",
                      partial(killed_after, number=n, hosts=2), 2) for n in range(1, 3)]


def at_retention(stage):
    def killed(stage, moment):
        def check(job):
            demand(committed(job.run), "no whole checkpoint remains")

        return survive(stage, [(moment, "kill", {})], KILLED, check=check)

    def uncommitted(stage, hosts=1):
        def check(job):
            demand(BASE not in manifests(job.run), "a checkpoint without its sidecar is listed")

        return survive(stage, {0: [(f"commit {BASE}", "kill", {})]}, [KILLED, (HUNG, LOST)] if hosts > 1 else KILLED,
                       hosts=hosts, check=check)

    yield Fault(2, "SIGKILL between the weights and their manifest", uncommitted)
    yield Fault(2, "SIGKILL of worker 0 between the weights and their manifest", partial(uncommitted, hosts=2), 2)
    for what, count in points(stage).items():
        if RETENTION.match(what):
            number = stage.random(what).randint(1, count)
            yield Fault(2, f"SIGKILL at {what}", partial(killed, moment=f"{what} {number}"))


# ---- 3: it cannot save


FAILING = re.compile(r"(open|os.mkdir|os.rename|os.fsync) checkpoints/")


def no_saving(stage):
    def failed(stage, moment, action, values, step, within=2, words="could not be saved"):
        """An error by the next step, the checkpoint before intact, and exit code 74."""

        def check(job):
            what = [entry["what"] for entry in job.first.entries("done", "batch")]
            after = what[what.index("done"):].count("batch")
            demand(after <= within, f"{after} steps were trained after the error")
            left = committed(job.run)
            demand(left and max(left) < step, f"whole are the checkpoints of steps {left} when saving {step} failed")
            demand(re.search(words, job.first.said()), f"it said: {job.first.last_words()}")

        return survive(stage, [(moment, action, values)], CANNOT_SAVE, check=check)

    def anywhere(stage, what, code):
        number = stage.random(what, code).randint(2, points(stage)[what])
        return survive(stage, [(f"{what} {number}", "fail", {"code": code})], CANNOT_SAVE)

    for code, step in (("ENOSPC", BASE), ("EROFS", STEPS)):
        yield Fault(3, f"{code} as save {step} begins", partial(
            failed, moment=f"begun {step}", action="fail", values={"code": code}, step=step))
    for code, step in (("EIO", BASE), ("ENOSPC", STEPS)):
        yield Fault(3, f"{code} in the background of save {step}", partial(
            failed, moment=f"wait {step}", action="fail", values={"code": code}, step=step))
    for size, step in ((0, BASE), (300, BASE), (3000, STEPS)):
        yield Fault(3, f"the disk takes {size} bytes a file from save {step} on", partial(
            failed, moment=f"save {step}", action="limit", values={"size": size}, step=step, within=EVERY,
            words="could not be saved|File too large"))
    for what in points(stage):
        if FAILING.match(what) and not what.startswith(("os.fsync checkpoints/step", "os.mkdir checkpoints/manifests")):
            code = stage.random("code", what).choice(("ENOSPC", "EIO", "EROFS"))
            yield Fault(3, f"{code} at {what}", partial(anywhere, what=what, code=code))
    for what in ("open metrics.jsonl", "open .run.json.N.tmp", "open trace/.final.safetensors.N.tmp"):
        if points(stage)[what] > 1:
            yield Fault(3, f"ENOSPC at {what}", partial(anywhere, what=what, code="ENOSPC"))


# ---- 4, 5: what was saved is spoilt


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


DAMAGES = {"a bit flipped": flip, "a file cut in half": lambda f, _: os.truncate(f, f.stat().st_size // 2),
           "a file emptied": lambda f, _: os.truncate(f, 0), "a file zeroed": lambda f, _: f.write_bytes(
               bytes(f.stat().st_size)), "a file deleted": lambda f, _: f.unlink(), "a file linked away": link}
JSON = {"torn": lambda text: text[:len(text) // 2], "empty": lambda _: "", "of another kind": lambda _: "[]\n"}


def demand_refused(job, code, *words):
    """It ended with the code, having said the words, without a step."""
    demand_codes(job, [code] * len(job.hosts))
    for word in words:
        demand(re.search(word, job.first.said()), f"it did not say {word}: {job.last_words()}")
    trained = [process.steps() for process in job.hosts if process.steps()]
    demand(not trained, f"it trained the steps {trained}")


def spoilt(stage):
    def damaged(stage, how, part="", hosts=1, number=0):
        run = stage.place(base(stage, hosts))
        file, name = largest(run, BASE, part)
        DAMAGES[how](file, stage.random(how, part, number))
        outcome = before(stage, run, hosts, name)
        return f"{name.rsplit('/')[-1]}: {outcome}"

    def before(stage, run, hosts, name):
        """The file is named, the checkpoint before is taken, and of the spoilt one nothing is read."""
        told = reference(stage, hosts=hosts)
        job = stage.start(run, hosts=hosts)
        demand_codes(job, [0] * hosts)
        demand(any(name in process.said() for process in job.hosts), f"{name} is not named: {job.last_words()}")
        for process in job.hosts:
            read = [entry["step"] for entry in process.entries("read")]
            demand(read == [BASE - EVERY], f"read were the checkpoints of steps {read}")
        demand_steps(job, BASE - EVERY, told)
        demand_ended(run, told)
        return f"named; from step {BASE - EVERY} on to the same end"

    def manifest(stage, how):
        run = stage.place(base(stage))
        file = run / "checkpoints" / "manifests" / f"step_{BASE}.json"
        file.write_text(JSON[how](file.read_text()))
        return before(stage, run, 1, file.name)

    def unlisted(stage):
        run = stage.place(base(stage))
        (run / "checkpoints" / "manifests" / f"step_{BASE}.json").unlink()
        return resume(stage, run, start=BASE - EVERY)

    def refused(stage, name, how):
        """Not to be gone on from: it is said which file, nothing is touched, and once it is mended all is well."""
        run = stage.place(base(stage))
        file = run / name
        text = file.read_text()
        file.write_text(JSON[how](text) if name == "run.json" else text[:40] + "\n" + text[40:])
        demand_refused(stage.start(run), 2, re.escape(name))
        file.write_text(text)
        return f"refused, exit 2; mended, {resume(stage, run, start=BASE)}"

    def cut_line(stage):
        run = stage.place(base(stage))
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"step": 16, "tra')
        return resume(stage, run, start=BASE)

    small = {"jax": "_METADATA", "keras": ".index"}[stage.backend]
    for how in DAMAGES:
        yield Fault(4, f"{how}, of the largest", partial(damaged, how=how))
    for n in range(3):
        yield Fault(4, f"a bit flipped, of the largest ({n + 2})", partial(damaged, how="a bit flipped", number=n + 2))
    yield Fault(4, "a bit flipped, of the description", partial(damaged, how="a bit flipped", part=small))
    for host in range(2) if stage.backend == "jax" else (0,):
        part = f"ocdbt.process_{host}/d" if stage.backend == "jax" else ""
        yield Fault(4, f"a bit flipped, of worker {host}'s part", partial(
            damaged, how="a bit flipped", part=part, hosts=2), 2)
    for how in JSON:
        yield Fault(4, f"a manifest {how}", partial(manifest, how=how))
    yield Fault(4, "a manifest deleted", unlisted)
    for how in ("torn", "empty"):
        yield Fault(4, f"run.json {how}", partial(refused, name="run.json", how=how))
    yield Fault(4, "a line of metrics.jsonl torn", partial(refused, name="metrics.jsonl", how="torn"))
    yield Fault(4, "the last line of metrics.jsonl cut short", cut_line)


def all_spoilt(stage):
    def none_whole(stage, how, hosts=1):
        """A typed error and no step; and nothing was made worse: mended, it goes on."""
        run = stage.place(base(stage, hosts))
        shutil.copytree(run / "checkpoints", run.parent / "whole")
        if how in JSON:
            for file in (run / "checkpoints" / "manifests").iterdir():
                file.write_text(JSON[how](file.read_text()))
        else:
            for step in committed(run):
                DAMAGES[how](largest(run, step)[0], stage.random(how, step))
        demand_refused(stage.start(run, hosts=hosts), 1, "none is whole")
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(run.parent / "whole", run / "checkpoints")
        return f"exit 1; mended, {resume(stage, run, start=BASE, hosts=hosts)}"

    def no_manifests(stage):
        run = stage.place(base(stage))
        shutil.rmtree(run / "checkpoints" / "manifests")
        demand_refused(stage.start(run), 1, "none is whole")
        demand_codes(stage.start(run, "--overwrite"), [0])
        demand_ended(run, reference(stage))
        return "exit 1; with --overwrite, the same end"

    for how in ("a bit flipped", "a file deleted", "empty"):
        yield Fault(5, f"{how}, in every checkpoint", partial(none_whole, how=how))
    yield Fault(5, "a bit flipped, in every checkpoint of two workers", partial(
        none_whole, how="a bit flipped", hosts=2), 2)
    yield Fault(5, "every manifest deleted", no_manifests)


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
    def converted(stage, step=BASE):
        def make():
            target = stage.place() / "state"
            job = stage.start(stage.place(base(stage, step=step)), "--to", str(target), verb="convert", watched=target)
            demand_codes(job, [0])
            return target, [entry["moment"] for entry in job.first.entries("file")]

        return stage.once(("converted", step), make)

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
        run, target = stage.place(base(stage)), stage.place() / "state"
        if earlier:
            target.parent.mkdir()
            shutil.copytree(converted(stage, BASE - EVERY)[0], target)
        job = stage.start(run, "--to", str(target), verb="convert", watched=target,
                          done=[(moment, "kill", {})])
        demand_codes(job, [KILLED])
        found = demand_refused_or_whole(stage, target)
        demand_codes(stage.start(run, "--to", str(target), verb="convert", watched=target), [0])
        next_run, told = stage.place(), reference(stage)
        job = stage.start(next_run, "--from", str(target))
        demand_codes(job, [0])
        demand_steps(job, BASE, told)
        demand_ended(next_run, told)
        demand_tidy(target)
        return f"{found}; converted again, the same end"

    moments = converted(stage)[1]
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

    if stage.backend == "jax":
        for how in ("a bit flipped", "a file cut in half", "a file emptied"):
            yield Fault(14, f"{how}, in everything that was compiled", partial(corrupt, how=how))
    yield Fault(14, "the clock set back an hour, then SIGKILL", back)
    yield Fault(14, "the clock set back an hour before it goes on", started_back)
    yield Fault(14, "the newest checkpoint's files are the oldest", older)


