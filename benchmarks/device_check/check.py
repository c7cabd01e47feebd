"""`twinscale check-device`: takes the steps of a check, on from what is there, and says what came of them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twinscale.benchmarks.comparison_files import HOLDS
from twinscale.benchmarks.device_check.desk import Desk, accelerators, recipes_of, seeing
from twinscale.benchmarks.device_check.result import SCHEMA_VERSION, Checked, Ended, code_of
from twinscale.benchmarks.device_check.steps import BENCH, COMPARED, ENVIRONMENT, Found, Skip, Step, steps_of
from twinscale.benchmarks.device_check.trained import RUNS, forget
from twinscale.benchmarks.device_check.words import sentence, show, told
from twinscale.benchmarks.output import Kind, again, clear, made, nothing_left, same, tell
from twinscale.benchmarks.timing.bench import FILE as BENCH_FILE
from twinscale.benchmarks.timing.bench import gpus
from twinscale.benchmarks.tuning.pool import held
from twinscale.common.errors import (
    DID_IT,
    INCONCLUSIVE,
    MISSING,
    NO,
    BadInput,
    CannotSave,
    MissingEnvironment,
    known,
    show_traceback,
    unexpected,
)
from twinscale.common.files.access import local, plain, read_json
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RUN
from twinscale.common.machine.doctor import doctor

CHECK, STEPS = "check.json", "steps"
KIND = Kind(".device-check", CHECK, {
    r"(check|environment)\.json": None, r"\.lock": None, STEPS: {r"[a-z0-9-]+\.json": None},
    RUNS: {r"[a-z0-9-]+": RUN}, COMPARED: {r"[a-z0-9-]+": HOLDS | {r"\.(comparison|runs)": None}},
    BENCH: {BENCH_FILE.replace(".", r"\."): None}})
CODES = {"holds": DID_IT, "no": NO, "open": INCONCLUSIVE}
assert ENVIRONMENT == "environment.json"  # which KIND names


def check_device(out: Path, *, rehearse: bool = False, benched: str | None = None, overwrite: bool = False,
                 as_json: bool = False) -> int:
    """`checked`, of which it shows the steps or prints check.json; returns the exit code: 0 all that was taken holds, 1
    something does not, 3 something is open, 4 the machine lacks what a step needed."""
    with nothing_left(out):
        found = checked(out, rehearse=rehearse, benched=benched, overwrite=overwrite)
    answer(plain(found), show, as_json)
    return found.exit_code


def checked(out: Path, *, rehearse: bool = False, benched: str | None = None, overwrite: bool = False) -> Checked:
    """Takes all steps of a check into `out`, but for those that held before, and leaves check.json; returns the
    Checked.

    Args:
      rehearse: everything on the CPU, in small.
      benched: the recipe whose speed is measured, in place of decoder-125m.
      overwrite: remove what an earlier check left in `out`.
    Raises: BadInput before anything is trained; MissingEnvironment where no backend can run, or none sees a GPU and it
      is no rehearsal; CannotSave.
    """
    if not local(out):
        raise BadInput(f"--out {out}: a check wants a directory of this machine")
    with seeing(rehearse):
        environment, described = doctor(), recipes_of(rehearse, benched)
        desk = Desk(out.resolve(), rehearse, environment, {use: recipe for use, (recipe, _) in described.items()},
                    {use: words for use, (_, words) in described.items()}, {})
        refuse_nothing(desk)
        prepare(desk, overwrite)
        with held(out, "check-device"):
            began, steps = time.monotonic(), steps_of(desk)
            for number, step in enumerate(steps, 1):
                take(desk, step, f"{number} of {len(steps)}")
            return leave(desk, steps, time.monotonic() - began, benched)


def refuse_nothing(desk: Desk) -> None:
    """Raises MissingEnvironment where no backend could take a step."""
    lacking = {backend: desk.lacks(backend) for backend in accelerators(desk.environment)}
    if all(lacking.values()):
        why = "; ".join(dict.fromkeys(str(reason) for reason in lacking.values()))
        raise MissingEnvironment(why + ("" if desk.rehearsed else "; --rehearse takes the same steps on the CPU"))


def prepare(desk: Desk, overwrite: bool) -> None:
    """A directory that is new, or holds a check of the same machine, packages and recipes, which goes on. Raises
    BadInput where it holds anything else."""
    identity = {"verb": "check-device", "rehearsed": desk.rehearsed, "commit": made()["commit"],
                "versions": desk.environment["versions"], "devices": {  # what fails says it in other words each time
                    name: answered.get("devices") for name, answered in desk.environment["devices"].items()},
                "recipes": {use: [*words, desk.recipes[use].hash] for use, words in desk.words.items()}}
    if not overwrite and same(desk.out, KIND, plain(identity)):
        return
    if not overwrite and (desk.out / KIND.marker).exists():
        raise BadInput(f"--out {desk.out}: holds a check of other devices, versions, options or recipes; choose "
                       "another directory or pass --overwrite")
    clear(desk.out, KIND, plain(identity), overwrite)


def take(desk: Desk, step: Step, where: str) -> None:
    """Takes a step, unless it held before; one that ended otherwise is taken anew, with all of its runs."""
    file = desk.out / STEPS / f"{step.name}.json"
    if file.exists():
        before = read_json(file, Ended, "remove it, and the step is taken again")
        if before.state == "holds":
            tell("check", f"{where}: {step.title}: held before")
            desk.ended[step.name] = before
            return
        file.unlink()
        forget(desk.out, step.name)
    tell("check", f"{where}: {step.title}")
    began = time.monotonic()
    state, code, found = ended(desk, step)
    desk.ended[step.name] = write_result(file, Ended, {
        "name": step.name, "title": step.title, "backends": list(step.backends), "state": state, "exit_code": code,
        "said": found.said, "files": list(found.files), "figures": found.figures,
        "seconds": time.monotonic() - began})
    tell("check", f"{where}: {told(desk.ended[step.name])}")


def ended(desk: Desk, step: Step) -> tuple[str, int, Found]:
    """(state, exit code, what was found) of a step. An error is its end and not that of the others, but for a disk's.
    Raises CannotSave."""
    reasons = [f"{backend}: {reason}" for backend in step.backends if (reason := desk.lacks(backend))]
    if reasons:
        return "skipped", DID_IT, Found("skipped", "; ".join(reasons))
    try:
        found = step.take(desk)
        return found.state, CODES[found.state], found
    except Skip as reason:
        return "skipped", DID_IT, Found("skipped", str(reason))
    except Exception as error:
        said = known(error)
        if isinstance(said, CannotSave):
            raise
        show_traceback(error)
        code = MISSING if isinstance(said, MissingEnvironment) else NO
        return "failed", code, Found("failed", str(said) if said else unexpected(error))


def leave(desk: Desk, steps: Sequence[Step], seconds: float, benched: str | None) -> Checked:
    """Writes check.json of all steps."""
    rows = [desk.ended[step.name] for step in steps]
    words = ["check-device", *(["--rehearse"] if desk.rehearsed else []), *(["--bench", benched] if benched else [])]
    counts = {state: count for state in ("holds", "no", "open", "skipped", "failed")
              if (count := sum(row.state == state for row in rows))}
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "sentence": sentence(rows), "rehearsed": desk.rehearsed,
        "environment": desk.environment, "gpus": gpus(),
        "recipes": {use: {"name": recipe.name, "hash": recipe.hash} for use, recipe in desk.recipes.items()},
        "counts": counts, "steps": rows, "seconds": seconds, "made": made(), "commands": again(*words, out=desk.out)}
    agrees = {DID_IT: True, NO: False}.get(code_of(rows))
    return write_result(desk.out / CHECK, Checked, content | {"agrees": agrees})
