"""Faults 1 to 5: at every point of a save, where it cannot save, and where what was saved is spoilt."""

import re
import shutil
import signal
import time
from collections import Counter
from functools import partial

from tests.drill.oracle import (
    committed,
    demand_steps,
    manifests,
)
from tests.drill.plays import (
    BASE,
    CANNOT_SAVE,
    DAMAGES,
    HUNG,
    JSON,
    KILLED,
    LINKED,
    LOST,
    Fault,
    base,
    demand_codes,
    demand_ended,
    demand_refused,
    go_on,
    largest,
    reference,
    resume,
    survive,
)
from tests.drill.stage import EVERY, STEPS, demand
from twinscale.common.backends import on_jax

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


def from_before(stage, run, hosts, name):
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


def spoilt_weights(stage):
    def damaged(stage, how, part="", hosts=1, number=0):
        run = stage.place(base(stage, hosts))
        file, name = largest(run, BASE, part)
        DAMAGES[how](file, stage.random(how, part, number))
        if how == LINKED and not on_jax(stage.backend):  # of Orbax's own layout no more is known than its top
            demand_refused(stage.start(run, hosts=hosts), 2, f"{file.name}: a link")
            return f"{file.name}: a link, refused with exit 2"
        outcome = from_before(stage, run, hosts, name)
        return f"{name.rsplit('/')[-1]}: {outcome}"

    small = "_METADATA" if on_jax(stage.backend) else ".index"
    for how in DAMAGES:
        yield Fault(4, f"{how}, of the largest", partial(damaged, how=how))
    for n in range(3):
        yield Fault(4, f"a bit flipped, of the largest ({n + 2})", partial(damaged, how="a bit flipped", number=n + 2))
    yield Fault(4, "a bit flipped, of the description", partial(damaged, how="a bit flipped", part=small))
    for host in range(2) if on_jax(stage.backend) else (0,):
        part = f"ocdbt.process_{host}/d" if on_jax(stage.backend) else ""
        yield Fault(4, f"a bit flipped, of worker {host}'s part", partial(
            damaged, how="a bit flipped", part=part, hosts=2), 2)


def spoilt_manifest(stage):
    def manifest(stage, how):
        run = stage.place(base(stage))
        file = run / "checkpoints" / "manifests" / f"step_{BASE}.json"
        file.write_text(JSON[how](file.read_text()))
        return from_before(stage, run, 1, file.name)

    def unlisted(stage):
        run = stage.place(base(stage))
        (run / "checkpoints" / "manifests" / f"step_{BASE}.json").unlink()
        return resume(stage, run, start=BASE - EVERY)

    for how in JSON:
        yield Fault(4, f"a manifest {how}", partial(manifest, how=how))
    yield Fault(4, "a manifest deleted", unlisted)


def spoilt_run(stage):
    """What lies beside the checkpoints."""
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

    for how in ("torn", "empty"):
        yield Fault(4, f"run.json {how}", partial(refused, name="run.json", how=how))
    yield Fault(4, "a line of metrics.jsonl torn", partial(refused, name="metrics.jsonl", how="torn"))
    yield Fault(4, "the last line of metrics.jsonl cut short", cut_line)


def spoilt(stage):
    yield from spoilt_weights(stage)
    yield from spoilt_manifest(stage)
    yield from spoilt_run(stage)


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
