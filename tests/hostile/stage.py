"""Lays a case out, runs its command in a process of its own, and holds what came of it to what must be true of all.

A case's process is forked from one that has imported what its verb needs, so that hundreds run in minutes: what is
imported is no part of the case. Backends are started in the fork alone. Where a case is about how Python starts (what
lies in the working directory), or starts children that matter, it is a process from scratch.
"""

import hashlib
import io
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 10.0  # seconds that a case may take of a machine that has nothing else to do
FARTHEST = 300.0  # seconds of the clock, whatever the machine does besides
LINE = 4500  # characters of a message, in which a path of 4,096 may be shown whole
TERMS = ("ok", "traceback", "hang", "executed", "silent", "touched", "otherwise")
MARK = "CANARY"  # the file that only code out of an input can have made
BESIDE = {"mine/letter.txt": b"a user's letter\n", "mine/deep/data.bin": bytes(range(256)), "mine/.hidden": b"x"}


@dataclass(frozen=True)
class Case:
    """An input, a command, and what is to come of it.

    `make(here, chance)` changes what `needs` has laid into the directory `here`; `words` are the command's. It has to
    end with one of `codes`, with `says` (a regular expression) on stderr, and where it ends with 0, `check(here, out)`
    says what is wrong with the answer, or nothing. `writes` are the names in `here` that it may change.
    """

    kind: str
    name: str
    words: tuple
    make: Callable = None
    needs: tuple = ()
    codes: tuple = (2,)
    says: str = ""
    check: Callable = None
    room: str = "none"  # what its process has imported: "none", "jax", "keras", or "process": nothing
    benign: bool = False
    writes: tuple = ("out",)
    environment: tuple = ()  # pairs; HERE stands for the directory
    longest: float = LONGEST


@dataclass
class Running:
    """A case's process, and what is known of it."""

    case: Case
    place: Path
    before: dict
    process: int
    began: float
    waited: float = 0.0  # seconds that it was ready and others ran
    hung: bool = False


def play(cases, pristine, out, at_once, say=lambda row: None):
    """Runs cases, so many side by side; the rows of the report, in their order.

    Args:
      cases: of one room, which this process has imported.
      pristine: the directory of inputs in order.
      out: where each case's directory is laid out; those of cases that went as they should are removed.
    """
    rows, running, waiting = {}, [], list(enumerate(cases))
    while waiting or running:
        while waiting and len(running) < at_once:
            number, case = waiting.pop(0)
            running.append((number, begin(case, pristine, out / f"{case.room}-{number:04}")))
        time.sleep(0.01)
        for number, one in list(running):
            usage = watched(one)
            if usage is None:
                continue
            running.remove((number, one))
            rows[number] = row = judged(one, *usage)
            if row["result"] == "ok":
                remove(one.place)
            say(row)
    return [rows[number] for number in sorted(rows)]


# ---- one case

def begin(case, pristine, place):
    """Lays a case out and starts it."""
    remove(place)
    here = place / "here"
    here.mkdir(parents=True)
    (place / "home").mkdir()
    for name in case.needs:
        copy(pristine / name, here / name)
    for name, content in BESIDE.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content)
    if case.make:
        case.make(here, random.Random(f"{case.kind} {case.name}"))
    before = snapshot(here, case.writes)
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if not process:
        be(case, place, here, pristine)
    return Running(case, place, before, process, time.monotonic())


def be(case, place, here, pristine):
    """The life of a case's process; never returns."""
    code = 1
    try:
        os.setsid()
        for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, place / "stdout", os.O_WRONLY | os.O_CREAT),
                                    (2, place / "stderr", os.O_WRONLY | os.O_CREAT)):
            opened = os.open(name, flags, 0o644)
            os.dup2(opened, number)
            os.close(opened)
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL if name == signal.SIGTERM else signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 31, 1 << 31))
        resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))  # a bomb ends the case and not the machine
        os.environ.update({
            "HOME": str(place / "home"), "XDG_CONFIG_HOME": str(place / "home"), "PYTHONPATH": str(ROOT),
            "TWINSCALE_CACHE": str(pristine / "cache"), "MPLCONFIGDIR": str(pristine / "cache"),
            "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "cpu",
            "TFDS_DATA_DIR": str(here / "tfds"), "PYTHONDONTWRITEBYTECODE": "1",
            **{name: value.replace("HERE", str(here)) for name, value in case.environment}})
        os.chdir(here)
        words = [word.replace("HERE", str(here)) for word in case.words]
        if case.room == "process":
            os.execv(sys.executable, [sys.executable, "-P", "-m", "twinscale.common.cli", *words])
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(  # as Python opens it
            os.fdopen(2, "wb", closefd=False), encoding="utf-8", errors="backslashreplace", line_buffering=True)
        sys.argv = ["twinscale", *words]
        code = ended(lambda: command(words))
        ended(finish)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def command(words):
    """A verb of the command line, or one of this package's own, which calls what several verbs read with."""
    from tests.hostile import verbs
    from twinscale.common import cli, process

    process.quieten_failures(None)  # as a command's own process does
    return verbs.main(words) if words[0] in verbs.VERBS else cli.main(words)


def ended(function):
    """The exit code that Python would give what the function does."""
    try:
        return function() or 0
    except SystemExit as error:
        if isinstance(error.code, int) or error.code is None:
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1


def finish():
    """What Python does at its end: threads are waited for, exit handlers called."""
    import atexit
    import threading

    threading._shutdown()
    atexit._run_exitfuncs()


