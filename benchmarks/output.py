"""What every verdict needs besides its figures."""

import platform
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twinscale.common.files.output import Kind, answer, begun, check_files, clear, nothing_left, same, tell
from twinscale.common.files.results import write_result
from twinscale.common.machine.doctor import versions

__all__ = ["CHECKS", "PRINTED", "REPORT", "Delivery", "Kind", "again", "begun", "check_files", "clear", "deliver",
           "made", "nothing_left", "same", "tell"]

REPORT = r"report\.(html|md)"
CHECKS = 100  # of a rung that a verdict keeps, the worst first


def made() -> dict:
    """When, on which host and by which versions a result is made; "commit" is that of the checkout that this code
    lies in, None where it was installed."""
    have = versions()
    return {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "host": platform.node(),
            "platform": platform.platform(), "version": have.get("twinscale", "of its source"), "commit": commit(),
            "versions": have}


def again(*words: str, out: Path) -> list[str]:
    """The command that makes a result once more, beside the first one, as a list of one."""
    return [shlex.join(["twinscale", *words, "--out", f"{str(out).rstrip('/')}-again"])]


class Delivery(NamedTuple):
    """Where the answer of a verb goes that leaves one file, or none, and how it is printed."""

    out: Path | None = None  # the directory of the file
    overwrite: bool = False  # replaces an earlier answer there
    as_json: bool = False
    words: Sequence[str] = ()  # of the command, without --out, to be asked again


PRINTED = Delivery()  # as a table, and left nowhere


def deliver(result: dict[str, Any], file: str, kind: Any, show: Callable[[Any], None], to: Delivery) -> None:
    """Prints a verb's result, with how it was made, and leaves the same as `file` where a directory is named,
    atomically. `check_files` is to be asked before the work. Raises pydantic's ValidationError where it is none of its
    `kind`."""
    whole = {**result, "made": made(), "commands": again(*to.words, out=to.out) if to.out else []}
    if to.out:
        write_result(to.out / file, kind, whole)
    answer(whole, show, to.as_json)


def commit(folder: Path | None = None) -> str | None:
    """The commit of a checkout in twelve digits, and whether files of it were edited; None where there is none."""
    folder = folder or Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return None

    def git(*words):
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20,
                              check=True, stdin=subprocess.DEVNULL).stdout

    with suppress(OSError, subprocess.SubprocessError, UnicodeError):
        changed = git("-c", "core.fsmonitor=false", "status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "--short=12", "HEAD").strip() + " and changes" * bool(changed)
    return None
