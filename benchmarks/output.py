"""What every verdict needs besides its figures: an output directory that is ours, and a word on the way."""

import shutil
import sys
import time

from common.errors import BadInput

CHECKS = 100  # of a rung that a verdict keeps, the worst first


def clear(out, marker, finished, overwrite):
    """Empties a directory that holds `marker`, the sign that this project filled it.

    Raises BadInput where it holds anything else, and without `overwrite` where it holds anything at all.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: a file, but a directory is wanted")
    holds = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    if holds and marker not in holds:
        raise BadInput(f"--out {out}: not empty and not ours; choose another directory")
    if holds and not overwrite:
        state = "a finished" if finished in holds else "an unfinished"
        raise BadInput(f"--out {out}: holds {state} result; choose another directory or pass --overwrite")
    for name in holds - {marker}:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()


def tell(who, what):
    """Who is doing what, on stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {who}  {what}", file=sys.stderr, flush=True)