def watched(one):
    """(exit code, CPU seconds, seconds but for those in which others ran) once a process has ended, else None; one
    that takes too long is ended."""
    one.waited = max(one.waited, waited(one.process))
    clock = time.monotonic() - one.began
    process, status, usage = os.wait4(one.process, os.WNOHANG)
    if process:
        with suppress(ProcessLookupError):
            os.killpg(one.process, signal.SIGKILL)  # what it left behind
        return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, clock - one.waited
    if not one.hung and (clock - one.waited > one.case.longest * patience(one.case) or clock > FARTHEST):
        one.hung = True
        os.killpg(one.process, signal.SIGKILL)
    return None


def patience(case):
    """A training imports a framework and compiles in its own processes: that is no hanging."""
    return 6 if case.room == "process" else 3 if case.room != "none" else 1


def waited(process):
    """Seconds that a process was ready to run while others did."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


# ---- what must be true

def judged(one, code, cpu, seconds):
    """The row of a case: its result is the first of TERMS that it fails, or "ok"."""
    case, here = one.case, one.place / "here"
    out, err = ((one.place / name).read_bytes().decode(errors="surrogateescape") for name in ("stdout", "stderr"))
    touched = differences(one.before, snapshot(here, case.writes))
    found = {
        # What nobody expected is no refusal either, though the command line puts it into a line.
        "traceback": last_words(err) if re.search("Traceback .most recent call last|internal error", out + err) else "",
        "hang": f"{seconds:.0f} s" if one.hung else "",
        "executed": "code of the input ran" if (here / MARK).exists() else "",
        "silent": "", "touched": ", ".join(touched[:3]), "otherwise": ""}
    if code not in case.codes:
        found["silent" if code == 0 else "otherwise"] = f"exit code {code}, not {' or '.join(map(str, case.codes))}"
    elif not re.search(case.says, err):
        found["silent" if code == 0 else "otherwise"] = f"does not say {case.says!r}"
    elif code == 0 and case.check:
        found["silent"] = case.check(here, out) or ""
    if not found["otherwise"]:
        found["otherwise"] = unlike_a_message(case, code, out, err)
    result = next((term for term in TERMS[1:] if found[term]), "ok")
    return {"kind": case.kind, "case": case.name, "benign": case.benign, "result": result,
            "detail": "" if result == "ok" else found[result][:300], "code": code, "cpu_seconds": round(cpu, 2),
            "seconds": round(seconds, 2), "command": ["twinscale", *case.words], "room": case.room,
            "said": shortened(message(err)), "place": str(one.place)}


def unlike_a_message(case, code, out, err):
    """What is wrong with how it was said, or nothing."""
    for text in (out, err):
        raw = [c for c in text if c not in "\n\t\r" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]
        if raw:
            return f"a raw {raw[0]!a} goes to the terminal"
    if code and not message(err) and not (code == 1 and out.strip()):  # 1 with an answer: it is no
        return "no line that begins with `twinscale:`"
    if any(len(line) > LINE for line in err.splitlines() if line.startswith("twinscale:")):
        return f"a line of more than {LINE} characters"
    return ""


def message(err):
    """The line that says what is wrong."""
    lines = [line for line in err.splitlines() if line.startswith("twinscale: ")]
    return next((line for line in reversed(lines) if not line.startswith("twinscale: next:")), "")


def last_words(err):
    lines = [line for line in err.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def shortened(text):
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:300])


# ---- files

def snapshot(here, writes):
    """{path: what is there} below a directory but for the names that may be written."""
    found = {}
    for folder, folders, files in os.walk(here):
        if Path(folder) == here:
            folders[:] = [name for name in folders if name not in writes]
            files = [name for name in files if name not in (*writes, MARK)]
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found[os.path.relpath(path, here)] = "link to " + os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, here)] = hashlib.file_digest(file, "sha1").hexdigest()
            else:
                found[os.path.relpath(path, here)] = "directory" if os.path.isdir(path) else "special"
    return found


def differences(before, after):
    """The paths that are not what they were, each with what became of it."""
    return [f"{path} {'is gone' if path not in after else 'is new' if path not in before else 'is changed'}"
            for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]


def copy(source, target):
    """A file or directory as it is, links and all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def remove(path):
    """A case's directory, whatever was laid there."""
    if path.exists():
        for folder, folders, _ in os.walk(path):
            for name in folders:
                inner = os.path.join(folder, name)
                if not os.path.islink(inner):
                    os.chmod(inner, 0o755)
        shutil.rmtree(path)


def imported(room):
    """Imports what the cases of a room need, so that each of them need not."""
    import importlib

    ours = {"none": ("benchmarks.planning.plan", "benchmarks.runs", "benchmarks.compare", "benchmarks.preflight",
                     "benchmarks.compression.compare", "common.launch.plan", "common.export.predict",
                     "common.training.canonical"),
            "jax": ("jaxscale.room", "jaxscale.export", "jaxscale.predict", "common.export.predict",
                    "common.training.canonical"),
            "keras": ("tfscale.room", "tfscale.export", "tfscale.predict", "common.export.predict",
                      "common.training.canonical"),
            "process": ()}[room]
    names = {"none": ("tokenizers", "PIL.Image", "PIL.PngImagePlugin", "sklearn.datasets", "tensorboardX"),
             "jax": ("tensorboardX", "tokenizers", "PIL.PngImagePlugin", "sklearn.datasets"),
             "keras": ("tensorboardX", "tokenizers", "sklearn.datasets"), "process": ()}[room]
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    for name in ("common.cli", "common.recipe.file", "common.data", *ours):
        importlib.import_module(f"twinscale.{name}")
    for name in ("tests.hostile.verbs", *names):
        importlib.import_module(name)
