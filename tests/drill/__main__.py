"""`python -m tests.drill`: injects the faults, says how each ended, and writes drill.json."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twinscale.common.backends import BACKENDS

USUAL = ("jax", "keras")  # the stores that there are; Keras on JAX has that of JAX


def main():
    words = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    words.add_argument("--out", type=Path, default=Path("build/drill"), help="where runs and drill.json go")
    words.add_argument("--class", dest="classes", type=int, action="append", metavar="N",
                       help="1 to 14; may come again")
    words.add_argument("--backend", choices=(*BACKENDS, "all"),
                       help="one alone, or all side by side; default: jax and keras, side by side")
    words.add_argument("--seed", type=int, default=0, help="of the moments that chance chooses")
    words.add_argument("--only", action="append", metavar="REGEX", help="faults whose names have it; may come again")
    words.add_argument("--hosts", type=int, choices=(1, 2), help="faults of so many processes")
    words.add_argument("--no-controls", action="store_true", help="faults alone")
    words.add_argument("--list", action="store_true", help="say what there is, and leave")
    chosen = words.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and on the way out, nothing is left behind
    sys.exit(one(chosen) if chosen.backend in BACKENDS else several(chosen))


def several(chosen):
    """Each backend's drill in a process of its own, and their figures together."""
    began, parts, backends = time.monotonic(), [], tuple(BACKENDS) if chosen.backend else USUAL
    try:
        for backend in backends:
            parts.append(subprocess.Popen([sys.executable, "-m", "tests.drill", *sys.argv[1:], "--backend", backend]))
            if chosen.list:
                parts[-1].wait()
        codes = [part.wait() for part in parts]
    finally:
        for part in parts:
            part.terminate()
            part.wait()
    if chosen.list:
        return max(codes)
    found = []
    for backend in backends:
        file = chosen.out / backend / "drill.json"
        if file.exists():
            found.append(json.loads(file.read_text()))
    total = {"schema_version": 1, "seed": chosen.seed}
    for name in ("faults", "survived", "lost_steps", "redone_steps", "hangs", "controls", "controls_red"):
        total[name] = sum(part[name] for part in found)
    total |= {"seconds": round(time.monotonic() - began, 1), "rows": [row for part in found for row in part["rows"]]}
    write(chosen.out / "drill.json", total)
    print(summary(", ".join(backends), total))
    return max(codes) if len(found) == len(backends) else 1


def one(chosen):
    """One backend's drill."""
    for name in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS", "TF_CONFIG"):  # a training here has the devices that it asks for
        os.environ.pop(name, None)
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": BACKENDS[chosen.backend].runtime}
    from tests.drill.controls import FOUND
    from tests.drill.faults import classes
    from tests.drill.stage import Stage

    out = chosen.out / chosen.backend
    place = Path(tempfile.mkdtemp()) / "drill" if chosen.list else out
    stage, began = Stage(place, chosen.backend, chosen.seed), time.monotonic()

    def wanted(number, name, hosts):
        return (not chosen.classes or number in chosen.classes) and chosen.hosts in (None, hosts) and (
            not chosen.only or any(re.search(pattern, name) for pattern in chosen.only))

    try:
        known = classes(stage)
        faults = [fault for fault in known if wanted(fault.number, fault.name, fault.hosts)]
        controls = []
        for control in () if chosen.no_controls else FOUND:
            fault = next(fault for fault in known if control.tries(fault))
            if wanted(control.number, f"control {control.name}", fault.hosts):
                controls.append((control, fault))
        if chosen.list:
            for fault in faults:
                print(f"{chosen.backend}  class {fault.number:2}  {fault.hosts} process(es)  {fault.name}")
            for control, fault in controls:
                print(f"{chosen.backend}  control   {control.name}  on class {fault.number}: {fault.name}")
            return 0
        print(f"[{chosen.backend}] seed {chosen.seed}: {len(faults)} faults, {len(controls)} controls; the undisturbed "
              f"runs took {time.monotonic() - began:.0f} s", flush=True)
        rows, count = [], len(faults) + len(controls)
        for fault in faults:
            rows.append(play(stage, fault, f"{len(rows) + 1}/{count}"))
        red = {row["fault"] for row in rows if not row["agrees"]}
        for control, fault in controls:
            rows.append(play(stage, fault, f"{len(rows) + 1}/{count}", control, fault.name in red))
    finally:
        stage.clear()
        if chosen.list:
            shutil.rmtree(place.parent)
    plain = [row for row in rows if not row["control"]]
    total = {
        "schema_version": 1, "seed": chosen.seed, "faults": len(plain), "survived": sum(row["agrees"] for row in plain),
        "lost_steps": stage.lost, "redone_steps": stage.redone, "hangs": sum(row["hang"] for row in plain),
        "controls": len(controls), "controls_red": sum(row["agrees"] for row in rows if row["control"]),
        "seconds": round(time.monotonic() - began, 1), "rows": rows}
    write(out / "drill.json", total)
    print(summary(chosen.backend, total), flush=True)
    return 0 if all(row["agrees"] for row in rows) and not stage.lost else 1


def play(stage, fault, place, control=None, red=False):
    """A row: how a fault ended; with a control, whether the drill went red for the right reason, unless it is `red`
    without the control."""
    from tests.drill.stage import LONGEST, Disagreement, Hang

    began, mark, hang, kept = time.monotonic(), stage.number, False, (stage.lost, stage.redone)
    stage.controls, stage.longest = ((control.name,), control.longest) if control else ((), LONGEST)
    try:
        outcome, agrees = fault.play(stage), True
    except Disagreement as error:
        outcome, agrees, hang = str(error), False, isinstance(error, Hang)
    except Exception as error:  # what is there cannot even be read
        outcome, agrees = f"{type(error).__name__}: {error}", False
    stage.leave(stage.out / "last")
    left = stage.clear()
    stage.controls, stage.longest = (), LONGEST
    if left:
        outcome, agrees = f"{outcome}; processes are left: {left}", False
    name = fault.name
    if control:
        stage.lost, stage.redone = kept
        name = f"control {control.name}: {fault.name}"
        agrees = not agrees and not red and bool(re.search(control.reason, outcome))
        outcome = f"red: {outcome}" if agrees else f"NOT RED AS IT SHOULD BE: {outcome}"
    if agrees:
        stage.forget(mark)
    else:
        (stage.out / "last").rename(stage.out / f"failed {place.split('/')[0]}")
    seconds = round(time.monotonic() - began, 1)
    print(f"[{stage.backend} {place}] class {fault.number}, {'ok' if agrees else 'FAILED'}, {seconds:.1f} s: {name}: "
          f"{outcome[:300]}", flush=True)
    where = "" if agrees else f"{stage.out}/{mark + 1:03}.., and what was said in failed {place.split('/')[0]}"
    return {"class": fault.number, "backend": stage.backend, "hosts": fault.hosts, "fault": name,
            "outcome": outcome[:300], "agrees": agrees, "seconds": seconds, "detail": where, "control": bool(control),
            "hang": hang}


def summary(who, total):
    return (f"{who}: {total['survived']} of {total['faults']} faults survived, {total['lost_steps']} saved steps lost, "
            f"{total['hangs']} hangs, {total['controls_red']} of {total['controls']} controls red, "
            f"{total['seconds'] / 60:.1f} minutes")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
