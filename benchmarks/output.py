"""What every verdict needs besides its figures."""

import platform
import shlex
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from twinscale.common.files.output import Kind, begun, check_files, clear, nothing_left, same, tell
from twinscale.common.machine.doctor import versions

__all__ = ["CHECKS", "REPORT", "Kind", "again", "begun", "check_files", "clear", "made", "nothing_left", "same", "tell"]

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
