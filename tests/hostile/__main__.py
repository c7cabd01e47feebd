"""`python -m tests.hostile`: runs the cases, prints a table by reader and each failure, and writes hostile.json."""

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

from tests.hostile.pristine import pristine
from tests.hostile.stage import TERMS, imported, play, remove

COLUMNS = ("ok", "traceback", "hang", "executed", "silent", "touched", "otherwise")


def main():
    words = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    words.add_argument("--out", type=Path, default=Path("build/hostile"), help="where inputs and hostile.json go")
    words.add_argument("--only", action="append", metavar="REGEX", help="of KIND: NAME; may come again")
    words.add_argument("--rooms", default="none,jax,keras,process", help="processes that have imported these")
    words.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="cases side by side")
    words.add_argument("--keep", action="store_true", help="take inputs that other sources have made")
    words.add_argument("--list", action="store_true", help="say what there is, and leave")
    chosen = words.parse_args()
    began, out = time.monotonic(), chosen.out.absolute()
    from tests.hostile.cases import cases

    ready = pristine(out, chosen.keep) if not chosen.list else None
    found = [case for case in cases() if case.room in chosen.rooms.split(",") and (not chosen.only or any(
        re.search(pattern, f"{case.kind}: {case.name}") for pattern in chosen.only))]
    if chosen.list:
        for case in found:
            print(f"{case.room:8}{'odd     ' if case.benign else 'hostile '}{case.kind}: {case.name}")
        return 0
    rows = []
    remove(out / "cases")
    for room in dict.fromkeys(case.room for case in found):
        rows += in_room(room, [case for case in found if case.room == room], ready, out, chosen.jobs)
    total = summed(rows, time.monotonic() - began)
    (out / "hostile.json").write_text(json.dumps(total, indent=1) + "\n")
    show(total)
    return 0 if not total["failed"] else 1


def in_room(room, cases, ready, out, jobs):
    """The rows of a room's cases, run from a fork that has imported it."""
    print(f"{len(cases)} cases {'from scratch' if room == 'process' else f'with {room} imported'}", flush=True)
    answer = out / f"rows-{room}.json"
    answer.unlink(missing_ok=True)
    process = os.fork()
    if not process:
        try:
            imported(room)
            answer.write_text(json.dumps(play(cases, ready, out / "cases", jobs, said)))
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    if os.waitpid(process, 0)[1]:
        raise SystemExit(f"the cases of {room} could not be run; what was said is above")
    return json.loads(answer.read_text())


def said(row):
    if row["result"] != "ok":
        print(f"  {row['result']}: {row['kind']}: {row['case']}: {row['detail']}", flush=True)


def summed(rows, seconds):
    """What hostile.json holds."""
    kinds = {}
    for row in rows:
        of = kinds.setdefault(row["kind"], {"hostile": Counter(), "odd": Counter()})
        of["odd" if row["benign"] else "hostile"][row["result"]] += 1
    tables = {kind: {side: {"cases": sum(counts.values()), **{term: counts[term] for term in TERMS}}
                     for side, counts in of.items()} for kind, of in kinds.items()}
    return {"schema_version": 1, "hostile": sum(not row["benign"] for row in rows),
            "odd": sum(row["benign"] for row in rows), "failed": sum(row["result"] != "ok" for row in rows),
            "seconds": round(seconds, 1), "cpu_seconds": round(sum(row["cpu_seconds"] for row in rows), 1),
            "slowest": max((row["seconds"] for row in rows), default=0.0), "kinds": tables, "rows": rows}


def show(total):
    """A table of kinds, then how to run each failure again by itself."""
    heads = ("", "cases", "as expected", *COLUMNS[1:], "odd", "taken")
    lines = [heads]
    for kind, of in total["kinds"].items():
        hostile, odd = of["hostile"], of["odd"]
        lines.append((kind, hostile["cases"], *(hostile[term] for term in COLUMNS), odd["cases"], odd["ok"]))
    lines.append(("all", *(sum(line[i] for line in lines[1:]) for i in range(1, len(heads)))))
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(heads))]
    for line in lines:
        print("  ".join([str(line[0]).ljust(widths[0]), *(str(x).rjust(w) for x, w in zip(line[1:], widths[1:],
                                                                                       strict=True))]))
    for row in total["rows"]:
        if row["result"] != "ok":
            print(f"\n{row['result']}: {row['kind']}: {row['case']}: {row['detail']}\n  in {row['place']}/here: "
                  f"{shlex.join(row['command'])[:400]}\n  it said: {row['said']}\n  again: python -m tests.hostile "
                  f"--only {shlex.quote(re.escape(row['kind'] + ': ' + row['case']) + '$')}")
    print(f"\n{total['hostile']} hostile and {total['odd']} odd inputs, {total['failed']} not as expected; the slowest "
          f"took {total['slowest']:.1f} s; {total['cpu_seconds']:.0f} s of CPU, {total['seconds'] / 60:.1f} minutes")


if __name__ == "__main__":
    sys.exit(main())
